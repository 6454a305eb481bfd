"""Writes that L2 has not been told of, because it was away. Pure.

Until it has been told, what L2 says of those conversations may be old: this replica does not ask it about them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pratique.core.ids import ConversationId

__all__ = ["Repairs"]


class Repairs:
    """The newest version of each conversation that L2 has to be told."""

    def __init__(self, limit: int) -> None:
        self.has_overflowed = False
        self._limit = limit
        self._versions: dict[ConversationId, int] = {}

    def __len__(self) -> int:
        """Return how many conversations are waiting."""
        return len(self._versions)

    def add(self, key: ConversationId, version: int) -> None:
        """Remember a write; beyond the limit all are forgotten and everything counts as old."""
        self._versions[key] = max(version, self._versions.get(key, 0))
        if len(self._versions) > self._limit:
            self._versions.clear()
            self.has_overflowed = True

    def waits(self, key: ConversationId) -> bool:
        """Whether L2 may have something old of this conversation."""
        return self.has_overflowed or key in self._versions

    def pending(self) -> list[tuple[ConversationId, int]]:
        """Return what is waiting."""
        return list(self._versions.items())

    def told(self, key: ConversationId, version: int) -> None:
        """L2 knows of this version now."""
        if self._versions.get(key, version + 1) <= version:
            del self._versions[key]

    def purged(self) -> None:
        """L2 has forgotten everything."""
        self.has_overflowed = False
