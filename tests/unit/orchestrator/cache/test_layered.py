"""The read path over a store and a shared cache in memory, with time turned by hand."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from pratique.core.catalogue.cache import (
    CACHE_FLIGHTS_JOINED,
    CACHE_INVALIDATIONS,
    CACHE_L1_FLUSHES,
    DB_READ,
    L1_HIT,
    L1_MISS,
    L2_HIT,
    L2_MISS,
)
from pratique.core.clock import ManualClock
from pratique.core.ids import ConversationId, PrincipalId
from pratique.core.metrics import Metrics, MetricSpec
from pratique.orchestrator.cache import CacheSettings, LayeredReader, UncachedReader
from pratique.orchestrator.cache.memory import MemoryHub, MemorySharedCache
from pratique.orchestrator.conversations import (
    ConversationNotFoundError,
    GenerationOptions,
    Outcome,
    StoreUnavailableError,
)
from pratique.orchestrator.conversations.memory import MemoryConversationStore
from pratique.orchestrator.protocol.events import FinishReason

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pratique.orchestrator.conversations import StoredConversation

pytestmark = pytest.mark.unit

ANN = PrincipalId("usr_ann")
NOWHERE = ConversationId("conv_none")
SETTINGS = CacheSettings(l3_concurrency=2, l3_wait_seconds=0.05, repairs=3)


class GatedStore(MemoryConversationStore):
    """Counts its reads, and holds them while `gate` is not set."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock=clock)
        self.gate = asyncio.Event()
        self.gate.set()
        self.num_reads = 0
        self.num_reading = 0
        self.most_reading = 0

    async def load_conversation(self, conversation_id: ConversationId) -> StoredConversation:
        self.num_reads += 1
        self.num_reading += 1
        self.most_reading = max(self.most_reading, self.num_reading)
        try:
            return await super().load_conversation(conversation_id)
        finally:
            await self.gate.wait()
            self.num_reading -= 1


class Replica:
    """A reader and its metrics."""

    def __init__(self, world: World, name: str, settings: CacheSettings = SETTINGS) -> None:
        self.metrics = Metrics()
        self.reader = LayeredReader(
            world.store,
            shared=MemorySharedCache(world.hub, origin=name),
            origin=name,
            settings=settings,
            clock=world.clock,
            metrics=self.metrics,
            draw=lambda low, _: low,
        )

    def count(self, spec: MetricSpec) -> int:
        return int(self.metrics.registry.get_sample_value(f"{spec.name}_total") or 0)

    def counts(self) -> tuple[int, int, int, int, int]:
        l1_hit, l1_miss, l2_hit, l2_miss, db = map(self.count, (L1_HIT, L1_MISS, L2_HIT, L2_MISS, DB_READ))
        return l1_hit, l1_miss, l2_hit, l2_miss, db


