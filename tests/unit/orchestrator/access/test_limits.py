"""Limits: what is refused and when it fits again, what is given back, what is charged once; the store's absence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pratique.core.catalogue.access import LIMITS_DEGRADED
from pratique.core.clock import ManualClock
from pratique.core.ids import PrincipalId
from pratique.core.metrics import Metrics
from pratique.orchestrator.access import Principal, PrincipalKind
from pratique.orchestrator.access.limits.interface import LimitExceededError, Reservation, Unlimited
from pratique.orchestrator.access.limits.memory import MemoryLimiter
from pratique.orchestrator.access.limits.pace import CallPace, Connections, FramePace, NewSessions
from pratique.orchestrator.access.limits.policy import Level, buckets_of, drained, wait_seconds
from pratique.orchestrator.access.limits.shared import SharedLimiter
from pratique.orchestrator.access.limits.valkey import LimitsUnavailableError
from pratique.orchestrator.access.settings import LimitsSettings, TierSettings

if TYPE_CHECKING:
    from pratique.orchestrator.access.limits.interface import Limiter

pytestmark = pytest.mark.unit


def principal(name: str = "usr_1", *, tier: str = "") -> Principal:
    return Principal(principal_id=PrincipalId(name), kind=PrincipalKind.SESSION, name="x", tier=tier)


def wanted(name: str, *, tokens: int = 1, who: str = "usr_1") -> Reservation:
    return Reservation(principal=principal(who), name=name, tokens=tokens)


async def reserve(limiter: Limiter, name: str, *, tokens: int = 1, who: str = "usr_1") -> Reservation:
    one = wanted(name, tokens=tokens, who=who)
    assert await limiter.reserve(one)
    return one


async def refusal(limiter: Limiter, name: str, *, tokens: int = 1) -> LimitExceededError:
    with pytest.raises(LimitExceededError) as refused:
        await reserve(limiter, name, tokens=tokens)
    assert refused.value.code == "rate_limited"
    return refused.value


class TestPolicy:
    def test_without_limits_there_are_no_buckets(self) -> None:
        assert buckets_of(TierSettings()) == ()

    @settings(max_examples=50, deadline=None)
    @given(st.integers(1, 1000), st.lists(st.tuples(st.floats(0, 120), st.integers(1, 50)), max_size=40))
    def test_no_window_takes_more_than_twice_the_capacity(self, capacity: int, asked: list[tuple[float, int]]) -> None:
        """The bound of a leaky bucket: a full one at once, and what drains in the window."""
        [bucket] = buckets_of(TierSettings(tokens_per_minute=capacity))
        now, found, taken = 0.0, Level(), []
        for pause, tokens in asked:
            now += pause
            level = drained(found, bucket, now)
            cost = bucket.cost(tokens)
            wait = wait_seconds(level, bucket, cost)
            if wait == 0:
                found = Level(level + cost, now)
                taken.append((now, cost))
            else:
                # What it says is enough, and no less is.
                assert wait_seconds(drained(Level(level, now), bucket, now + wait), bucket, cost) < 1e-6
        for start, _ in taken:
            assert sum(cost for at, cost in taken if start <= at < start + 60) <= 2 * capacity + 1e-6

    def test_a_clock_that_went_back_gives_nothing_away(self) -> None:
        [bucket] = buckets_of(TierSettings(requests_per_minute=10))
        assert drained(Level(5, 100), bucket, 0) == 5


class TestFrames:
    def test_frames_come_in_a_burst_then_at_their_rate(self) -> None:
        pace = FramePace(LimitsSettings(frames_per_second=10, frames_burst=3))
        for _ in range(3):
            pace.verify(100.0)
        with pytest.raises(LimitExceededError) as refused:
            pace.verify(100.0)
        assert refused.value.retry_after_seconds == pytest.approx(0.1)
        pace.verify(100.2)
        assert not pace.is_flood

    def test_who_goes_on_in_spite_of_refusals_is_a_flood(self) -> None:
        pace = FramePace(LimitsSettings(frames_per_second=1, frames_burst=2))
        pace.verify(0)
        pace.verify(0)
        for _ in range(3):
            assert not pace.is_flood
            with pytest.raises(LimitExceededError):
                pace.verify(0)
        assert pace.is_flood


class TestCalls:
    def test_callers_are_bounded_and_each_has_its_own_pace(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("pratique.orchestrator.access.limits.pace._MAX_CALLERS", 2)
        calls = CallPace(LimitsSettings(frames_per_second=1, frames_burst=1))
        for name in ("a", "b", "c"):
            calls.verify(principal(name), 5)
        assert list(calls._paces) == ["b", "c"]
        with pytest.raises(LimitExceededError) as refused:
            calls.verify(principal("b"), 5)
        assert refused.value.limit == "requests"
        calls.verify(principal("b"), 6)


class TestConnections:
    def test_a_principal_has_so_many_and_others_have_their_own(self) -> None:
        connections = Connections(LimitsSettings(connections=1))
        with connections.one(principal("a")):
            with pytest.raises(LimitExceededError), connections.one(principal("a")):
                pass
            with connections.one(principal("b")):
                pass
        with connections.one(principal("a")):
            connections.verify(principal("b"))


class TestNewSessions:
    def test_an_address_has_so_many_and_others_have_their_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("pratique.orchestrator.access.limits.pace._MAX_ADDRESSES", 2)
        sessions = NewSessions(LimitsSettings(new_sessions_per_minute=1))
        sessions.verify("a", 0)
        with pytest.raises(LimitExceededError) as refused:
            sessions.verify("a", 30)
        assert refused.value.retry_after_seconds == pytest.approx(30)
        for address in ("b", "c"):
            sessions.verify(address, 30)
        assert list(sessions._levels) == ["b", "c"]
        NewSessions(LimitsSettings()).verify("a", 0)


class TestMemory:
    async def test_principals_are_bounded_and_the_one_seen_longest_ago_leaves_first(self) -> None:
        limiter = MemoryLimiter(LimitsSettings(requests_per_minute=1), clock=ManualClock(), max_principals=2)
        for name in ("a", "b", "c"):
            await reserve(limiter, "message", who=name)
        assert list(limiter._accounts) == ["b", "c"]
        await limiter.settle(wanted("message", who="a"), tokens=0)
        assert list(limiter._accounts) == ["b", "c"]

    async def test_a_reservation_that_ended_by_itself_is_not_settled_late_and_its_tokens_stay_taken(self) -> None:
        clock = ManualClock()
        limiter = MemoryLimiter(LimitsSettings(concurrent=1, tokens_per_day=100, reservation_seconds=5), clock=clock)
        late = await reserve(limiter, "a", tokens=60)
        await clock.advance(5)
        assert not limiter.holds(late)
        taken = await reserve(limiter, "b", tokens=30)
        await limiter.settle(late, tokens=1)
        await limiter.settle(taken, tokens=30)
        await refusal(limiter, "c", tokens=30)

    async def test_what_is_settled_leaves_nothing_behind(self) -> None:
        limiter = MemoryLimiter(LimitsSettings(), clock=ManualClock())
        for number in range(10):
            await limiter.settle(await reserve(limiter, f"m{number}"), tokens=1)
        assert limiter._accounts["usr_1"].reserved == {}


class _Store:
    """A shared limiter that can be away; a fake of this process, held to the contract by the memory it is made of."""

    def __init__(self, limiter: Limiter) -> None:
        self.limiter = limiter
        self.is_away = False
        self.does_it_all_the_same = False
        self.num_asked = 0

    async def reserve(self, one: Reservation) -> bool:
        self.num_asked += 1
        if self.is_away and not self.does_it_all_the_same:
            raise LimitsUnavailableError("away")
        is_taken = await self.limiter.reserve(one)
        if self.is_away:
            raise LimitsUnavailableError("no answer")
        return is_taken

    async def settle(self, one: Reservation, *, tokens: int | None) -> None:
        self.num_asked += 1
        if self.is_away:
            raise LimitsUnavailableError("away")
        await self.limiter.settle(one, tokens=tokens)


class TestTheStoresAbsence:
    def world(self, **more: Any) -> tuple[SharedLimiter, _Store, ManualClock, Metrics]:
        clock, metrics = ManualClock(), Metrics()
        limits = LimitsSettings(**{"requests_per_minute": 2, "concurrent": 9, **more})
        store: Any = _Store(MemoryLimiter(limits, clock=clock))
        made = SharedLimiter(store, MemoryLimiter(limits, clock=clock), limits, clock=clock, metrics=metrics)
        return made, store, clock, metrics

    async def test_each_replica_counts_for_itself_and_says_so(self) -> None:
        limiter, store, clock, metrics = self.world()
        store.is_away = True
        for name in ("a", "b"):
            await reserve(limiter, name)
        await refusal(limiter, "c")
        assert metrics.gauge(LIMITS_DEGRADED)._value.get() == 1
        # It is asked once a second, by one request.
        assert store.num_asked == 1
        await clock.advance(1)
        store.is_away = False
        await reserve(limiter, "d")
        assert metrics.gauge(LIMITS_DEGRADED)._value.get() == 0
        assert store.num_asked == 2

    async def test_what_was_reserved_here_alone_is_settled_here_alone(self) -> None:
        limiter, store, clock, _ = self.world(tokens_per_minute=100, requests_per_minute=0)
        store.is_away = True
        in_doubt = await reserve(limiter, "a", tokens=50)
        taken = await reserve(limiter, "b", tokens=50)
        await clock.advance(1)
        store.is_away = False
        await limiter.settle(taken, tokens=1)
        assert store.num_asked == 1
        await limiter.settle(in_doubt, tokens=1)
        assert store.num_asked == 2

    async def test_what_was_reserved_here_is_known_when_the_store_is_back(self) -> None:
        limiter, store, clock, _ = self.world(requests_per_minute=0, concurrent=1)
        store.is_away = True
        await reserve(limiter, "a")
        await clock.advance(1)
        store.is_away = False
        assert not await limiter.reserve(wanted("a"))

    @pytest.mark.parametrize("on_store_loss", ["local", "open", "refuse"])
    async def test_what_the_store_took_without_an_answer_is_given_back_whatever_came_of_it(
        self, on_store_loss: str
    ) -> None:
        limiter, store, clock, _ = self.world(concurrent=1, requests_per_minute=9, on_store_loss=on_store_loss)
        store.is_away = store.does_it_all_the_same = True
        one = wanted("a")
        if on_store_loss == "refuse":
            with pytest.raises(LimitsUnavailableError):
                await limiter.reserve(one)
        elif await limiter.reserve(one):
            await limiter.settle(one, tokens=1)
        await clock.advance(1)
        store.is_away = False
        await reserve(limiter, "b")
        assert (limiter._owed, limiter._in_doubt) == ({}, {})

    async def test_who_is_refused_here_holds_nothing_there(self) -> None:
        limiter, store, clock, _ = self.world(concurrent=1, requests_per_minute=9)
        store.is_away = True
        await reserve(limiter, "a")
        await clock.advance(1)
        store.does_it_all_the_same = True
        await refusal(limiter, "b")
        await clock.advance(1)
        store.is_away = False
        await reserve(limiter, "c")

    async def test_what_could_not_be_settled_is_settled_when_the_store_is_back(self) -> None:
        limiter, store, clock, _ = self.world(concurrent=1, tokens_per_day=100)
        taken = await reserve(limiter, "a", tokens=90)
        store.is_away = True
        # Neither waits nor fails.
        await limiter.settle(taken, tokens=10)
        await limiter.settle(taken, tokens=10)
        assert store.num_asked == 2
        await clock.advance(1)
        store.is_away = False
        await reserve(limiter, "b", tokens=80)

    async def test_what_is_kept_for_the_store_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("pratique.orchestrator.access.limits.shared._MAX_KEPT", 3)
        limiter, store, _, _ = self.world(requests_per_minute=0)
        taken = [await reserve(limiter, f"m{number}") for number in range(9)]
        store.is_away = True
        for one in taken:
            await limiter.settle(one, tokens=1)
        assert list(limiter._owed) == taken[-3:]

    async def test_nobody_is_served_where_that_was_asked_for(self) -> None:
        limiter, store, _, _ = self.world(on_store_loss="refuse")
        store.is_away = True
        for _ in range(2):
            with pytest.raises(LimitsUnavailableError):
                await limiter.reserve(wanted("a"))

    async def test_everybody_is_served_where_that_was_asked_for(self) -> None:
        limiter, store, _, _ = self.world(on_store_loss="open")
        store.is_away = True
        for number in range(20):
            assert not await limiter.reserve(wanted(f"m{number}"))


async def test_without_limits_everything_passes() -> None:
    assert not await Unlimited().reserve(wanted("a", tokens=10**9))
    await Unlimited().settle(wanted("a"), tokens=None)
