"""The context budget of an engine: its costs remembered, its prompts checked, dropped turns brought back."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest

from pratique.inference._memory import Memory
from pratique.inference.context.budget import Fitted, Turn, Wanted
from pratique.inference.context.counts import CostCache
from pratique.inference.context.fitter import Fitter
from pratique.inference.engines.interface import ChatMessage
from pratique.inference.settings import BudgetSettings

pytestmark = pytest.mark.unit


class Costs:
    is_exact = True
    allows_system_inside = True

    def message(self, message: ChatMessage) -> int:
        return 4 + len(message.content)

    def frame(self, *, has_system: bool, prefix: str = "") -> int:
        return 3 + len(prefix)


class Engine:
    """One token per character, 4 around a message."""

    max_model_len = 400
    hidden = 0
    """Tokens that the costs do not know of."""

    def __init__(self) -> None:
        self.costs = Costs()
        self.num_encoded = 0

    def count(self, text: str) -> int:
        return len(text)

    def encode(self, messages: Sequence[ChatMessage], *, prefix: str = "", tools: str = "") -> list[int]:
        self.num_encoded += 1
        tokens = sum(map(self.costs.message, messages)) + self.costs.frame(has_system=False, prefix=prefix)
        return [0] * (tokens + len(tools) + self.hidden)


class Recalling:
    def __init__(self, text: str) -> None:
        self.text = text
        self.asked: list[tuple[tuple[ChatMessage, ...], str]] = []

    def text_for(self, dropped: tuple[ChatMessage, ...], query: str) -> str:
        self.asked.append((dropped, query))
        return self.text


def wanted(num_exchanges: int = 10, **changes: Any) -> Wanted:
    history = tuple(
        turn
        for number in range(num_exchanges)
        for turn in (Turn(ChatMessage("user", f"question {number}")), Turn(ChatMessage("assistant", "answer " * 4)))
    )
    return Wanted(**{"tail": (ChatMessage("user", "now?"),), "history": history, "max_tokens": 20, **changes})


def fit(engine: Any, policy: BudgetSettings | None = None, **rest: Any) -> tuple[Fitted, list[int]]:
    recall = rest.pop("recall", None)
    return Fitter(engine, policy or BudgetSettings(), recall=recall).fit(rest.pop("wanted", wanted()), **rest)


def test_the_ids_are_those_of_what_was_fitted() -> None:
    engine = Engine()
    fitted, ids = fit(engine, limit=400, prefix="So")
    assert len(ids) == fitted.prompt_tokens
    assert fitted.turns_dropped > 0
    assert engine.num_encoded == 1


def test_costs_that_are_wrong_are_found_out_and_the_whole_is_counted() -> None:
    engine = Engine()
    engine.hidden = 50
    fitted, ids = fit(engine, limit=400)
    assert len(ids) == fitted.prompt_tokens <= 380
    assert fitted.sizes.template == 3 + 50


def test_tools_and_what_the_ids_do_not_hold_are_counted() -> None:
    plain, _ = fit(Engine(), limit=400)
    fitted, ids = fit(Engine(), limit=400, tools="t" * 60, extra_tokens=40)
    assert len(ids) + 40 == fitted.prompt_tokens <= 380
    assert fitted.turns_dropped > plain.turns_dropped
    assert fitted.sizes.template == plain.sizes.template + 100


def test_the_size_is_of_everything() -> None:
    fitter = Fitter(Engine(), BudgetSettings())  # type: ignore[arg-type]  # the part of an engine that is used
    everything, _ = fitter.fit(wanted(), limit=10_000)
    assert everything.turns_dropped == 0
    assert fitter.size(wanted()) == everything.total_tokens
    assert fitter.size(wanted(), extra_tokens=7) == everything.total_tokens + 7


def test_dropped_turns_are_recalled_once_and_stand_in_the_marker() -> None:
    recall = Recalling("They asked ten things.")
    fitted, ids = fit(Engine(), limit=400, recall=recall)
    [(dropped, query)] = recall.asked
    assert query == "now?"
    assert dropped
    assert set(dropped) <= {turn.message for turn in wanted().history}
    assert fitted.recalled == "They asked ten things."
    assert sum(fitted.recalled in message.content for message in fitted.messages) == 1
    assert len(ids) == fitted.prompt_tokens <= 380


def test_nothing_is_recalled_where_nothing_was_dropped_or_there_is_nothing() -> None:
    recall = Recalling("x")
    fit(Engine(), limit=10_000, recall=recall)
    assert recall.asked == []
    for text in ("", "  \n"):
        fitted, _ = fit(Engine(), limit=400, recall=Recalling(text))
        assert fitted == fit(Engine(), limit=400)[0]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("abcdefghij", "abcdefgh"),
        ("abcdef gh i", "abcdef g"),
        ("abcdefg  hij", "abcdefg"),
        ("abcdefge\u0301", "abcdefg"),
        ("abcde👩\u200d👩\u200d👧", "abcde"),
        ("abcdefg👍🏽", "abcdefg"),
        ("👍🏽" * 9, "👍🏽" * 4),
        ("日本語の本を三冊買った", "日本語の本を三冊"),
    ],
)
def test_what_is_recalled_is_bounded_and_no_character_is_cut(text: str, kept: str) -> None:
    policy = BudgetSettings(recall_tokens=8, context_reserve_tokens=0)
    fitted, _ = fit(Engine(), policy, limit=400, recall=Recalling(text))
    assert fitted.recalled == kept


def test_a_tail_without_a_question_recalls_for_none() -> None:
    recall = Recalling("x")
    fit(Engine(), limit=400, recall=recall, wanted=wanted(tail=(ChatMessage("tool", "42"),)))
    assert recall.asked[0][1] == ""


def test_a_message_is_counted_once_whatever_its_neighbours() -> None:
    counted: list[str] = []

    def count(message: ChatMessage) -> int:
        counted.append(message.role + message.content + message.extra)
        return 5

    cache = CostCache(count, len)
    messages = [ChatMessage("user", "a"), ChatMessage("assistant", "a"), ChatMessage("user", "a", "{}")]
    for _ in range(3):
        assert [known.tokens for known in cache.look(messages)] == [5, 5, 5]
        assert cache.message(messages[0]) == 5
        assert cache.text("ab") == 2
    assert counted == ["usera", "assistanta", "usera{}"]


def test_entities_are_looked_for_when_they_are_asked_for() -> None:
    [known] = CostCache(lambda message: 1, len).look([ChatMessage("user", "AB-1, AB-2, AB-3, AB-4")])
    assert known.find_few() == ("AB-1", "AB-2", "AB-3")  # no more than it takes to be rich
    assert known.few == known.find_few()
    assert known.entities == ("AB-1", "AB-2", "AB-3", "AB-4")
    assert known.entities is known.entities


def test_a_memory_is_bounded_and_forgets_what_nobody_asks_for() -> None:
    memory: Memory[int, str] = Memory(max_size=8 * 300)
    for number in range(1000):
        memory.put(number, "x", size=44)
        memory.put(0, "kept", size=44)  # asked for again and again
    assert memory.get(0) == "kept"
    assert memory.get(1) is None
    assert len(memory._young) + len(memory._old) <= 8
    memory.put(-1, "too large", size=10_000)
    assert memory.get(-1) is None
    memory.put(999, "another", size=1)
    assert memory.get(999) == "x"  # the first answer stands


def test_a_cache_of_the_old_generation_is_not_counted_again() -> None:
    counted: list[str] = []

    def count(text: str) -> int:
        counted.append(text)
        return len(text)

    cache = CostCache(lambda message: count(message.content), count, max_bytes=2 * 1200)
    for text in ("a", "b", "c", "a", "b"):
        cache.text(text)
        cache.message(ChatMessage("user", text))
    assert len(counted) < 10


def test_many_threads_fit_the_same_at_once() -> None:
    engine = Engine()
    fitter = Fitter(engine, BudgetSettings())  # type: ignore[arg-type]  # the part of an engine that is used
    results: list[Fitted] = []
    threads = [
        threading.Thread(target=lambda: results.extend(fitter.fit(wanted(), limit=400)[0] for _ in range(10)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(results) == 80
    assert all(result == results[0] for result in results)
