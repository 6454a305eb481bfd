"""Every limiter under one contract: in memory, in Valkey, and in Valkey behind the guard against its loss."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from pratique.core.clock import SystemClock
from pratique.core.ids import PrincipalId
from pratique.core.metrics import Metrics
from pratique.orchestrator.access import Principal, PrincipalKind
from pratique.orchestrator.access.limits.interface import LimitExceededError
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


async def refused(limiter: Limiter, name: str, *, tokens: int = 1, who: Principal = ALICE) -> LimitExceededError:
    with pytest.raises(LimitExceededError) as found:
        await limiter.reserve(who, name, tokens=tokens)
    return found.value


async def test_requests_beyond_the_rate_are_refused_with_when_and_others_are_not(make: Any) -> None:
    limiter = make(requests_per_minute=2)
    for name in ("one", "two"):
        await limiter.reserve(ALICE, name, tokens=1)
    error = await refused(limiter, "three")
    assert (error.limit, error.quota) == ("requests", 2)
    assert 20 < error.retry_after_seconds <= 30
    await limiter.reserve(BOB, "one", tokens=1)


async def test_replies_at_once_are_bounded_until_one_is_settled(make: Any) -> None:
    limiter = make(concurrent=1)
    await limiter.reserve(ALICE, "one", tokens=1)
    assert (await refused(limiter, "two")).limit == "concurrency"
    await limiter.settle(ALICE, "one", tokens=5)
    await limiter.reserve(ALICE, "two", tokens=1)


async def test_unused_tokens_are_given_back_and_those_used_beyond_the_estimate_taken(make: Any) -> None:
    limiter = make(tokens_per_day=1000)
    await limiter.reserve(ALICE, "one", tokens=900)
    assert (await refused(limiter, "two", tokens=900)).limit == "tokens"
    await limiter.settle(ALICE, "one", tokens=50)
    await limiter.reserve(ALICE, "two", tokens=900)
    await limiter.settle(ALICE, "two", tokens=1900)
    await refused(limiter, "three")


async def test_tokens_that_nobody_counted_stay_taken(make: Any) -> None:
    limiter = make(tokens_per_day=1000)
    await limiter.reserve(ALICE, "one", tokens=900)
    await limiter.settle(ALICE, "one", tokens=None)
    await refused(limiter, "two", tokens=200)


async def test_what_costs_more_than_all_fits_once(make: Any) -> None:
    limiter = make(tokens_per_day=100)
    await limiter.reserve(ALICE, "one", tokens=5000)
    await refused(limiter, "two")
    await limiter.settle(ALICE, "one", tokens=10)
    await limiter.reserve(ALICE, "two", tokens=80)


async def test_the_same_id_is_charged_once_while_it_runs_and_after(make: Any) -> None:
    limiter = make(requests_per_minute=1, concurrent=1, tokens_per_day=100)
    assert await limiter.reserve(ALICE, "one", tokens=60)
    for _ in range(2):
        assert not await limiter.reserve(ALICE, "one", tokens=60)
    for _ in range(2):
        await limiter.settle(ALICE, "one", tokens=60)
    assert not await limiter.reserve(ALICE, "one", tokens=60)
    assert (await refused(limiter, "two")).limit == "requests"


async def test_what_used_nothing_is_forgotten_so_that_it_is_charged_when_it_comes_again(make: Any) -> None:
    limiter = make(tokens_per_day=100)
    await limiter.reserve(ALICE, "one", tokens=100)
    await limiter.settle(ALICE, "one", tokens=0)
    assert await limiter.reserve(ALICE, "one", tokens=100)
    await refused(limiter, "two")


async def test_a_refusal_takes_nothing(make: Any) -> None:
    limiter = make(requests_per_minute=3, tokens_per_day=100)
    await limiter.reserve(ALICE, "one", tokens=90)
    for number in range(5):
        assert (await refused(limiter, f"more-{number}", tokens=20)).limit == "tokens"
    await limiter.reserve(ALICE, "two", tokens=10)


async def test_a_reservation_of_the_dead_ends_by_itself(make: Any) -> None:
    limiter = make(concurrent=1, reservation_seconds=0.2)
    await limiter.reserve(ALICE, "one", tokens=1)
    await refused(limiter, "two")
    await asyncio.sleep(0.3)
    await limiter.reserve(ALICE, "two", tokens=1)


async def test_a_tier_has_its_own_limits_and_an_unknown_one_the_general(make: Any) -> None:
    limiter = make(requests_per_minute=1, tiers={"partners": TierSettings(requests_per_minute=3)})
    for number in range(3):
        await limiter.reserve(PARTNER, f"m{number}", tokens=1)
    await refused(limiter, "m3", who=PARTNER)
    await limiter.reserve(BOB, "one", tokens=1)
    await refused(limiter, "two", who=BOB)


async def test_of_many_at_once_exactly_as_many_pass_as_may(make: Any) -> None:
    limiter = make(requests_per_minute=10)
    asked = [limiter.reserve(ALICE, f"m{number}", tokens=1) for number in range(50)]
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
        await replicas[0].reserve(ALICE, "one", tokens=1)
        await replicas[1].reserve(ALICE, "two", tokens=1)
        await refused(replicas[0], "three")
        server.pause()
        try:
            with pytest.raises(LimitsUnavailableError):
                await replicas[1].reserve(ALICE, "four", tokens=1)
            async with asyncio.timeout(5):
                await guarded.reserve(ALICE, "five", tokens=1)
                await guarded.reserve(ALICE, "six", tokens=1)
                await refused(guarded, "seven")
                await guarded.settle(ALICE, "five", tokens=1)
        finally:
            server.resume()
    finally:
        for replica in replicas:
            await replica.aclose()
