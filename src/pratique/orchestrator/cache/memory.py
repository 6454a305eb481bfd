"""An L2 in this process's memory, for tests of whatever reads through a shared cache: readers share a `MemoryHub`.

`hub.is_down = True` makes every call fail and cuts every listener off, as a lost server would.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from pratique.orchestrator.cache.interface import DELETED, Change, SharedCacheError, Tombstone

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pratique.core.ids import ConversationId
    from pratique.orchestrator.cache.interface import Listener
    from pratique.orchestrator.conversations.interface import StoredConversation

__all__ = ["MemoryHub", "MemorySharedCache"]

_QUEUE_LIMIT = 1024


class MemoryHub:
    """What all the caches of a test share."""

    def __init__(self) -> None:
        self.num_calls = 0
        self.entries: dict[ConversationId, tuple[int, StoredConversation | None]] = {}
        self.listeners: list[asyncio.Queue[Change | None]] = []
        self._is_down = False

    @property
    def is_down(self) -> bool:
        return self._is_down

    @is_down.setter
    def is_down(self, value: bool) -> None:
        self._is_down = value
        for listener in self.listeners if value else ():
            listener.put_nowait(None)


class MemorySharedCache:
    """A `SharedCache` over a hub."""

    def __init__(self, hub: MemoryHub, *, origin: str) -> None:
        self._hub = hub
        self._origin = origin

    async def load(self, conversation_id: ConversationId) -> StoredConversation | Tombstone | None:
        self._call()
        version, snapshot = self._hub.entries.get(conversation_id, (0, None))
        return Tombstone() if version == DELETED else snapshot

    async def fill(self, conversation: StoredConversation) -> None:
        self._call()
        self._keep(conversation.conversation_id, conversation.version, conversation)

    async def write(self, conversation: StoredConversation) -> None:
        self._call()
        if self._keep(conversation.conversation_id, conversation.version, conversation):
            self._tell(conversation.conversation_id, conversation.version)

    async def outdate(self, conversation_id: ConversationId, version: int) -> None:
        self._call()
        there = self._hub.entries.get(conversation_id, (-1, None))[0]
        if there > version:
            return
        if there < version:
            self._hub.entries[conversation_id] = (version, None)
        self._tell(conversation_id, version)

    async def purge(self) -> None:
        self._call()
        self._hub.entries.clear()

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[Listener]:
        self._call()
        queue: asyncio.Queue[Change | None] = asyncio.Queue(_QUEUE_LIMIT)
        self._hub.listeners.append(queue)
        try:
            yield _QueueListener(queue)
        finally:
            self._hub.listeners.remove(queue)

    async def aclose(self) -> None:
        """Do nothing: the hub is the test's."""

    def _call(self) -> None:
        self._hub.num_calls += 1
        if self._hub.is_down:
            raise SharedCacheError("The shared cache in memory was made unavailable.")

    def _keep(self, key: ConversationId, version: int, snapshot: StoredConversation) -> bool:
        if self._hub.entries.get(key, (-1, None))[0] > version:
            return False
        self._hub.entries[key] = (version, snapshot)
        return True

    def _tell(self, key: ConversationId, version: int) -> None:
        for listener in self._hub.listeners:
            listener.put_nowait(Change(conversation_id=key, version=version, origin=self._origin))


class _QueueListener:
    def __init__(self, queue: asyncio.Queue[Change | None]) -> None:
        self._queue = queue

    async def next(self) -> Change:
        change = await self._queue.get()
        if change is None:
            raise SharedCacheError("The shared cache in memory was made unavailable.")
        return change
