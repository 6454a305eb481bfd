"""The read path: process memory (L1), the shared cache (L2), the store (L3); a miss fills the layers above.

- One load per conversation and replica, however many ask. The store is asked by a bounded number at once.
- A write is told to L1 here, to L2, and through L2's channel to every other replica's L1.
- Reads here never go back: what is older than something seen or heard of is not believed, whoever says it.
- Whenever a change may have been missed, L1 is emptied, and while none can be heard its entries live a second.
- L2 away: reads go to the store, nothing fails, and what was written meanwhile is told to L2 as soon as it is back.
- Store away: what the caches hold is still read.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import OrderedDict
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Self

import anyio

from pratique.core.clock import Clock, SystemClock
from pratique.core.events import get_logger
from pratique.core.metrics import Metrics
from pratique.orchestrator.cache._guard import GuardedCache
from pratique.orchestrator.cache._instruments import SAMPLE, Instruments
from pratique.orchestrator.cache.flights import Flight, Flights
from pratique.orchestrator.cache.floors import Floors
from pratique.orchestrator.cache.interface import DELETED, Tombstone
from pratique.orchestrator.cache.local import LocalCache
from pratique.orchestrator.cache.negatives import Negatives
from pratique.orchestrator.cache.settings import CacheSettings
from pratique.orchestrator.conversations.errors import ConversationNotFoundError, StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from pratique.core.ids import ConversationId
    from pratique.orchestrator.cache.interface import Change, SharedCache, SnapshotSource
    from pratique.orchestrator.conversations.interface import StoredConversation

__all__ = ["LayeredReader"]

_log = get_logger("cache")


class LayeredReader:
    """A `ConversationReader` over a source of truth and, where there is one, a shared cache.

    `origin` names this replica among those that share the cache: give the shared cache the same one.
    """

    def __init__(
        self,
        source: SnapshotSource,
        *,
        shared: SharedCache | None,
        origin: str,
        settings: CacheSettings | None = None,
        clock: Clock | None = None,
        metrics: Metrics | None = None,
        draw: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._source = source
        self._shared = shared
        self._origin = origin
        self._settings = settings = settings or CacheSettings()
        self._clock = clock = clock or SystemClock()
        self._draw = draw
        self._instruments = instruments = Instruments(metrics or Metrics(), size=self._local_size)
        self._local = LocalCache(
            clock=clock,
            max_entries=settings.l1_entries,
            max_bytes=settings.l1_bytes,
            on_evict=instruments.evicted,
        )
        self._hits, self._misses = instruments.l1_hits, instruments.l1_misses
        self._negatives = Negatives(clock=clock, limit=settings.negative_entries)
        self._floors = Floors(settings.l1_entries)
        self._guard = (
            None if shared is None else GuardedCache(shared, settings=settings, clock=clock, instruments=instruments)
        )
        self._turns = asyncio.Semaphore(settings.l3_concurrency)
        self._distrusted: OrderedDict[ConversationId, None] = OrderedDict()
        self._hears = False
        self._stack = AsyncExitStack()
        self._flights: Flights[ConversationId, StoredConversation] | None = None

    async def __aenter__(self) -> Self:
        tasks = await self._stack.enter_async_context(anyio.create_task_group())
        self._stack.callback(tasks.cancel_scope.cancel)
        self._flights = Flights(tasks, self._load)
        if self._shared is not None and self._guard is not None:
            tasks.start_soon(self._listen_forever, self._shared, self._guard)
            tasks.start_soon(self._guard.repair_forever)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What the block raised is its own affair: given to the task group, it would come back wrapped in a group.
        flights, self._flights = self._flights, None
        await self._stack.aclose()
        if flights is not None:
            flights.abort()

    async def get(self, conversation_id: ConversationId) -> StoredConversation:
        # Most reads end here: no lock, no instrument, the clock once.
        found = self._local.get(conversation_id)
        if found is not None:
            self._hits.value += 1
            if not self._hits.value % SAMPLE:
                self._time_local(conversation_id)
            return found
        self._misses.value += 1
        return await self._get_below(conversation_id)

    async def _get_below(self, conversation_id: ConversationId) -> StoredConversation:
        if self._negatives.knows(conversation_id) or self._floors.of(conversation_id) == DELETED:
            raise ConversationNotFoundError(conversation_id)
        if self._flights is None:
            raise StoreUnavailableError("The reader is closed.", hint="Use it inside 'async with'.")
        flight, was_under_way = self._flights.join(conversation_id)
        if was_under_way:
            self._instruments.flights_joined.value += 1
        return await flight.result()

    async def refresh(self, conversation_id: ConversationId) -> StoredConversation:
        try:
            found = await self._ask_source(conversation_id)
        except ConversationNotFoundError:
            await self.deleted(conversation_id)
            raise
        await self.written(found)
        return found

    async def written(self, conversation: StoredConversation) -> None:
        self._outdate(conversation.conversation_id, conversation.version)
        self._put(conversation)
        if self._guard is not None:
            await self._guard.write(conversation)

    async def deleted(self, conversation_id: ConversationId) -> None:
        self._outdate(conversation_id, DELETED)
        if self._guard is not None:
            await self._guard.delete(conversation_id)

    def distrust(self, conversation_id: ConversationId) -> None:
        self._local.outdate(conversation_id, DELETED)
        self._negatives.forget(conversation_id)
        if self._flights is not None:
            self._flights.outdate(conversation_id, DELETED)
        self._distrusted[conversation_id] = None
        if len(self._distrusted) > self._settings.l1_entries:
            self._distrusted.popitem(last=False)

    async def _load(self, flight: Flight[ConversationId, StoredConversation]) -> StoredConversation:
        is_distrusted = flight.key in self._distrusted
        found = None if self._guard is None or is_distrusted else await self._guard.load(flight.key)
        if isinstance(found, Tombstone):
            self._outdate(flight.key, DELETED)
            raise ConversationNotFoundError(flight.key)
        # L2 may have been away when a newer version was told: what was seen here once is never unseen.
        if found is not None and found.version >= self._floors.of(flight.key):
            self._keep(flight, found)
            return found
        try:
            found = await self._ask_source(flight.key)
        except ConversationNotFoundError:
            # Not if somebody wrote it while the store was asked.
            if flight.floor == 0:
                self._negatives.add(flight.key, life_seconds=self._settings.negative_seconds)
            raise
        if is_distrusted and flight.floor == 0:
            self._distrusted.pop(flight.key, None)
        self._keep(flight, found)
        if self._guard is not None:
            await self._guard.fill(found)
        return found

    async def _ask_source(self, key: ConversationId) -> StoredConversation:
        try:
            async with asyncio.timeout(self._settings.l3_wait_seconds):
                await self._turns.acquire()
        except TimeoutError as error:
            raise StoreUnavailableError(
                f"{self._settings.l3_concurrency} reads of the store are under way, and none ended within "
                f"{self._settings.l3_wait_seconds} s."
            ) from error
        started = time.perf_counter()
        try:
            return await self._source.load_conversation(key)
        finally:
            self._turns.release()
            self._instruments.asked_l3(time.perf_counter() - started)

    def _keep(self, flight: Flight[ConversationId, StoredConversation], found: StoredConversation) -> None:
        """Keep what a flight found in L1, unless a newer version was announced while it flew."""
        if found.version >= flight.floor:
            self._put(found)

    def _put(self, snapshot: StoredConversation) -> None:
        if snapshot.version < self._floors.of(snapshot.conversation_id):
            return
        settings = self._settings
        life = self._draw(settings.l1_min_seconds, settings.l1_max_seconds) if self._hears else settings.l1_deaf_seconds
        self._negatives.forget(snapshot.conversation_id)
        self._floors.rise(snapshot.conversation_id, snapshot.version)
        self._local.put(snapshot, life_seconds=life)

    def _time_local(self, key: ConversationId) -> None:
        started = time.perf_counter()
        self._local.get(key)
        self._instruments.timed_l1(time.perf_counter() - started)

    def _local_size(self) -> tuple[int, int]:
        return len(self._local), self._local.num_bytes

    def _outdate(self, key: ConversationId, version: int) -> None:
        self._floors.rise(key, version)
        self._local.outdate(key, version)
        self._negatives.forget(key)
        if self._flights is not None:
            self._flights.outdate(key, version)

    def _flush(self) -> None:
        """Forget what may be old: everything here, and whatever is being loaded."""
        self._local.clear()
        self._negatives.clear()
        if self._flights is not None:
            self._flights.outdate_all(DELETED)
        self._instruments.flushed()

    async def _listen_forever(self, shared: SharedCache, guard: GuardedCache) -> None:
        pause = self._settings.reconnect_min_seconds
        while True:
            try:
                async with shared.listen() as listener:
                    self._hears = True
                    self._flush()
                    guard.is_back()
                    pause = self._settings.reconnect_min_seconds
                    while True:
                        self._heard(await listener.next())
            except Exception as error:  # noqa: BLE001 - whatever the channel does, reads go on without it
                if self._hears:
                    _log.warning("invalidations_lost", error=str(error))
                    self._hears = False
                    self._flush()
            await self._clock.sleep(self._draw(pause / 2, pause))
            pause = min(pause * 2, self._settings.reconnect_max_seconds)

    def _heard(self, change: Change) -> None:
        if change.origin == self._origin:
            return
        self._instruments.invalidated()
        self._outdate(change.conversation_id, change.version)
