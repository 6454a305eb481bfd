"""The context budget: what fitting a request costs, and how often a prompt is over the limit; beside LangChain's trim.

The data are made up and always the same: conversations in English, Japanese and both, with names, order numbers and
prices, a system prompt and retrieved passages of the sizes that were measured in the field. All take their first turn,
then all their second: 100 conversations of 30 turns are 3000 requests, each with the history before it.
The small model's tokenizer and template are the real ones.

Times are processor time of the thread, and of each request the best of three rounds, so that what else runs on the
machine is hardly in them; the wall clock's 99th percentile stands beside. What is measured of ours, per request:

- remembered: `fit` where every message was counted before: what a request costs in a conversation that goes on. Its
  texts are new objects each time, as they are when they come out of a request's body,
- cold beyond tokenisation: `fit` with an empty memory, less the time inside the calls that count tokens. Those are
  timed one by one, so what is taken off is what they took in that very request,
- counting: the time inside these calls, cold,
- whole path: `Fitter.fit`, remembered, token ids included.

LangChain's `trim_messages` (strategy "last", system message included, to start on a human message) gets the same
requests as message objects made beforehand. Its `token_counter` is the tokens of the texts, which is how it is mostly
used, with and without remembering them, or the exact length of the whole prompt. It gets every n-th request only
(--every), because the exact counter takes its time.

A result is over the limit where transformers itself, rendering and tokenising the whole prompt, counts more than the
limit less the reply's reserve.

Run by `make bench ARGS="budget [--get-langchain] [--json]"`. LangChain is no requirement of this project: with
--get-langchain it is installed into .cache/langchain, which only this benchmark reads.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pratique.inference.artifacts.store import default_model_root, import_small_model
from pratique.inference.context.budget import Fitted, Turn, Wanted, fit
from pratique.inference.context.conversation import parse_conversation
from pratique.inference.context.counts import CostCache, Costs
from pratique.inference.context.fitter import Fitter
from pratique.inference.engines.interface import ChatMessage, Engine
from pratique.inference.engines.tokenizer import TokenizerOnly, load_tokenizer
from pratique.inference.settings import BudgetSettings

__all__ = ["main"]

_LANGCHAIN = "langchain-core==1.8.3"
_FOLDER = Path(__file__).resolve().parents[1] / ".cache" / "langchain"
_LIMIT = 4096
_MAX_TOKENS = 512
_ROUNDS = 3
_POLICY = BudgetSettings()
_Seconds = tuple[float, float]
"""Of the processor, and by the wall clock."""
_TARGETS_US = {"remembered": 100.0, "cold beyond tokenisation": 1000.0}

_ENGLISH = (
    "my order {order} was sent to {name} last week",
    "the invoice over {price} does not name the {product}",
    "could you look up when {product} will be in stock again",
    "{name} asked for the same thing under {order}",
    "the parcel is still at the depot in {city}",
    "please send it to {city} instead",
    "we talked about this before, and nothing was done about it",
    "that is what the page says, but the mail says something else",
    "thank you, this helps, and there is one thing more",
)
_JAPANESE = (
    "注文番号{order}の{product}はいつ届きますか",
    "{name}さん宛ての荷物が{city}で止まっています",
    "請求書の金額が{price}になっていますが合っていますか",
    "在庫が戻ったら知らせてください",
    "前にもお話ししましたが、まだ解決していません",
    "ありがとうございます、もう一つお聞きしたいことがあります",
    "配送先を{city}に変更したいのですが",
)
_NAMES = ("Alice Smith", "Ken Watanabe", "田中", "佐藤", "Maria Lopez")
_PRODUCTS = ("iPhone 15", "ワンピース 第3巻", "ThinkPad X1", "電気ポット", "desk lamp")
_CITIES = ("Osaka", "Hamburg", "京都", "札幌", "Leeds")


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """One made-up conversation: 2 messages a turn."""

    system_prompt: str
    passages: tuple[str, ...]
    messages: tuple[ChatMessage, ...]

    def request(self, turn: int) -> Wanted:
        """What the budget is asked at a turn, from 0."""
        return Wanted(
            tail=(self.messages[2 * turn],),
            system_prompt=self.system_prompt,
            passages=self.passages,
            history=tuple(map(Turn, self.messages[: 2 * turn])),
            max_tokens=_MAX_TOKENS,
        )


def conversations(number: int, num_turns: int, count: Callable[[str], int]) -> list[Conversation]:
    """Return the data: sizes about those of the field (system 480, context 280, query 45, a turn 250 tokens)."""
    return [_conversation(random.Random(seed), num_turns, count) for seed in range(number)]  # noqa: S311 - made-up data


def _conversation(dice: random.Random, num_turns: int, count: Callable[[str], int]) -> Conversation:
    pools = dice.choice([_ENGLISH, _JAPANESE, (*_ENGLISH, *_JAPANESE)])

    def text(tokens: int) -> str:
        sentences: list[str] = []
        used = 0
        while used < tokens:
            sentences.append(_sentence(dice, pools))
            used += count(sentences[-1])
        return " ".join(sentences)

    messages: list[ChatMessage] = []
    for _ in range(num_turns):
        messages.append(ChatMessage("user", text(dice.choice([10, 25, 45, 80]))))
        messages.append(ChatMessage("assistant", text(dice.choice([60, 150, 200, 300]))))
    return Conversation(system_prompt=text(460), passages=(text(120), text(120)), messages=tuple(messages))


def _sentence(dice: random.Random, pool: Sequence[str]) -> str:
    return dice.choice(pool).format(
        order=f"ORD-{dice.randrange(10_000, 99_999)}",
        name=dice.choice(_NAMES),
        product=dice.choice(_PRODUCTS),
        city=dice.choice(_CITIES),
        price=f"${dice.randrange(10, 900)}.50",
    ) + dice.choice([".", "。", "?"])


class Stopwatch:
    """Adds up the time inside the calls that count tokens."""

    def __init__(self) -> None:
        self.cpu = self.wall = 0.0

    def timed(self, call: Callable[[Any], int]) -> Callable[[Any], int]:
        """Return the same call, timed."""

        def run(argument: object) -> int:
            cpu, wall = time.thread_time(), time.perf_counter()
            try:
                return call(argument)
            finally:
                self.cpu += time.thread_time() - cpu
                self.wall += time.perf_counter() - wall

        return run


@dataclass(frozen=True, kw_only=True)
class Row:
    """One way to fit: seconds a request, and how many prompts were over the limit."""

    name: str
    seconds: list[_Seconds]
    num_over: int | None = None

    def fields(self) -> dict[str, Any]:
        """Return the figures, in microseconds."""
        cpu, wall = (
            statistics.quantiles([clock * 1e6 for clock in clocks], n=100) for clocks in zip(*self.seconds, strict=True)
        )
        return {
            "name": self.name,
            "requests": len(self.seconds),
            "p50_us": round(cpu[49], 1),
            "p99_us": round(cpu[98], 1),
            "wall_p99_us": round(wall[98], 1),
            "over_limit": self.num_over,
            "target_p99_us": _TARGETS_US.get(self.name),
        }


def ours(
    model: TokenizerOnly, requests: Sequence[Wanted], length: Callable[[Sequence[ChatMessage]], int]
) -> Iterator[Row]:
    """Measure the budget of this project."""
    engine = cast("Engine", model)
    yield from _cold(model, requests)
    costs = Costs.of(engine, CostCache(model.costs.message, model.count))
    for wanted in requests:
        _fit(wanted, costs)
    seconds, fitted = _all(requests, lambda wanted: _fit(wanted, costs), prepare=_copied)
    yield Row(name="remembered", seconds=seconds, num_over=_num_over(length(one.messages) for one in fitted))
    fitter = Fitter(engine, _POLICY)
    seconds, whole = _all(requests, lambda wanted: fitter.fit(wanted, limit=_LIMIT), prepare=_copied)
    yield Row(name="whole path, with ids", seconds=seconds, num_over=_num_over(len(ids) for _, ids in whole))


def _cold(model: TokenizerOnly, requests: Sequence[Wanted]) -> Iterator[Row]:
    """Fit each with an empty memory, and part the time into that of counting and the rest."""
    counting: list[_Seconds] = []
    beyond: list[_Seconds] = []
    for wanted in requests:
        rounds = [_cold_once(model, wanted) for _ in range(_ROUNDS)]
        counting.append(_best(counted for counted, _ in rounds))
        beyond.append(_best(rest for _, rest in rounds))
    yield Row(name="cold beyond tokenisation", seconds=beyond)
    yield Row(name="counting, cold", seconds=counting)


def _cold_once(model: TokenizerOnly, wanted: Wanted) -> tuple[_Seconds, _Seconds]:
    watch = Stopwatch()
    costs = Costs.of(cast("Engine", model), CostCache(watch.timed(model.costs.message), watch.timed(model.count)))
    (cpu, wall), _ = _once(lambda asked: _fit(asked, costs), _copied(wanted))
    return (watch.cpu, watch.wall), (cpu - watch.cpu, wall - watch.wall)


def _fit(wanted: Wanted, costs: Costs) -> Fitted:
    return fit(wanted, limit=_LIMIT, costs=costs, policy=_POLICY)


def langchain(
    model: TokenizerOnly, requests: Sequence[Wanted], length: Callable[[Sequence[ChatMessage]], int]
) -> Iterator[Row]:
    """Measure trim_messages; nothing where it is not installed."""
    from langchain_core.messages import (  # type: ignore[import-not-found]  # not a requirement: see --get-langchain
        AIMessage,
        HumanMessage,
        SystemMessage,
        trim_messages,
    )

    kinds = {"system": SystemMessage, "user": HumanMessage, "assistant": AIMessage}
    roles = {kind: role for role, kind in kinds.items()}
    chats = [[kinds[message.role](message.content) for message in _whole(wanted)] for wanted in requests]

    def back(messages: Sequence[Any]) -> list[ChatMessage]:
        return [ChatMessage(cast("Any", roles[type(message)]), message.content) for message in messages]

    known = CostCache(model.costs.message, model.count)
    for wanted in requests:
        for message in _whole(wanted):
            known.text(message.content)
    counters: dict[str, Callable[[Sequence[Any]], int]] = {
        "texts": lambda messages: sum(model.count(message.content) for message in messages),
        "texts, remembered": lambda messages: sum(known.text(message.content) for message in messages),
        "whole prompt": lambda messages: length(back(messages)),
    }
    for name, counter in counters.items():

        def trim(chat: Sequence[Any], counter: Callable[[Sequence[Any]], int] = counter) -> Any:  # noqa: ANN401 - untyped
            return trim_messages(
                chat,
                max_tokens=_LIMIT - _MAX_TOKENS,
                strategy="last",
                include_system=True,
                start_on="human",
                token_counter=counter,
            )

        seconds, trimmed = _all(chats, trim)
        over = _num_over(length(back(messages)) for messages in trimmed)
        yield Row(name=f"trim_messages, {name}", seconds=seconds, num_over=over)


def _whole(wanted: Wanted) -> list[ChatMessage]:
    system = f"{wanted.system_prompt}\n\nContext:\n" + "\n".join(wanted.passages)
    return [ChatMessage("system", system), *(turn.message for turn in wanted.history), *wanted.tail]


def _once(call: Callable[[Any], Any], item: object) -> tuple[_Seconds, Any]:
    cpu, wall = time.thread_time(), time.perf_counter()
    result = call(item)
    return (time.thread_time() - cpu, time.perf_counter() - wall), result


def _all(
    items: Sequence[Any], call: Callable[[Any], Any], *, prepare: Callable[[Any], Any] = lambda item: item
) -> tuple[list[_Seconds], list[Any]]:
    """Time every call, its best of some rounds, without pauses of the garbage collector for what came before."""
    rounds = []
    for _ in range(_ROUNDS):
        gc.collect()
        gc.disable()
        try:
            rounds.append([_once(call, prepare(item)) for item in items])
        finally:
            gc.enable()
    best = [_best(seconds for seconds, _ in of_one) for of_one in zip(*rounds, strict=True)]
    return best, [result for _, result in rounds[-1]]


def _best(seconds: Iterable[_Seconds]) -> _Seconds:
    cpu, wall = zip(*seconds, strict=True)
    return min(cpu), min(wall)


def _copied(wanted: Wanted) -> Wanted:
    """Return the same request as it comes out of a body of JSON."""
    messages = [*(turn.message for turn in wanted.history), *wanted.tail]
    body = {
        "system": wanted.system_prompt,
        "context": wanted.passages,
        "messages": [{"role": message.role, "content": message.content} for message in messages],
    }
    return parse_conversation(json.dumps(body).encode()).wanted(max_tokens=wanted.max_tokens)


def _num_over(lengths: Iterator[int]) -> int:
    return sum(length > _LIMIT - _MAX_TOKENS for length in lengths)


def _reference(folder: Path) -> Callable[[Sequence[ChatMessage]], int]:
    """Return what transformers says of a whole prompt's length, by none of our code."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)

    def length(messages: Sequence[ChatMessage]) -> int:
        chat = [{"role": message.role, "content": message.content} for message in messages]
        text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    return length


