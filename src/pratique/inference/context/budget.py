"""Fit a conversation into the model's context, by exact token counts of the real chat template. Pure.

Strict priority: system prompt, reserved output and query always; then passages of retrieved context, whole, the least
relevant (last) dropped first; then the most recent history, whole turns, newest first. What must be there and does not
fit is an error with the numbers, never a silent cut; what was dropped is counted in the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from pratique.inference.engines.interface import ChatMessage
from pratique.inference.errors import ContextLengthExceededError

__all__ = ["CountPrompt", "Fitted", "Wanted", "fit"]

CountPrompt: TypeAlias = Callable[[Sequence[ChatMessage]], int]
"""Exact tokens of a whole prompt of these messages, template and opened reply included."""


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


def fit(wanted: Wanted, *, limit: int, count: CountPrompt) -> Fitted:
    """Choose what goes into a prompt of at most `limit - max_tokens` tokens.

    Raises:
        ContextLengthExceededError: system prompt, query and reserved output alone are more than `limit`.
    """
    room = limit - wanted.max_tokens
    needed = count(_messages(wanted, num_passages=0, history=()))
    if needed > room:
        raise ContextLengthExceededError(
            f"System prompt and query take {needed} tokens and {wanted.max_tokens} are reserved for the reply: "
            f"{needed + wanted.max_tokens} of at most {limit}.",
            hint="Shorten the message, or ask for fewer tokens with max_tokens.",
        )
    num_passages = _most(len(wanted.passages), lambda n: count(_messages(wanted, num_passages=n, history=())) <= room)
    num_turns = _most(
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


def _most(available: int, fits: Callable[[int], bool]) -> int:
    """Return the largest n ≤ available that fits, by bisection: more never takes fewer tokens, and 0 fits."""
    if fits(available):
        return available
    low, high = 0, available
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


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
