"""Conversations that are known not to be there, for a moment. Pure.

Apart from L1, so that somebody who asks for made-up ids cannot push real snapshots out of memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pratique.core.clock import Clock
    from pratique.core.ids import ConversationId

__all__ = ["Negatives"]


class Negatives:
    """A bounded set whose members leave by themselves, or when it is full, oldest first."""

    def __init__(self, *, clock: Clock, limit: int) -> None:
        self._clock = clock
        self._limit = limit
        self._ends: dict[ConversationId, float] = {}

    def __len__(self) -> int:
        """Return the number of members, those included whose time is over."""
        return len(self._ends)

    def knows(self, key: ConversationId) -> bool:
        """Whether it was not there a moment ago."""
        return self._ends.get(key, -1.0) > self._clock.monotonic()

    def add(self, key: ConversationId, *, life_seconds: float) -> None:
        """Believe for a while that it is not there."""
        self._ends.pop(key, None)
        self._ends[key] = self._clock.monotonic() + life_seconds
        if len(self._ends) > self._limit:
            del self._ends[next(iter(self._ends))]

    def forget(self, key: ConversationId) -> None:
        """It is there, or may be."""
        self._ends.pop(key, None)

    def clear(self) -> None:
        """Believe nothing."""
        self._ends.clear()