class World:
    """A store, a hub, two replicas, one clock."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store = GatedStore(self.clock)
        self.hub = MemoryHub()
        self.a, self.b = Replica(self, "a"), Replica(self, "b")
        self._count = 0

    async def settle(self) -> None:
        await self.clock.advance(0)

    async def say(self, to: ConversationId | None = None) -> StoredConversation:
        self._count += 1
        begun = await self.store.begin_turn(
            owner=ANN,
            conversation_id=to,
            client_message_id=f"message-{self._count:04}",
            text="hello",
            options=GenerationOptions(),
        )
        ended = await self.store.finish(
            begun.generation_id, epoch=1, outcome=Outcome(text="hi", finish_reason=FinishReason.STOP)
        )
        return ended.conversation


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    async with made.a.reader, made.b.reader:
        await made.settle()
        yield made


class TestReading:
    async def test_a_miss_fills_the_layers_above(self, world: World) -> None:
        said = await world.say()
        key = said.conversation_id
        assert await world.a.reader.get(key) == said
        assert world.a.counts() == (0, 1, 0, 1, 1)
        assert await world.a.reader.get(key) == said
        assert world.a.counts() == (1, 1, 0, 1, 1)
        assert await world.b.reader.get(key) == said
        assert world.b.counts() == (0, 1, 1, 0, 0)

    async def test_an_entry_ends_with_its_life(self, world: World) -> None:
        said = await world.say()
        await world.a.reader.get(said.conversation_id)
        await world.clock.advance(15)
        await world.a.reader.get(said.conversation_id)
        assert world.a.counts() == (0, 2, 1, 1, 1)

    async def test_many_at_once_make_one_read(self, world: World) -> None:
        said = await world.say()
        world.store.gate.clear()
        reads = [asyncio.ensure_future(world.a.reader.get(said.conversation_id)) for _ in range(50)]
        await world.settle()
        reads[0].cancel()
        await world.settle()
        world.store.gate.set()
        told = await asyncio.gather(*reads, return_exceptions=True)
        assert told[1:] == [said] * 49
        assert (world.store.num_reads, world.a.count(CACHE_FLIGHTS_JOINED)) == (1, 49)

    async def test_there_is_none_is_believed_for_a_moment_only(self, world: World) -> None:
        for _ in range(3):
            with pytest.raises(ConversationNotFoundError):
                await world.a.reader.get(NOWHERE)
        assert world.store.num_reads == 1
        await world.clock.advance(2)
        with pytest.raises(ConversationNotFoundError):
            await world.a.reader.get(NOWHERE)
        assert world.store.num_reads == 2
        assert world.hub.entries == {}

    async def test_a_failed_read_fails_its_waiters_and_is_not_kept(self, world: World) -> None:
        said = await world.say()
        world.store.unavailable = True
        told = await asyncio.gather(
            *(world.a.reader.get(said.conversation_id) for _ in range(3)), return_exceptions=True
        )
        assert all(isinstance(one, StoreUnavailableError) for one in told)
        world.store.unavailable = False
        assert await world.a.reader.get(said.conversation_id) == said

    async def test_the_store_is_asked_by_a_bounded_number_at_once(self, world: World) -> None:
        said = [await world.say() for _ in range(6)]
        world.store.gate.clear()
        reads = [asyncio.ensure_future(world.a.reader.get(one.conversation_id)) for one in said[:2]]
        await world.settle()
        with pytest.raises(StoreUnavailableError, match="under way"):
            await world.a.reader.get(said[3].conversation_id)
        world.store.gate.set()
        await asyncio.gather(*reads, *(world.a.reader.get(one.conversation_id) for one in said))
        assert world.store.most_reading == 2

    async def test_outside_its_context_it_refuses(self) -> None:
        reader = LayeredReader(MemoryConversationStore(), shared=None, origin="a")
        with pytest.raises(StoreUnavailableError, match="closed"):
            await reader.get(NOWHERE)

    async def test_closing_fails_who_still_waits(self) -> None:
        world = World()
        said = await world.say()
        world.store.gate.clear()
        async with world.a.reader:
            await world.settle()
            waiting = asyncio.ensure_future(world.a.reader.get(said.conversation_id))
            await world.settle()
        with pytest.raises(StoreUnavailableError):
            await waiting

    async def test_what_its_block_raises_comes_out_as_it_is(self) -> None:
        with pytest.raises(ValueError, match="mine"):
            async with World().a.reader:
                raise ValueError("mine")


class TestWriting:
    async def test_a_write_is_seen_at_once_here_and_pushed_to_the_others(self, world: World) -> None:
        first = await world.say()
        key = first.conversation_id
        await world.b.reader.get(key)
        second = await world.say(key)
        await world.a.reader.written(second)
        assert await world.a.reader.get(key) == second
        await world.settle()
        assert await world.b.reader.get(key) == second
        assert (world.b.count(CACHE_INVALIDATIONS), world.a.count(CACHE_INVALIDATIONS)) == (1, 0)
        assert world.a.count(DB_READ) == 0

    async def test_a_deletion_is_seen_at_once_here_and_pushed_to_the_others(self, world: World) -> None:
        said = await world.say()
        key = said.conversation_id
        await world.a.reader.get(key)
        await world.b.reader.get(key)
        await world.store.delete(owner=ANN, conversation_id=key)
        await world.a.reader.deleted(key)
        await world.settle()
        reads = world.store.num_reads
        for replica in (world.a, world.b):
            with pytest.raises(ConversationNotFoundError):
                await replica.reader.get(key)
        assert world.store.num_reads == reads

    async def test_a_tombstone_in_l2_answers_a_replica_that_heard_nothing(self, world: World) -> None:
        said = await world.say()
        await world.a.reader.deleted(said.conversation_id)
        late = Replica(world, "late")
        async with late.reader:
            for _ in range(2):
                with pytest.raises(ConversationNotFoundError):
                    await late.reader.get(said.conversation_id)
        assert late.count(DB_READ) == 0

    async def test_a_write_told_after_the_deletion_revives_nothing(self, world: World) -> None:
        said = await world.say()
        await world.a.reader.deleted(said.conversation_id)
        await world.a.reader.written(said)
        with pytest.raises(ConversationNotFoundError):
            await world.a.reader.get(said.conversation_id)

    async def test_a_write_told_after_a_newer_one_was_heard_of_is_not_kept(self, world: World) -> None:
        old = await world.say()
        new = await world.say(old.conversation_id)
        await world.b.reader.written(new)
        await world.settle()
        await world.a.reader.written(old)
        assert await world.a.reader.get(old.conversation_id) == new

    async def test_a_load_that_was_outdated_while_it_ran_is_not_kept(self, world: World) -> None:
        old = await world.say()
        key = old.conversation_id
        world.store.gate.clear()
        early = asyncio.ensure_future(world.a.reader.get(key))
        await world.settle()
        new = await world.say(key)
        await world.b.reader.written(new)
        await world.settle()
        world.store.gate.set()
        assert await early == old
        assert await world.a.reader.get(key) == new
        assert await world.b.reader.get(key) == new

    async def test_none_there_is_not_believed_of_what_was_written_meanwhile(self, world: World) -> None:
        said = await world.say()
        world.store.gate.clear()
        world.store._conversations.pop(said.conversation_id)
        early = asyncio.ensure_future(world.a.reader.get(said.conversation_id))
        await world.settle()
        await world.a.reader.written(said)
        world.store.gate.set()
        with pytest.raises(ConversationNotFoundError):
            await early
        assert await world.a.reader.get(said.conversation_id) == said

    async def test_refresh_brings_every_layer_to_the_store(self, world: World) -> None:
        old = await world.say()
        key = old.conversation_id
        await world.a.reader.get(key)
        await world.b.reader.get(key)
        new = await world.say(key)  # by a replica that died before it could tell
        assert await world.a.reader.get(key) == old
        assert await world.b.reader.refresh(key) == new
        await world.settle()
        assert await world.a.reader.get(key) == new
        await world.store.delete(owner=ANN, conversation_id=key)
        with pytest.raises(ConversationNotFoundError):
            await world.b.reader.refresh(key)
        await world.settle()
        with pytest.raises(ConversationNotFoundError):
            await world.a.reader.get(key)

    async def test_l2_that_was_not_told_cannot_bring_back_what_was_before(self, world: World) -> None:
        old = await world.say()
        key = old.conversation_id
        await world.a.reader.written(old)
        new = await world.say(key)
        assert await world.b.reader.refresh(key) == new
        world.hub.entries[key] = (old.version, old)  # as after an outage that lost the last write
        await world.clock.advance(15)
        assert await world.b.reader.get(key) == new
        assert world.hub.entries[key] == (new.version, new)


class TestMetrics:
    async def test_one_hit_in_many_is_timed_and_all_are_counted(self, world: World) -> None:
        said = await world.say()
        for _ in range(600):
            await world.a.reader.get(said.conversation_id)
        assert world.a.count(L1_HIT) == 599
        assert world.a.count(L1_HIT) == 599
        sample = world.a.metrics.registry.get_sample_value
        assert sample("pratique_cache_layer_seconds_count", {"layer": "l1"}) == 2
        assert sample("pratique_cache_l1_entries") == 1
        assert sample("pratique_cache_l1_bytes") == world.a.reader._local.num_bytes > 0


class TestDistrust:
    async def test_the_next_read_asks_the_store_whatever_the_caches_hold(self, world: World) -> None:
        old = await world.say()
        key = old.conversation_id
        await world.a.reader.written(old)
        new = await world.say(key)  # nobody tells the caches
        assert await world.b.reader.get(key) == old
        world.b.reader.distrust(key)
        assert await world.b.reader.get(key) == new
        assert await world.b.reader.get(key) == new
        assert world.store.num_reads == 1
        assert world.hub.entries[key] == (new.version, new)

    async def test_a_read_under_way_does_not_settle_it(self, world: World) -> None:
        old = await world.say()
        key = old.conversation_id
        world.store.gate.clear()
        world.b.reader.distrust(key)
        waiting = asyncio.ensure_future(world.b.reader.get(key))
        await world.settle()
        new = await world.say(key)
        world.b.reader.distrust(key)
        world.store.gate.set()
        assert await waiting == old
        assert await world.b.reader.get(key) == new

    async def test_it_stays_while_the_store_is_away(self, world: World) -> None:
        old = await world.say()
        await world.a.reader.written(old)
        world.b.reader.distrust(old.conversation_id)
        world.store.unavailable = True
        with pytest.raises(StoreUnavailableError):
            await world.b.reader.get(old.conversation_id)
        world.store.unavailable = False
        new = await world.say(old.conversation_id)
        assert await world.b.reader.get(old.conversation_id) == new

    async def test_what_is_remembered_is_bounded(self, world: World) -> None:
        replica = Replica(world, "c", CacheSettings(l1_entries=2))
        for number in range(5):
            replica.reader.distrust(ConversationId(f"conv_{number}"))
        assert len(replica.reader._distrusted) == 2


class TestSharedCacheAway:
    async def test_reads_go_to_the_store_and_nothing_fails(self, world: World) -> None:
        said = [await world.say() for _ in range(5)]
        world.hub.is_down = True
        await world.settle()
        for one in said:
            assert await world.a.reader.get(one.conversation_id) == one
        calls = world.hub.num_calls
        for one in said:
            await world.clock.advance(0)
            await world.a.reader.get(one.conversation_id)
        assert world.hub.num_calls == calls

    async def test_a_breaker_keeps_reads_from_asking(self, world: World) -> None:
        world.hub.is_down = True
        for _ in range(20):
            said = await world.say()
            await world.a.reader.get(said.conversation_id)
        # Load and fill of the first reads until three calls failed, and the two listeners that were cut off.
        assert world.a.count(L2_MISS) == 20
        assert world.hub.num_calls <= 8

    async def test_l1_is_emptied_and_lives_briefly_while_nothing_can_be_heard(self, world: World) -> None:
        old = await world.say()
        key = old.conversation_id
        await world.a.reader.get(key)
        world.hub.is_down = True
        await world.settle()
        new = await world.say(key)
        assert await world.a.reader.get(key) == new
        newest = await world.say(key)
        await world.clock.advance(1)
        assert await world.a.reader.get(key) == newest
        assert world.a.count(CACHE_L1_FLUSHES) == 2

    async def test_what_was_written_meanwhile_is_told_when_it_is_back(self, world: World) -> None:
        old = await world.say()
        key = old.conversation_id
        gone = await world.say()
        for one in (old, gone):
            await world.a.reader.written(one)
        world.hub.is_down = True
        new = await world.say(key)
        await world.a.reader.written(new)
        await world.a.reader.deleted(gone.conversation_id)
        world.hub.is_down = False
        # Before L2 has been told, this replica does not believe its old entry.
        assert world.hub.entries[key][1] == old
        assert await world.a.reader.get(key) == new
        await world.clock.advance(5)
        assert world.hub.entries[key][0] == new.version
        assert await world.b.reader.get(key) == new
        with pytest.raises(ConversationNotFoundError):
            await world.b.reader.get(gone.conversation_id)

    async def test_too_many_untold_writes_empty_it(self, world: World) -> None:
        first = await world.say()
        await world.b.reader.written(first)
        world.hub.is_down = True
        for _ in range(5):
            await world.a.reader.written(await world.say())
        assert await world.a.reader.get(first.conversation_id) == first
        world.hub.is_down = False
        await world.clock.advance(5)
        assert first.conversation_id not in world.hub.entries

    async def test_the_store_away_what_is_cached_is_still_read(self, world: World) -> None:
        said = await world.say()
        await world.a.reader.written(said)
        world.store.unavailable = True
        for replica in (world.a, world.b):
            assert await replica.reader.get(said.conversation_id) == said
        with pytest.raises(StoreUnavailableError):
            await world.a.reader.get(NOWHERE)


async def test_without_a_shared_cache_entries_live_a_second() -> None:
    world = World()
    metrics = Metrics()
    said = await world.say()
    reader = LayeredReader(world.store, shared=None, origin="a", clock=world.clock, metrics=metrics)
    async with reader:
        await reader.written(said)
        assert await reader.get(said.conversation_id) == said
        assert world.store.num_reads == 0
        await world.clock.advance(1)
        assert await reader.get(said.conversation_id) == said
        assert world.store.num_reads == 1
        await reader.deleted(said.conversation_id)
        with pytest.raises(ConversationNotFoundError):
            await reader.get(said.conversation_id)


async def test_an_uncached_reader_always_asks_the_store() -> None:
    world = World()
    said = await world.say()
    async with UncachedReader(world.store) as reader:
        await reader.written(said)
        await reader.deleted(said.conversation_id)
        assert await reader.get(said.conversation_id) == await reader.refresh(said.conversation_id) == said
    assert world.store.num_reads == 2
