"""Fit a conversation into the model's context, by exact token counts of the real chat template. Pure.

Strict priority: system prompt, reserved output and query always; then passages of retrieved context, whole, the least
relevant (last) dropped first; then the most recent history, whole turns, newest first. What must be there and does not
fit is an error with the numbers, never a silent cut; what was dropped is counted in the result.

Whether something fits is always asked of the whole prompt. Estimates (remembered counts of each text) only say where to
ask first, so that a long history costs two counts of a prompt and not one for every turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, TypeAlias

from pratique.inference.engines.interface import ChatMessage
from pratique.inference.errors import ContextLengthExceededError

__all__ = ["CountPrompt", "CountText", "Fitted", "Wanted", "fit"]

CountPrompt: TypeAlias = Callable[[Sequence[ChatMessage]], int]
"""Exact tokens of a whole prompt of these messages, template and opened reply included."""
CountText: TypeAlias = Callable[[str], int]
"""Tokens of a text alone: near what it adds to a prompt."""
_TURN_TOKENS: Final = 5
"""What a template usually puts around a turn; only estimates use it."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Everything that should be in the prompt."""

    query: str
    system_prompt: str = ""
    passages: tuple[str, ...] = ()
    """Retrieved context, most relevant first."""
    history: tuple[ChatMessage, ...] = ()
    """Earlier turns, oldest first."""
    max_tokens: int


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What is in the prompt, and what was left out."""

    messages: tuple[ChatMessage, ...]
    prompt_tokens: int
    turns_dropped: int
    passages_dropped: int

    @property
    def was_truncated(self) -> bool:
        return self.turns_dropped > 0 or self.passages_dropped > 0


def fit(wanted: Wanted, *, limit: int, count: CountPrompt, estimate: CountText) -> Fitted:
    """Choose what goes into a prompt of at most `limit - max_tokens` tokens.

    Raises:
        ContextLengthExceededError: system prompt, query and reserved output alone are more than `limit`.
    """
    room = limit - wanted.max_tokens
    needed = count(_messages(wanted, num_passages=0, history=()))
    if needed > room:
        raise _too_long(wanted, needed, limit, estimate)
    num_passages = _most(
        (estimate(passage) + 1 for passage in wanted.passages),
        room - needed,
        len(wanted.passages),
        lambda n: count(_messages(wanted, num_passages=n, history=())) <= room,
    )
    head = count(_messages(wanted, num_passages=num_passages, history=()))
    num_turns = _most(
        (estimate(turn.content) + _TURN_TOKENS for turn in reversed(wanted.history)),
        room - head,
        len(wanted.history),
        lambda n: count(_messages(wanted, num_passages=num_passages, history=_newest(wanted, n))) <= room,
    )
    kept = _without_leading_reply(_newest(wanted, num_turns), was_cut=num_turns < len(wanted.history))
    messages = _messages(wanted, num_passages=num_passages, history=kept)
    return Fitted(
        messages=messages,
        prompt_tokens=count(messages),
        turns_dropped=len(wanted.history) - len(kept),
        passages_dropped=len(wanted.passages) - num_passages,
    )


def _most(costs: Iterable[int], room: int, available: int, fits: Callable[[int], bool]) -> int:
    """Return the largest n ≤ available that fits: more never takes fewer tokens, and 0 fits.

    Asks at the estimated place and beside it; where the estimate is wrong it bisects the side that is left.
    """
    guess = sum(1 for total in accumulate(costs) if total <= room)
    low, high = 0, available + 1
    for probe in (guess, guess + 1):
        if low < probe < high:
            low, high = (probe, high) if fits(probe) else (low, probe)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _too_long(wanted: Wanted, needed: int, limit: int, estimate: CountText) -> ContextLengthExceededError:
    parts = {"system prompt": wanted.system_prompt, "query": wanted.query}
    sizes = ", ".join(f"{name} about {estimate(text)}" for name, text in parts.items() if text)
    return ContextLengthExceededError(
        f"What must be in the prompt takes {needed} tokens ({sizes}) and {wanted.max_tokens} are reserved for the "
        f"reply: {needed + wanted.max_tokens} of at most {limit}.",
        hint="Shorten the message, or ask for fewer tokens with max_tokens.",
    )


def _newest(wanted: Wanted, num_turns: int) -> tuple[ChatMessage, ...]:
    return wanted.history[len(wanted.history) - num_turns :]


def _without_leading_reply(history: tuple[ChatMessage, ...], *, was_cut: bool) -> tuple[ChatMessage, ...]:
    # A reply whose question was dropped would look like one to the system prompt.
    return history[1:] if was_cut and history and history[0].role == "assistant" else history


def _messages(wanted: Wanted, *, num_passages: int, history: tuple[ChatMessage, ...]) -> tuple[ChatMessage, ...]:
    system = "\n\n".join(part for part in (wanted.system_prompt, _context(wanted.passages[:num_passages])) if part)
    head = (ChatMessage("system", system),) if system else ()
    return (*head, *history, ChatMessage("user", wanted.query))


def _context(passages: tuple[str, ...]) -> str:
    return "Context:\n" + "\n".join(passages) if passages else ""
