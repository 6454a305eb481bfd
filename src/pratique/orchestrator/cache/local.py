"""L1: snapshots in this process's memory, least recently used out first, each with a life of its own. Pure.

Bounded by entries and by estimated bytes. An older version never replaces a newer one. Written here rather than taken
from a library because time must be the injected clock's, and no library that was measured bounds both entries and
bytes while it compares versions; a get costs well under a microsecond.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from pratique.core.clock import Clock
    from pratique.core.ids import ConversationId
    from pratique.orchestrator.conversations.interface import StoredConversation
    from pratique.orchestrator.protocol.events import Turn

__all__ = ["LocalCache", "estimate_bytes"]

_BASE_BYTES = 1_024
_TURN_BYTES = 512
_TEXT_BYTES = 80
"""Of a string's own, besides its characters; and a pointer to it."""
_OBJECT_BYTES = 160


@dataclass(frozen=True, slots=True)
class _Entry:
    value: StoredConversation
    ends_at: float
    num_bytes: int


class LocalCache:
    """A bounded map of snapshots with a time to live per entry."""

    def __init__(
        self, *, clock: Clock, max_entries: int, max_bytes: int, on_evict: Callable[[str], None] | None = None
    ) -> None:
        self.num_bytes = 0
        self._now = clock.monotonic
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._on_evict = on_evict or _ignore
        self._entries: OrderedDict[ConversationId, _Entry] = OrderedDict()

    def __len__(self) -> int:
        """Return the number of entries, those included whose life is over but which nobody asked for since."""
        return len(self._entries)

    def get(self, key: ConversationId) -> StoredConversation | None:
        """Return the live entry, which counts as a use of it."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.ends_at <= self._now():
            self._remove(key)
            return None
        self._entries.move_to_end(key)
        return entry.value

    def put(self, value: StoredConversation, *, life_seconds: float) -> None:
        """Keep a snapshot, unless a newer one is there or it alone is larger than the whole bound."""
        key = value.conversation_id
        present = self._entries.get(key)
        if present is not None and present.value.version > value.version:
            return
        if present is not None:
            self._remove(key)
        num_bytes = estimate_bytes(value)
        if num_bytes > self._max_bytes:
            self._on_evict("bytes")
            return
        self._entries[key] = _Entry(value, self._now() + life_seconds, num_bytes)
        self.num_bytes += num_bytes
        self._make_room()

    def outdate(self, key: ConversationId, version: int) -> None:
        """Forget the entry if it is older than `version`."""
        entry = self._entries.get(key)
        if entry is not None and entry.value.version < version:
            self._remove(key)

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self.num_bytes = 0

    def _make_room(self) -> None:
        while len(self._entries) > self._max_entries or self.num_bytes > self._max_bytes:
            self._on_evict("entries" if len(self._entries) > self._max_entries else "bytes")
            self._remove(next(iter(self._entries)))

    def _remove(self, key: ConversationId) -> None:
        self.num_bytes -= self._entries.pop(key).num_bytes


def estimate_bytes(value: StoredConversation) -> int:
    """Return about how much memory a snapshot holds, rather too much: its texts at four bytes a character, its objects.

    Counted without looking at every object, because it is done at every put; a test compares it with the interpreter's
    own figures.
    """
    conversation = value.conversation
    return _BASE_BYTES + _text_bytes(conversation.title) + sum(map(_turn_bytes, conversation.turns))


def _turn_bytes(turn: Turn) -> int:
    num_bytes = _TURN_BYTES + _text_bytes(turn.text)
    error, details = turn.error, turn.details
    if error is not None:
        num_bytes += _object_bytes(error.code, error.message, error.hint, error.fallback)
    if details is not None:
        num_bytes += _object_bytes(details.notice, *details.degraded)
        if details.route is not None:
            route = details.route
            num_bytes += _object_bytes(route.pool, route.model, route.policy, route.reason)
        num_bytes += sum(_object_bytes(source.source_id, source.title, source.url) for source in details.sources)
    return num_bytes


def _object_bytes(*texts: str | None) -> int:
    return _OBJECT_BYTES + sum(_TEXT_BYTES + _text_bytes(text) for text in texts if text is not None)


def _text_bytes(text: str) -> int:
    return len(text) if text.isascii() else 4 * len(text)


def _ignore(_: str) -> None:
    pass
