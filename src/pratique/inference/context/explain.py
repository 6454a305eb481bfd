"""Where every token of a prompt went: one request, through the very budget that serves, told part by part. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import msgspec

from pratique.inference.context.budget import RESERVE_DIVISOR
from pratique.inference.context.entities import entities_of
from pratique.inference.context.fitter import Fitter
from pratique.inference.context.parts import Fitted, Wanted
from pratique.inference.errors import ContextLengthExceededError
from pratique.inference.settings import BudgetSettings

__all__ = ["Asked", "Explanation", "PassageLine", "TurnLine", "Verdict", "explain"]

Verdict: TypeAlias = Literal["whole", "truncated", "refused"]

_NO_LIMIT: Final = 1 << 40
_BEGINNING: Final = 60


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request as the budget gets it."""

    wanted: Wanted
    prefix: str = ""
    tools: str = ""


class TurnLine(msgspec.Struct, frozen=True, kw_only=True):
    """One message of the history."""

    number: int
    """From 1, the oldest."""
    role: str
    tokens: int
    kept: Literal["pinned", "recent", "dropped"]
    is_pinned: bool
    """Because the request says so."""
    entities: tuple[str, ...]
    beginning: str


class PassageLine(msgspec.Struct, frozen=True, kw_only=True):
    """One passage of retrieved context."""

    number: int
    """From 1, the most relevant."""
    is_kept: bool
    beginning: str


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a request."""

    verdict: Verdict
    limit: int
    """Tokens of prompt and reply together."""
    needed_tokens: int
    """The smallest limit that leaves nothing out."""
    advice: tuple[str, ...]
    """What would have to change for everything to fit."""
    reason: str = ""
    """Why it was refused."""
    prompt_tokens: int = 0
    total_tokens: int = 0
    sizes: dict[str, int] = {}
    """Tokens by part; together they are the total."""
    turns: tuple[TurnLine, ...] = ()
    passages: tuple[PassageLine, ...] = ()
    markers: tuple[str, ...] = ()
    entity_block: str = ""
    recalled: str = ""
    is_marked: bool = True
    notice: str | None = None
    messages: tuple[dict[str, str], ...] = ()
    """The prompt, before the chat template."""


def explain(asked: Asked, fitter: Fitter, *, limit: int, policy: BudgetSettings) -> Explanation:
    """Fit a request and say what became of each part of it. One that cannot be fitted is explained, too.

    `policy` is the fitter's own.
    """
    whole, _ = fitter.fit(asked.wanted, limit=_NO_LIMIT, prefix=asked.prefix, tools=asked.tools)
    needed = _needed(whole, policy) if asked.wanted.history else whole.total_tokens
    try:
        fitted, _ = fitter.fit(asked.wanted, limit=limit, prefix=asked.prefix, tools=asked.tools)
    except ContextLengthExceededError as error:
        return Explanation(
            verdict="refused",
            limit=limit,
            needed_tokens=needed,
            reason=error.message,
            advice=(*([error.hint] if error.hint else []), *_advice(asked.wanted, whole, needed, limit)),
            turns=_turns(asked.wanted, whole, is_refused=True),
            sizes=msgspec.to_builtins(whole.sizes),
            total_tokens=whole.total_tokens,
            prompt_tokens=whole.prompt_tokens,
        )
    return Explanation(
        verdict="truncated" if fitted.was_truncated else "whole",
        limit=limit,
        needed_tokens=needed,
        advice=_advice(asked.wanted, whole, needed, limit) if fitted.was_truncated else (),
        prompt_tokens=fitted.prompt_tokens,
        total_tokens=fitted.total_tokens,
        sizes=msgspec.to_builtins(fitted.sizes),
        turns=_turns(asked.wanted, fitted, is_refused=False),
        passages=_passages(asked.wanted, fitted),
        markers=_markers(asked.wanted, fitted),
        entity_block=fitted.entity_block,
        recalled=fitted.recalled,
        is_marked=fitted.is_marked,
        notice=fitted.notice,
        messages=tuple({"role": message.role, "content": message.content} for message in fitted.messages),
    )


def _needed(whole: Fitted, policy: BudgetSettings) -> int:
    """Return the smallest limit under which nothing is left out: the history may not use what is kept for passages."""
    needed, last = whole.total_tokens, 0
    while needed != last:
        last = needed
        reserve = min(policy.context_reserve_tokens, needed // RESERVE_DIVISOR)
        needed = whole.total_tokens + max(reserve - whole.sizes.context, 0)
    return needed


def _advice(wanted: Wanted, whole: Fitted, needed: int, limit: int) -> tuple[str, ...]:
    over, kept_free = needed - limit, needed - whole.total_tokens
    reserve = f" and {kept_free} that are kept for passages" if kept_free else ""
    advice = [f"A limit of {needed} would take everything: {whole.total_tokens}{reserve}. It is {limit}."]
    if wanted.max_tokens > over:
        advice.append(f"So would max_tokens {wanted.max_tokens - over} in place of {wanted.max_tokens}.")
    for name, tokens in (("history", sum(whole.turn_tokens)), ("retrieved context", whole.sizes.context)):
        if tokens > over:
            advice.append(f"So would {over} tokens less in the {name}, which has {tokens}.")
    return tuple(advice)


def _turns(wanted: Wanted, fitted: Fitted, *, is_refused: bool) -> tuple[TurnLine, ...]:
    return tuple(
        TurnLine(
            number=number,
            role=turn.message.role,
            tokens=tokens,
            kept="dropped" if is_refused else placement.value,
            is_pinned=turn.is_pinned,
            entities=entities_of(turn.message.content),
            beginning=_beginning(turn.message.content),
        )
        for number, (turn, tokens, placement) in enumerate(
            zip(wanted.history, fitted.turn_tokens, fitted.placements, strict=True), start=1
        )
    )


def _passages(wanted: Wanted, fitted: Fitted) -> tuple[PassageLine, ...]:
    num_kept = len(wanted.passages) - fitted.passages_dropped
    return tuple(
        PassageLine(number=number, is_kept=number <= num_kept, beginning=_beginning(passage))
        for number, passage in enumerate(wanted.passages, start=1)
    )


def _markers(wanted: Wanted, fitted: Fitted) -> tuple[str, ...]:
    """Return what the budget wrote into the prompt: messages of its own, and what it put before a user's."""
    given = {message.content for message in (*(turn.message for turn in wanted.history), *wanted.tail)}
    begin = 1 if wanted.system_prompt or len(wanted.passages) > fitted.passages_dropped else 0
    return tuple(
        _without_end(message.content, given) for message in fitted.messages[begin:] if message.content not in given
    )


def _without_end(text: str, given: Iterable[str]) -> str:
    longest = max((end for end in given if end and text.endswith(end)), key=len, default="")
    return text[: len(text) - len(longest)].strip()


def _beginning(text: str) -> str:
    line = " ".join(text[: 4 * _BEGINNING].split())
    return line if len(line) <= _BEGINNING else line[: _BEGINNING - 1] + "…"
