"""L2 made safe to lose: nothing here raises because of it.

- A breaker keeps reads from waiting for a server that does not answer. It counts round trips, not who waits for them.
- A write that L2 was not told of is remembered and told as soon as it answers again; until then this replica does not
  believe what L2 says of that conversation.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakSet

from pratique.core.breaker import Breaker
from pratique.core.events import get_logger
from pratique.orchestrator.cache._repairs import Repairs
from pratique.orchestrator.cache.interface import DELETED, SharedCacheError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pratique.core.clock import Clock
    from pratique.core.ids import ConversationId
    from pratique.orchestrator.cache._instruments import Instruments
    from pratique.orchestrator.cache.interface import SharedCache, Tombstone
    from pratique.orchestrator.cache.settings import CacheSettings
    from pratique.orchestrator.conversations.interface import StoredConversation

__all__ = ["GuardedCache"]

T = TypeVar("T")

_log = get_logger("cache")


class GuardedCache:
    """A shared cache behind a breaker, with a memory of what it missed."""

    def __init__(self, shared: SharedCache, *, settings: CacheSettings, clock: Clock, instruments: Instruments) -> None:
        self._shared = shared
        self._settings = settings
        self._clock = clock
        self._instruments = instruments
        self._breaker = Breaker(
            clock=clock,
            failures=settings.l2_failures,
            pause_seconds=settings.l2_cool_down_seconds,
            max_pause_seconds=settings.l2_cool_down_max_seconds,
        )
        self._counted: WeakSet[SharedCacheError] = WeakSet()
        self._repairs = Repairs(settings.repairs)
        self._has_repairs = asyncio.Event()

    async def load(self, key: ConversationId) -> StoredConversation | Tombstone | None:
        """Return L2's entry; None where it has none or cannot be believed or asked."""
        if self._repairs.waits(key) or not self._breaker.may_ask():
            self._instruments.skipped_l2()
            return None
        started = time.perf_counter()
        try:
            found = await self._watched(self._shared.load(key))
        except SharedCacheError:
            found = None
        self._instruments.asked_l2(time.perf_counter() - started, is_hit=found is not None)
        return found

    async def fill(self, snapshot: StoredConversation) -> None:
        """Offer what the store said."""
        if not self._repairs.waits(snapshot.conversation_id) and self._breaker.may_ask():
            # What could not be filled is read from the store again: nothing is wrong, nothing to repair.
            await self._quietly(self._shared.fill(snapshot))

    async def write(self, snapshot: StoredConversation) -> None:
        """Tell of a write."""
        await self._tell(snapshot.conversation_id, snapshot.version, lambda: self._shared.write(snapshot))

    async def delete(self, key: ConversationId) -> None:
        """Tell of a deletion."""
        await self._tell(key, DELETED, lambda: self._shared.outdate(key, DELETED))

    def is_back(self) -> None:
        """Take it as working again, because something else just reached it."""
        self._breaker.succeeded()

    async def repair_forever(self) -> None:
        """Tell L2 what it missed, whenever it missed something."""
        pause = self._settings.reconnect_min_seconds
        while True:
            await self._has_repairs.wait()
            try:
                await self._repair()
            except SharedCacheError:
                await self._clock.sleep(pause)
                pause = min(pause * 2, self._settings.reconnect_max_seconds)
            else:
                pause = self._settings.reconnect_min_seconds

    async def _repair(self) -> None:
        if self._repairs.has_overflowed:
            await self._watched(self._shared.purge())
            self._repairs.purged()
        for key, version in self._repairs.pending():
            await self._watched(self._shared.outdate(key, version))
            self._told(key, version)
        if not len(self._repairs) and not self._repairs.has_overflowed:
            self._has_repairs.clear()

    async def _tell(self, key: ConversationId, version: int, call: Callable[[], Awaitable[None]]) -> None:
        # Remembered first: a caller cancelled in the middle leaves nothing untold.
        self._repairs.add(key, version)
        self._instruments.waiting_repairs(len(self._repairs))
        try:
            if self._breaker.may_ask() and await self._quietly(call()):
                self._told(key, version)
        finally:
            if self._repairs.waits(key):
                self._has_repairs.set()

    def _told(self, key: ConversationId, version: int) -> None:
        self._repairs.told(key, version)
        self._instruments.waiting_repairs(len(self._repairs))

    async def _quietly(self, call: Awaitable[None]) -> bool:
        try:
            await self._watched(call)
        except SharedCacheError:
            return False
        return True

    async def _watched(self, call: Awaitable[T]) -> T:
        was_open = self._breaker.is_open
        try:
            answer = await call
        except SharedCacheError as error:
            self._failed(error)
            raise
        self._breaker.succeeded()
        if was_open:
            _log.info("shared_cache_back")
        return answer

    def _failed(self, error: SharedCacheError) -> None:
        # Loads that shared a round trip were given the same error: one slow moment is no row of failures.
        if error in self._counted:
            return
        self._counted.add(error)
        was_open = self._breaker.is_open
        self._instruments.failed_l2()
        self._breaker.failed()
        if self._breaker.is_open and not was_open:
            _log.warning("shared_cache_lost", error=error.message)
