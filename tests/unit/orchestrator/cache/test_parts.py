"""The parts of the read path that decide: L1, floors, negatives, repairs, flights."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from enum import Enum
from typing import TYPE_CHECKING, Any

import anyio
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pratique.core.clock import ManualClock
from pratique.core.ids import ConversationId, PrincipalId
from pratique.orchestrator.cache._repairs import Repairs
from pratique.orchestrator.cache.flights import Flight, Flights
from pratique.orchestrator.cache.floors import Floors
from pratique.orchestrator.cache.local import LocalCache, estimate_bytes
from pratique.orchestrator.cache.negatives import Negatives
from pratique.orchestrator.conversations import StoredConversation, StoreUnavailableError
from pratique.orchestrator.protocol.events import (
    Conversation,
    EventError,
    ReplyDetails,
    Role,
    Route,
    Source,
    Turn,
    TurnStatus,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable

pytestmark = pytest.mark.unit

A, B, C = (ConversationId(f"conv_{letter}") for letter in "abc")


def snapshot(name: ConversationId, version: int = 1, text: str = "hello") -> StoredConversation:
    turn = Turn(turn_id="turn_1", role=Role.USER, text=text, status=TurnStatus.COMPLETE, created_at=0)
    conversation = Conversation(
        conversation_id=name, title="", created_at=0, updated_at=0, version=version, turns=(turn,)
    )
    return StoredConversation(owner=PrincipalId("usr_a"), conversation=conversation)


def grown(made: list[tuple[str, bool, list[str] | None]]) -> StoredConversation:
    """A conversation with a turn for each: its text, whether it failed, and the titles of its sources."""
    turns = tuple(
        Turn(
            turn_id=new_text(number),
            role=Role.ASSISTANT,
            text=text,
            status=TurnStatus.PARTIAL,
            created_at=1e9 + number,
            generation_id=new_text(number),
            error=EventError(code=new_text(number), message=text, hint=text, fallback=text) if is_failed else None,
            details=None
            if titles is None
            else ReplyDetails(
                route=Route(pool=new_text(number), model=text, policy="p", reason=text),
                sources=tuple(Source(source_id=new_text(number), title=title, url=title) for title in titles),
                notice=text,
                degraded=tuple(titles),
            ),
        )
        for number, (text, is_failed, titles) in enumerate(made)
    )
    conversation = Conversation(
        conversation_id=new_text(0),
        title="".join(text for text, *_ in made),
        created_at=1.5,
        updated_at=2.5,
        version=10**9,
        turns=turns,
    )
    return StoredConversation(owner=PrincipalId(new_text(1)), conversation=conversation)


def new_text(number: int) -> str:
    return f"conv_{number:032}"


def deep_size(value: object) -> int:
    """What the interpreter says of an object and all that is its own: enums, small numbers and None are shared."""
    if value is None or isinstance(value, bool | Enum):
        return 0
    children: tuple[Any, ...] = ()
    if isinstance(value, msgspec.Struct):
        children = tuple(getattr(value, name) for name in value.__struct_fields__)
    elif isinstance(value, tuple):
        children = value
    return sys.getsizeof(value) + sum(map(deep_size, children))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


class TestLocalCache:
    @pytest.fixture
    def evicted(self) -> Counter[str]:
        return Counter()

    @pytest.fixture
    def local(self, clock: ManualClock, evicted: Counter[str]) -> LocalCache:
        return LocalCache(
            clock=clock, max_entries=2, max_bytes=10_000, on_evict=lambda reason: evicted.update([reason])
        )

    def test_an_older_version_never_replaces_a_newer_one(self, local: LocalCache) -> None:
        local.put(snapshot(A, 5), life_seconds=10)
        local.put(snapshot(A, 4), life_seconds=10)
        assert local.get(A) == snapshot(A, 5)
        local.put(snapshot(A, 6), life_seconds=10)
        assert local.get(A) == snapshot(A, 6)

    async def test_an_entry_lives_as_long_as_it_was_given(self, local: LocalCache, clock: ManualClock) -> None:
        local.put(snapshot(A), life_seconds=10)
        await clock.advance(9.99)
        assert local.get(A) is not None
        await clock.advance(0.01)
        assert local.get(A) is None
        assert (len(local), local.num_bytes) == (0, 0)

    def test_the_least_recently_used_leaves_first(self, local: LocalCache, evicted: Counter[str]) -> None:
        for name in (A, B):
            local.put(snapshot(name), life_seconds=10)
        local.get(A)
        local.put(snapshot(C), life_seconds=10)
        assert [local.get(name) is not None for name in (A, B, C)] == [True, False, True]
        assert evicted == {"entries": 1}

    def test_bytes_are_bounded_too(self, local: LocalCache, evicted: Counter[str]) -> None:
        for name in (A, B):
            local.put(snapshot(name, text="é" * 1500), life_seconds=10)
        assert [local.get(name) is not None for name in (A, B)] == [False, True]
        local.put(snapshot(C, text="x" * 20_000), life_seconds=10)
        assert local.get(C) is None
        assert local.get(B) is not None
        assert evicted == {"bytes": 2}

    def test_what_is_outdated_is_forgotten_and_what_is_not_stays(self, local: LocalCache) -> None:
        local.put(snapshot(A, 5), life_seconds=10)
        local.outdate(A, 5)
        local.outdate(B, 5)
        assert local.get(A) is not None
        local.outdate(A, 6)
        assert local.get(A) is None

    @settings(max_examples=20)
    @given(
        st.lists(
            st.tuples(st.text(max_size=100), st.booleans(), st.none() | st.lists(st.text(max_size=20), max_size=3)),
            max_size=5,
        )
    )
    def test_the_estimate_is_not_below_what_the_interpreter_says_nor_far_above(
        self, made: list[tuple[str, bool, list[str] | None]]
    ) -> None:
        value = grown(made)
        actual = deep_size(value)
        assert actual <= estimate_bytes(value) <= 5 * actual + 2_000

    @given(st.lists(st.tuples(st.sampled_from([A, B, C]), st.integers(0, 5), st.integers(0, 6000)), max_size=40))
    def test_the_count_of_bytes_is_always_that_of_what_is_there(
        self, puts: list[tuple[ConversationId, int, int]]
    ) -> None:
        local = LocalCache(clock=ManualClock(), max_entries=2, max_bytes=10_000)
        for name, version, size in puts:
            local.put(snapshot(name, version, "x" * size), life_seconds=1)
            held = [local.get(key) for key in (A, B, C)]
            assert local.num_bytes == sum(estimate_bytes(one) for one in held if one is not None) <= 10_000
            assert len(local) <= 2
        local.clear()
        assert (len(local), local.num_bytes) == (0, 0)


def test_floors_only_rise_and_are_bounded() -> None:
    floors = Floors(2)
    floors.rise(A, 5)
    floors.rise(A, 3)
    assert floors.of(A) == 5
    floors.rise(B, 1)
    floors.rise(C, 1)
    assert (floors.of(A), len(floors)) == (0, 2)


async def test_negatives_are_believed_briefly_and_bounded(clock: ManualClock) -> None:
    negatives = Negatives(clock=clock, limit=2)
    negatives.add(A, life_seconds=2)
    assert negatives.knows(A)
    await clock.advance(2)
    assert not negatives.knows(A)
    for name in (A, B, C):
        negatives.add(name, life_seconds=2)
    assert [negatives.knows(name) for name in (A, B, C)] == [False, True, True]
    negatives.forget(B)
    assert not negatives.knows(B)
    negatives.clear()
    assert len(negatives) == 0


class TestRepairs:
    def test_only_the_newest_version_counts_as_told(self) -> None:
        repairs = Repairs(10)
        repairs.add(A, 3)
        repairs.add(A, 2)
        assert repairs.pending() == [(A, 3)]
        repairs.told(A, 2)
        assert repairs.waits(A)
        repairs.told(A, 3)
        repairs.told(B, 1)
        assert not repairs.waits(A)

    def test_too_many_make_everything_count_as_old(self) -> None:
        repairs = Repairs(1)
        repairs.add(A, 1)
        repairs.add(B, 1)
        assert repairs.waits(C)
        assert len(repairs) == 0
        repairs.purged()
        assert not repairs.waits(C)


class TestFlights:
    async def test_a_waiter_that_leaves_cancels_nobody(self) -> None:
        release = asyncio.Event()
        loads = 0

        async def load(_: Flight[str, int]) -> int:
            nonlocal loads
            loads += 1
            await release.wait()
            return 7

        async with anyio.create_task_group() as tasks:
            flights: Flights[str, int] = Flights(tasks, load)
            waiters = [asyncio.ensure_future(flights.join("k")[0].result()) for _ in range(5)]
            await asyncio.sleep(0)
            waiters[0].cancel()
            await asyncio.sleep(0)
            release.set()
            told = await asyncio.gather(*waiters, return_exceptions=True)
        assert isinstance(told[0], asyncio.CancelledError)
        assert told[1:] == [7] * 4
        assert (loads, len(flights)) == (1, 0)

    async def test_a_failed_flight_fails_its_waiters_and_the_next_loads_again(self) -> None:
        answers: list[int | Exception] = [StoreUnavailableError("down"), 7]

        async def load(_: Flight[str, int]) -> int:
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        async with anyio.create_task_group() as tasks:
            flights: Flights[str, int] = Flights(tasks, load)
            both: list[Awaitable[int]] = [flights.join("k")[0].result() for _ in range(2)]
            told = await asyncio.gather(*both, return_exceptions=True)
            assert [type(one) for one in told] == [StoreUnavailableError] * 2
            assert await flights.join("k")[0].result() == 7

    async def test_whoever_asks_after_an_invalidation_gets_a_new_flight(self) -> None:
        release = [asyncio.Event(), asyncio.Event()]
        floors: list[int] = []
        count = 0

        async def load(flight: Flight[str, int]) -> int:
            nonlocal count
            mine, count = count, count + 1
            await release[mine].wait()
            floors.append(flight.floor)
            return mine

        async with anyio.create_task_group() as tasks:
            flights: Flights[str, int] = Flights(tasks, load)
            old, _ = flights.join("k")
            flights.outdate("k", 5)
            flights.outdate("other", 5)
            new, was_under_way = flights.join("k")
            assert not was_under_way
            await asyncio.sleep(0)
            release[0].set()
            assert await old.result() == 0
            assert len(flights) == 1
            release[1].set()
            assert await new.result() == 1
        assert floors == [5, 0]

    async def test_what_never_lands_fails_its_waiters(self) -> None:
        async def load(_: Flight[str, int]) -> int:
            await asyncio.Event().wait()
            return 0

        async with anyio.create_task_group() as tasks:
            flights: Flights[str, int] = Flights(tasks, load)
            waiter = asyncio.ensure_future(flights.join("k")[0].result())
            await asyncio.sleep(0)
            tasks.cancel_scope.cancel()
        flights.abort()
        with pytest.raises(StoreUnavailableError):
            await waiter