def _find_langchain(*, get: bool) -> bool:
    if get and not _FOLDER.exists():
        command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--target", str(_FOLDER), _LANGCHAIN]
        subprocess.run(command, check=True, timeout=600)
    if _FOLDER.exists():
        sys.path.append(str(_FOLDER))
    return importlib.util.find_spec("langchain_core") is not None


def main() -> None:
    """Print the figures; with --json as one object."""
    parser = argparse.ArgumentParser(prog="benchmarks budget")
    parser.add_argument("--conversations", type=int, default=100)
    parser.add_argument("--turns", type=int, default=30)
    parser.add_argument("--every", type=int, default=10, help="trim_messages gets every n-th request")
    parser.add_argument("--model-root", type=Path, default=default_model_root(os.environ))
    parser.add_argument("--get-langchain", action="store_true", help=f"install {_LANGCHAIN} into .cache/langchain")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    folder = import_small_model(arguments.model_root, lambda _phase, _share: None)
    model, length = load_tokenizer(folder), _reference(folder)
    chats = conversations(arguments.conversations, arguments.turns, model.count)
    requests = [chat.request(turn) for turn in range(arguments.turns) for chat in chats]
    rows = list(ours(model, requests, length))
    has_langchain = _find_langchain(get=arguments.get_langchain)
    if has_langchain:
        rows += langchain(model, requests[:: arguments.every], length)
    fields = [row.fields() for row in rows]
    if arguments.json:
        known = {"cores": os.cpu_count(), "load": os.getloadavg()[0], "limit": _LIMIT, "max_tokens": _MAX_TOKENS}
        print(json.dumps({"schema_version": 1, **known, "has_langchain": has_langchain, "rows": fields}))
        return
    print(f"{len(requests)} requests, limit {_LIMIT}; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(
        f"{'µs a request':34} {'requests':>8} {'p50':>9} {'p99':>9} {'target':>7} {'wall p99':>10} {'over limit':>10}"
    )
    for row in fields:
        target, over = row["target_p99_us"] or "", "" if row["over_limit"] is None else row["over_limit"]
        figures = f"{row['p50_us']:9} {row['p99_us']:9} {target:>7} {row['wall_p99_us']:10}"
        print(f"{row['name']:34} {row['requests']:8} {figures} {over:>10}")
    if not has_langchain:
        print("\ntrim_messages is not compared: langchain-core is not installed. --get-langchain gets it.")


if __name__ == "__main__":
    main()
