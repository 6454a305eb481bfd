"""Every limiter under one contract: in memory, in Valkey, and in Valkey behind the guard against its loss."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from pratique.core.clock import ManualClock, SystemClock
from pratique.core.ids import PrincipalId
from pratique.core.metrics import Metrics
from pratique.orchestrator.access import Principal, PrincipalKind
from pratique.orchestrator.access.limits.interface import LimitExceededError, Reservation
from pratique.orchestrator.access.limits.memory import MemoryLimiter
from pratique.orchestrator.access.limits.shared import SharedLimiter
from pratique.orchestrator.access.limits.valkey import LimitsUnavailableError, ValkeyLimiter
from pratique.orchestrator.access.settings import LimitsSettings, TierSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from pratique.orchestrator.access.limits.interface import Limiter
    from pratique.testkit.kit import PrivateServer

pytestmark = pytest.mark.integration

ALICE, BOB, PARTNER = (
    Principal(principal_id=PrincipalId(name), kind=PrincipalKind.SESSION, name="x", tier=tier)
    for name, tier in (("usr_alice", ""), ("usr_bob", "unheard-of"), ("key_partner", "partners"))
)


@pytest.fixture(params=["memory", "valkey", "shared"])
async def make(
    request: pytest.FixtureRequest, pratique_launch: Callable[[str], PrivateServer[Any]]
) -> AsyncIterator[Any]:
    url = "" if request.param == "memory" else pratique_launch("valkey").url
    opened: list[ValkeyLimiter] = []

    def made(**limits: Any) -> Limiter:
        wanted = LimitsSettings(store_timeout_seconds=5, **limits)
        local = MemoryLimiter(wanted, clock=SystemClock())
        if request.param == "memory":
            return local
        opened.append(ValkeyLimiter(url, wanted))
        if request.param == "valkey":
            return opened[-1]
        return SharedLimiter(opened[-1], local, wanted, clock=SystemClock(), metrics=Metrics())

    yield made
    for one in opened:
        await one.aclose()


async def reserve(limiter: Limiter, name: str, *, tokens: int = 1, who: Principal = ALICE) -> Reservation:
    wanted = Reservation(principal=who, name=name, tokens=tokens)
    assert await limiter.reserve(wanted)
    return wanted


async def is_taken(limiter: Limiter, name: str, *, tokens: int = 1) -> bool:
    return await limiter.reserve(Reservation(principal=ALICE, name=name, tokens=tokens))


async def refused(limiter: Limiter, name: str, *, tokens: int = 1, who: Principal = ALICE) -> LimitExceededError:
    with pytest.raises(LimitExceededError) as found:
        await reserve(limiter, name, tokens=tokens, who=who)
    return found.value


async def test_requests_beyond_the_rate_are_refused_with_when_and_others_are_not(make: Any) -> None:
    limiter = make(requests_per_minute=2)
    for name in ("one", "two"):
        await reserve(limiter, name)
    error = await refused(limiter, "three")
    assert (error.limit, error.quota) == ("requests", 2)
    assert 20 < error.retry_after_seconds <= 30
    await reserve(limiter, "one", who=BOB)


async def test_replies_at_once_are_bounded_until_one_is_settled(make: Any) -> None:
    limiter = make(concurrent=1)
    taken = await reserve(limiter, "one")
    assert (await refused(limiter, "two")).limit == "concurrency"
    await limiter.settle(taken, tokens=5)
    await reserve(limiter, "two")


async def test_unused_tokens_are_given_back_and_those_used_beyond_the_estimate_taken(make: Any) -> None:
    limiter = make(tokens_per_day=1000)
    one = await reserve(limiter, "one", tokens=900)
    assert (await refused(limiter, "two", tokens=900)).limit == "tokens"
    await limiter.settle(one, tokens=50)
    await limiter.settle(await reserve(limiter, "two", tokens=900), tokens=1900)
    await refused(limiter, "three")


async def test_tokens_that_nobody_counted_stay_taken(make: Any) -> None:
    limiter = make(tokens_per_day=1000)
    await limiter.settle(await reserve(limiter, "one", tokens=900), tokens=None)
    await refused(limiter, "two", tokens=200)


async def test_what_costs_more_than_all_fits_once(make: Any) -> None:
    limiter = make(tokens_per_day=100)
    taken = await reserve(limiter, "one", tokens=5000)
    await refused(limiter, "two")
    await limiter.settle(taken, tokens=10)
    await reserve(limiter, "two", tokens=80)


async def test_what_is_reserved_is_charged_once_until_it_is_settled(make: Any) -> None:
    limiter = make(requests_per_minute=2, concurrent=1, tokens_per_day=100)
    taken = await reserve(limiter, "one", tokens=60)
    for _ in range(2):
        assert not await is_taken(limiter, "one", tokens=60)
    for _ in range(2):
        await limiter.settle(taken, tokens=20)
    assert await is_taken(limiter, "one", tokens=80)
    assert (await refused(limiter, "two")).limit == "concurrency"


async def test_only_who_reserved_settles(make: Any) -> None:
    limiter = make(concurrent=1, tokens_per_day=100)
    taken = await reserve(limiter, "one", tokens=60)
    await limiter.settle(Reservation(principal=ALICE, name="one", tokens=60), tokens=0)
    assert (await refused(limiter, "two")).limit == "concurrency"
    await limiter.settle(taken, tokens=60)
    again = await reserve(limiter, "one", tokens=30)
    # Late, and of another call: nothing to do with the one that runs now.
    await limiter.settle(taken, tokens=0)
    assert (await refused(limiter, "two")).limit == "concurrency"
    await limiter.settle(again, tokens=0)
    await reserve(limiter, "two", tokens=40)


async def test_what_used_nothing_is_given_back(make: Any) -> None:
    limiter = make(tokens_per_day=100)
    await limiter.settle(await reserve(limiter, "one", tokens=100), tokens=0)
    assert await is_taken(limiter, "one", tokens=100)
    await refused(limiter, "two")


async def test_a_refusal_takes_nothing(make: Any) -> None:
    limiter = make(requests_per_minute=3, tokens_per_day=100)
    await reserve(limiter, "one", tokens=90)
    for number in range(5):
        assert (await refused(limiter, f"more-{number}", tokens=20)).limit == "tokens"
    await reserve(limiter, "two", tokens=10)


async def test_a_reservation_of_the_dead_ends_by_itself(make: Any) -> None:
    limiter = make(concurrent=1, reservation_seconds=0.2)
    await reserve(limiter, "one")
    await refused(limiter, "two")
    await asyncio.sleep(0.3)
    await reserve(limiter, "two")


async def test_a_tier_has_its_own_limits_and_an_unknown_one_the_general(make: Any) -> None:
    limiter = make(requests_per_minute=1, tiers={"partners": TierSettings(requests_per_minute=3)})
    for number in range(3):
        await reserve(limiter, f"m{number}", who=PARTNER)
    await refused(limiter, "m3", who=PARTNER)
    await reserve(limiter, "one", who=BOB)
    await refused(limiter, "two", who=BOB)


async def test_of_many_at_once_exactly_as_many_pass_as_may(make: Any) -> None:
    limiter = make(requests_per_minute=10)
    asked = [is_taken(limiter, f"m{number}") for number in range(50)]
    results = await asyncio.gather(*asked, return_exceptions=True)
    assert results.count(True) == 10
    assert all(result is True or isinstance(result, LimitExceededError) for result in results)


async def test_replicas_share_what_is_left_and_a_server_that_hangs_hinders_nobody(
    pratique_launch: Callable[[str], PrivateServer[Any]],
) -> None:
    server = pratique_launch("valkey")
    limits = LimitsSettings(requests_per_minute=2, store_timeout_seconds=0.2)
    replicas = [ValkeyLimiter(server.url, limits) for _ in range(2)]
    guarded = SharedLimiter(
        replicas[0], MemoryLimiter(limits, clock=SystemClock()), limits, clock=SystemClock(), metrics=Metrics()
    )
    try:
        await reserve(replicas[0], "one")
        await reserve(replicas[1], "two")
        await refused(replicas[0], "three")
        server.pause()
        try:
            with pytest.raises(LimitsUnavailableError):
                await reserve(replicas[1], "four")
            async with asyncio.timeout(5):
                taken = await reserve(guarded, "five")
                await reserve(guarded, "six")
                await refused(guarded, "seven")
                await guarded.settle(taken, tokens=1)
        finally:
            server.resume()
    finally:
        for replica in replicas:
            await replica.aclose()


async def test_what_a_store_that_hung_took_all_the_same_locks_nobody_out_once_it_answers(
    pratique_launch: Callable[[str], PrivateServer[Any]],
) -> None:
    server = pratique_launch("valkey")
    limits = LimitsSettings(concurrent=1, tokens_per_day=1000, store_timeout_seconds=0.2)
    store, clock = ValkeyLimiter(server.url, limits), ManualClock()
    guarded = SharedLimiter(store, MemoryLimiter(limits, clock=clock), limits, clock=clock, metrics=Metrics())
    try:
        # So that there is a connection, and the server knows the scripts.
        await guarded.settle(await reserve(guarded, "before"), tokens=0)
        server.pause()
        try:
            # Nobody answers, but it is in the server's buffers: it is done when the server goes on.
            during = await reserve(guarded, "during", tokens=900)
            await guarded.settle(during, tokens=300)
        finally:
            server.resume()
        await clock.advance(1)
        assert (await refused(guarded, "after", tokens=750)).limit == "tokens"
        after = await reserve(guarded, "after", tokens=600)
        server.pause()
        try:
            await guarded.settle(after, tokens=100)
        finally:
            server.resume()
        await clock.advance(1)
        await guarded.settle(await reserve(guarded, "last", tokens=500), tokens=0)
        # Settled before it arrives: it is not made any more.
        late = Reservation(principal=ALICE, name="late", tokens=10)
        await store.settle(late, tokens=0)
        assert not await store.reserve(late)
        await reserve(store, "late")
    finally:
        await store.aclose()
