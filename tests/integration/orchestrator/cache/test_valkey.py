"""Shared caches under one contract, and two replicas over a real Valkey that stops, hangs and comes back."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from redis.asyncio import Redis

from pratique.core.catalogue.cache import CACHE_L2_ERRORS, L2_HIT, L2_MISS
from pratique.core.ids import ConversationId, PrincipalId
from pratique.core.metrics import Metrics, MetricSpec
from pratique.orchestrator.cache import CacheSettings, LayeredReader, SharedCache, SharedCacheError, ValkeySharedCache
from pratique.orchestrator.cache.interface import DELETED, Change, Tombstone
from pratique.orchestrator.cache.memory import MemoryHub, MemorySharedCache
from pratique.orchestrator.conversations import (
    ConversationNotFoundError,
    GenerationOptions,
    Outcome,
    StoredConversation,
    StoreUnavailableError,
)
from pratique.orchestrator.conversations.memory import MemoryConversationStore
from pratique.orchestrator.protocol.events import Conversation, EventError, FinishReason, Role, Turn, TurnStatus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from pratique.testkit.kit import PrivateServer
    from pratique.testkit.services.valkey import ValkeyNamespace

    Launch = Callable[[str], PrivateServer[Any]]

pytestmark = [pytest.mark.integration, pytest.mark.fast]

A = ConversationId("conv_a")
QUICK = CacheSettings(
    l2_deadline_seconds=0.2,
    l2_cool_down_seconds=0.05,
    l2_cool_down_max_seconds=0.1,
    ping_seconds=0.1,
    reconnect_max_seconds=0.1,
)


def snapshot(version: int, *, active: str | None = None, name: ConversationId = A) -> StoredConversation:
    turn = Turn(
        turn_id="turn_1",
        role=Role.ASSISTANT,
        text="héllo 𐍈\x00",
        status=TurnStatus.PARTIAL,
        created_at=1.5,
        finish_reason=FinishReason.ERROR,
        error=EventError(code="x", message="y"),
    )
    conversation = Conversation(
        conversation_id=name,
        title="t",
        created_at=1,
        updated_at=2,
        version=version,
        turns=(turn,),
        active_generation_id=active,
    )
    return StoredConversation(owner=PrincipalId("usr_a"), conversation=conversation)


async def eventually(check: Callable[[], Awaitable[bool]], seconds: float = 5) -> None:
    async with asyncio.timeout(seconds):
        while not await check():  # noqa: ASYNC110 - another process changes it, which sets no event
            await asyncio.sleep(0.01)


@pytest.fixture
async def raw(valkey: ValkeyNamespace) -> AsyncIterator[Redis]:
    async with valkey.async_client() as client:
        yield client


class TestContract:
    @pytest.fixture(params=["memory", "valkey"])
    async def caches(
        self, request: pytest.FixtureRequest, valkey: ValkeyNamespace
    ) -> AsyncIterator[tuple[SharedCache, SharedCache]]:
        hub = MemoryHub()
        made: list[SharedCache] = [
            MemorySharedCache(hub, origin=origin)
            if request.param == "memory"
            else ValkeySharedCache(valkey.url, origin=origin, namespace=valkey.name)
            for origin in "ab"
        ]
        yield made[0], made[1]
        for cache in made:
            await cache.aclose()

    async def test_an_older_version_never_replaces_a_newer_one(self, caches: tuple[SharedCache, SharedCache]) -> None:
        one, other = caches
        assert await one.load(A) is None
        await one.write(snapshot(5))
        for stale in (one, other):
            await stale.fill(snapshot(4))
            await stale.write(snapshot(4))
            await stale.outdate(A, 5)
            assert await stale.load(A) == snapshot(5)
        await other.fill(snapshot(6))
        assert await one.load(A) == snapshot(6)

    async def test_what_is_outdated_is_forgotten_and_cannot_be_filled_again(
        self, caches: tuple[SharedCache, SharedCache]
    ) -> None:
        one, other = caches
        await one.write(snapshot(5))
        await one.outdate(A, 7)
        await other.fill(snapshot(6))
        assert await one.load(A) is None
        await other.fill(snapshot(7))
        assert await one.load(A) == snapshot(7)

    async def test_nothing_replaces_a_tombstone(self, caches: tuple[SharedCache, SharedCache]) -> None:
        one, other = caches
        await one.write(snapshot(5))
        await one.outdate(A, DELETED)
        await other.write(snapshot(2**40))
        await other.outdate(A, 9)
        await one.outdate(A, DELETED)
        assert await other.load(A) == Tombstone()

    async def test_a_purge_forgets_everything(self, caches: tuple[SharedCache, SharedCache]) -> None:
        one, other = caches
        names = [ConversationId(f"conv_{number}") for number in range(1200)]
        await asyncio.gather(*(one.write(snapshot(1, name=name)) for name in names[:10]))
        for name in names[10:]:
            await one.fill(snapshot(1, name=name))
        await other.purge()
        assert [await one.load(name) for name in (names[0], names[-1])] == [None, None]

    async def test_writes_are_heard_by_all_and_fills_by_nobody(self, caches: tuple[SharedCache, SharedCache]) -> None:
        one, other = caches
        async with other.listen() as listener:
            await one.fill(snapshot(1))
            await one.write(snapshot(2))
            await one.write(snapshot(1))
            await one.outdate(A, 3)
            await one.outdate(A, 2)
            await one.outdate(A, DELETED)
            async with asyncio.timeout(5):
                heard = [await listener.next() for _ in range(3)]
        expected = [Change(conversation_id=A, version=version, origin="a") for version in (2, 3, DELETED)]
        assert heard == expected


class TestValkey:
    @pytest.fixture
    async def cache(self, valkey: ValkeyNamespace) -> AsyncIterator[ValkeySharedCache]:
        made = ValkeySharedCache(valkey.url, origin="a", namespace=valkey.name, settings=QUICK)
        yield made
        await made.aclose()

    @pytest.mark.parametrize(
        "entry",
        [
            {"version": "1", "snapshot": b"\xff\xfe not msgpack"},
            {"version": "1", "snapshot": b"\x80"},
            {"version": "what", "snapshot": b"\xc0"},
            {"snapshot": b""},
            {"foreign": "x"},
        ],
    )
    async def test_an_entry_that_cannot_be_read_is_a_miss_and_is_replaced(
        self, cache: ValkeySharedCache, raw: Redis, entry: dict[Any, Any]
    ) -> None:
        await raw.hset(cache._key(A), mapping=entry)
        assert await cache.load(A) is None
        await cache.fill(snapshot(2))
        assert await cache.load(A) == snapshot(2)

    async def test_an_entry_of_another_conversation_is_a_miss(self, cache: ValkeySharedCache, raw: Redis) -> None:
        await cache.fill(snapshot(1))
        await raw.rename(cache._key(A), cache._key(ConversationId("conv_b")))
        assert await cache.load(ConversationId("conv_b")) is None

    async def test_a_foreign_kind_of_value_is_a_miss_and_refuses_writes(
        self, cache: ValkeySharedCache, raw: Redis
    ) -> None:
        await raw.set(cache._key(A), "x")
        assert await cache.load(A) is None
        with pytest.raises(SharedCacheError, match="refused"):
            await cache.write(snapshot(1))

    async def test_writes_at_one_moment_are_all_kept_but_the_one_that_is_refused(
        self, cache: ValkeySharedCache, raw: Redis
    ) -> None:
        names = [ConversationId(f"conv_{number}") for number in range(300)]
        await raw.set(cache._key(names[7]), "x")
        said = await asyncio.gather(
            *(cache.write(snapshot(number + 1, name=name)) for number, name in enumerate(names)), return_exceptions=True
        )
        assert [number for number, error in enumerate(said) if error is not None] == [7]
        assert isinstance(said[7], SharedCacheError)
        kept = [await cache.load(name) for name in names]
        assert kept == [None if number == 7 else snapshot(number + 1, name=name) for number, name in enumerate(names)]

    async def test_lives_are_drawn_between_bounds_and_short_while_a_reply_is_made(
        self, cache: ValkeySharedCache, raw: Redis
    ) -> None:
        lives = set()
        for version in range(1, 20):
            await cache.write(snapshot(version))
            lives.add(await raw.pttl(cache._key(A)))
        assert all(299_000 <= life <= 600_000 for life in lives)
        assert len(lives) > 10
        await cache.write(snapshot(30, active="gen_1"))
        assert 14_000 < await raw.pttl(cache._key(A)) <= 15_000

    async def test_an_announcement_that_cannot_be_read_counts_as_one_missed(
        self, cache: ValkeySharedCache, raw: Redis
    ) -> None:
        async with cache.listen() as listener:
            await raw.publish(cache._channel, b"not json")
            with pytest.raises(SharedCacheError, match="cannot be read"):
                await listener.next()

    async def test_a_silent_channel_of_a_living_server_is_no_loss(self, cache: ValkeySharedCache) -> None:
        async with cache.listen() as listener:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.6):
                    await listener.next()

    async def test_callers_that_leave_in_the_middle_mix_up_no_answers(self, cache: ValkeySharedCache) -> None:
        names = [ConversationId(f"conv_{number}") for number in range(40)]
        for version, name in enumerate(names, 1):
            await cache.fill(snapshot(version, name=name))
        for rounds in range(10):
            leaving = [asyncio.ensure_future(cache.load(name)) for name in names]
            for _ in range(rounds):
                await asyncio.sleep(0)
            for one in leaving[::2]:
                one.cancel()
            await asyncio.gather(*leaving, return_exceptions=True)
        for version, name in enumerate(names, 1):
            assert await cache.load(name) == snapshot(version, name=name)

    async def test_a_server_that_is_not_there_fails_every_call(self, tmp_path: Any) -> None:
        cache = ValkeySharedCache(f"unix://{tmp_path}/none", origin="a", settings=QUICK)
        calls: list[Awaitable[object]] = [cache.load(A), cache.write(snapshot(1)), cache.purge(), cache.outdate(A, 2)]
        for call in calls:
            with pytest.raises(SharedCacheError, match="does not answer"):
                await call
        with pytest.raises(SharedCacheError):
            async with cache.listen():
                pass
        await cache.aclose()

    async def test_a_hanging_server_is_noticed_within_the_deadline(self, pratique_launch: Launch) -> None:
        server = pratique_launch("valkey")
        cache = ValkeySharedCache(server.url, origin="a", settings=QUICK)
        async with cache.listen() as listener:
            await cache.write(snapshot(1))
            await listener.next()
            server.pause()
            try:
                async with asyncio.timeout(1):
                    with pytest.raises(SharedCacheError):
                        await cache.load(A)
                    with pytest.raises(SharedCacheError, match="silent"):
                        await listener.next()
            finally:
                server.resume()
        assert await cache.load(A) == snapshot(1)
        await cache.aclose()


class Replica:
    """A reader with a connection of its own."""

    def __init__(self, store: MemoryConversationStore, url: str, namespace: str, name: str) -> None:
        self.metrics = Metrics()
        self.shared = ValkeySharedCache(url, origin=name, namespace=namespace, settings=QUICK)
        self.reader = LayeredReader(store, shared=self.shared, origin=name, settings=QUICK, metrics=self.metrics)

    def count(self, spec: MetricSpec) -> int:
        return int(self.metrics.registry.get_sample_value(f"{spec.name}_total") or 0)


@contextlib.asynccontextmanager
async def two_replicas(
    store: MemoryConversationStore, url: str, namespace: str
) -> AsyncIterator[tuple[Replica, Replica]]:
    a, b = (Replica(store, url, namespace, name) for name in "ab")
    async with a.reader, b.reader:

        async def both_hear() -> bool:
            return a.reader._hears and b.reader._hears

        await eventually(both_hear)
        yield a, b
    for replica in (a, b):
        await replica.shared.aclose()


class Talk:
    """A store that conversations are begun and grown in."""

    def __init__(self) -> None:
        self.store = MemoryConversationStore()
        self._count = 0

    async def say(self, to: ConversationId | None = None) -> StoredConversation:
        self._count += 1
        begun = await self.store.begin_turn(
            owner=PrincipalId("usr_ann"),
            conversation_id=to,
            client_message_id=f"message-{self._count:04}",
            text="hello",
            options=GenerationOptions(),
        )
        outcome = Outcome(text="hi", finish_reason=FinishReason.STOP)
        return (await self.store.finish(begun.generation_id, epoch=1, outcome=outcome)).conversation


class TestTwoReplicas:
    async def test_a_write_on_one_is_seen_on_the_other(self, valkey: ValkeyNamespace) -> None:
        talk = Talk()
        async with two_replicas(talk.store, valkey.url, valkey.name) as (a, b):
            old = await talk.say()
            key = old.conversation_id
            await a.reader.written(old)
            assert await b.reader.get(key) == old
            assert b.count(L2_HIT) == 1
            new = await talk.say(key)
            await a.reader.written(new)

            async def b_sees_it() -> bool:
                return await b.reader.get(key) == new

            await eventually(b_sees_it, 2)
            await b.reader.deleted(key)

            async def a_sees_it() -> bool:
                with contextlib.suppress(ConversationNotFoundError):
                    await a.reader.get(key)
                    return False
                return True

            await eventually(a_sees_it, 2)

    async def test_a_crash_and_a_hang_of_the_server_fail_no_read_and_lose_no_write(
        self, pratique_launch: Launch
    ) -> None:
        talk = Talk()
        server = pratique_launch("valkey")
        async with two_replicas(talk.store, server.url, "pratique") as (a, b):
            said = await talk.say()
            key = said.conversation_id
            for replica in (a, b):
                await replica.reader.written(said)
            for lose, restore in ((server.kill, server.restart), (server.pause, server.resume)):
                await asyncio.to_thread(lose)
                said = await talk.say(key)
                async with asyncio.timeout(1):
                    await a.reader.written(said)

                async def b_sees_it(expected: StoredConversation = said) -> bool:
                    return await b.reader.get(key) == expected

                # Cut off, L1 lives a second: the server is not needed to see what another replica wrote.
                await eventually(b_sees_it)
                assert a.count(CACHE_L2_ERRORS) > 0
                await asyncio.to_thread(restore)

                async def l2_knows(expected: StoredConversation = said) -> bool:
                    with contextlib.suppress(SharedCacheError):
                        return await a.shared.load(key) in {None, expected}
                    return False

                await eventually(l2_knows)

                async def both_hear() -> bool:
                    return a.reader._hears and b.reader._hears

                await eventually(both_hear)
                await eventually(b_sees_it)
                said = await talk.say(key)
                await a.reader.written(said)

                async def b_sees_the_next(expected: StoredConversation = said) -> bool:
                    return await b.reader.get(key) == expected

                await eventually(b_sees_the_next)
            assert b.count(L2_MISS) > 0

    async def test_the_store_away_what_valkey_holds_is_still_read(self, valkey: ValkeyNamespace) -> None:
        talk = Talk()
        async with two_replicas(talk.store, valkey.url, valkey.name) as (a, b):
            said = await talk.say()
            await a.reader.written(said)
            talk.store.unavailable = True
            assert await b.reader.get(said.conversation_id) == said
            with pytest.raises(StoreUnavailableError):
                await b.reader.get(A)
