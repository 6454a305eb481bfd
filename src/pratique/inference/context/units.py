"""What of a conversation is kept or dropped as a whole. Pure.

A unit is an exchange: a user message and all that answers it, so that a tool call is never parted from its results and
a reply never from its question. A system message between two exchanges is a unit too. What stands before the first user
message is one that has no question: it is kept only where everything after it is, or where it was pinned.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pratique.inference.context.counts import Known
from pratique.inference.context.parts import Turn

__all__ = ["Unit", "units_of"]


class Unit(NamedTuple):
    """The messages from `first` up to `end` of a history."""

    first: int
    end: int
    tokens: int
    is_pinned: bool
    """By the caller, or for a system message in it."""
    is_exchange: bool
    """It begins with a user message."""


def units_of(history: Sequence[Turn], known: Sequence[Known]) -> list[Unit]:
    """Part a history into its units; `known` is what is known of each message."""
    units: list[Unit] = []
    first, tokens, is_pinned, is_open = 0, 0, False, False
    for place, (turn, here) in enumerate(zip(history, known, strict=True)):
        role = turn.message.role
        # A system message while an answer is due belongs to that exchange.
        if place and (role == "user" or (role == "system" and not is_open)):
            units.append(Unit(first, place, tokens, is_pinned, history[first].message.role == "user"))
            first, tokens, is_pinned = place, 0, False
        if role == "system":
            is_pinned = True
        else:
            is_open = role != "assistant" or turn.message.extra != ""
        is_pinned = is_pinned or turn.is_pinned
        tokens += here.tokens
    if history:
        units.append(Unit(first, len(history), tokens, is_pinned, history[first].message.role == "user"))
    return units
