"""The newest version seen or heard of, per conversation, whether its snapshot is here or not. Pure.

A write that is told late, after a newer one was heard of, must not put its old snapshot into L1; nor may an old entry
of L2, which was away when the newer one was told. Bounded: what was heard of longest ago is forgotten first.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pratique.core.ids import ConversationId

__all__ = ["Floors"]


class Floors:
    """A bounded map of versions that only rise."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._versions: OrderedDict[ConversationId, int] = OrderedDict()

    def __len__(self) -> int:
        """Return how many conversations are remembered."""
        return len(self._versions)

    def of(self, key: ConversationId) -> int:
        """Return the newest version heard of, 0 where none was."""
        return self._versions.get(key, 0)

    def rise(self, key: ConversationId, version: int) -> None:
        """Hear of a version."""
        self._versions[key] = max(version, self._versions.pop(key, 0))
        if len(self._versions) > self._limit:
            self._versions.popitem(last=False)
