"""What of a conversation is kept or dropped as a whole. Pure.

A unit is an exchange: a user message and all that answers it, so that a tool call is never parted from its results and
a reply never from its question. A system message between two exchanges is a unit too. What stands before the first user
message is one that has no question: it is kept only where everything after it is, or where it was pinned.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

from pratique.inference.context.parts import Turn

__all__ = ["Units", "units_of"]


class Units(NamedTuple):
    """The units of a history, in columns: making an object of each would take longer than choosing among them."""

    bounds: list[int]
    """At which message each begins, and where the last ends: one more than there are units."""
    sizes: list[int]
    """Messages."""
    tokens: list[int]
    pins: list[bool]
    """Pinned by the caller, or for a system message in it."""
    exchanges: list[bool]
    """Whether it begins with a user message."""


def units_of(history: Sequence[Turn], tokens: Sequence[int]) -> Units:
    """Part a history into its units; `tokens` are those of each message."""
    roles = [turn.message.role for turn in history]
    pins = [turn.is_pinned for turn in history]
    begins = [place for place, role in enumerate(roles) if role == "user" or place == 0]
    if "system" in roles:
        pins = [role == "system" or is_pinned for role, is_pinned in zip(roles, pins, strict=True)]
        begins = sorted({*begins, *_between(history)})
    bounds = [*begins, len(history)]
    spent = list(accumulate(tokens, initial=0))
    return Units(
        bounds=bounds,
        sizes=_steps(bounds),
        tokens=_steps([spent[bound] for bound in bounds]),
        pins=[True in pins[first:end] for first, end in pairwise(bounds)] if True in pins else [False] * len(begins),
        exchanges=[roles[first] == "user" for first in begins],
    )


def _steps(values: Sequence[int]) -> list[int]:
    return [right - left for left, right in pairwise(values)]


def _between(history: Sequence[Turn]) -> Iterator[int]:
    """Yield the places of system messages between exchanges; one while an answer is due belongs to that exchange."""
    is_open = False
    for place, turn in enumerate(history):
        role = turn.message.role
        if role != "system":
            is_open = role != "assistant" or turn.message.extra != ""
        elif not is_open:
            yield place
