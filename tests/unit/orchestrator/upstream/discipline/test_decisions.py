"""What is decided without any I/O: verdicts, the retry budget, when a reply is late."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pratique.core.clock import ManualClock
from pratique.core.errors import PratiqueError
from pratique.orchestrator.upstream.discipline.latency import LatePoint
from pratique.orchestrator.upstream.discipline.retries import RetryBudget
from pratique.orchestrator.upstream.discipline.verdicts import Health, assess_health, outcome_of, was_taken
from pratique.orchestrator.upstream.interface import (
    TimeoutPhase,
    UpstreamInterruptedError,
    UpstreamRefusedError,
    UpstreamTimeoutError,
    UpstreamUnavailableError,
)

pytestmark = pytest.mark.unit

GONE = UpstreamUnavailableError("gone")
BUSY = UpstreamUnavailableError("full", is_serving=True)
CUT = UpstreamInterruptedError("cut")
WRONG = UpstreamRefusedError("no", refused_code="x")
FIRST, NEXT, WHOLE = (UpstreamTimeoutError("late", phase=phase) for phase in TimeoutPhase)


@pytest.mark.parametrize(
    ("error", "health", "outcome"),
    [
        (GONE, Health.BAD, "unavailable"),
        (BUSY, Health.UNKNOWN, "busy"),
        (CUT, Health.BAD, "interrupted"),
        (WRONG, Health.GOOD, "refused"),
        (FIRST, Health.BAD, "no_first_token"),
        (NEXT, Health.BAD, "no_inter_token"),
        (WHOLE, Health.UNKNOWN, "reply_too_long"),
    ],
)
def test_errors_say_something_of_the_servers_or_nothing(error: PratiqueError, health: Health, outcome: str) -> None:
    assert assess_health(error, is_cut_short=False) is health
    assert outcome_of(error) == outcome


def test_our_own_impatience_is_not_held_against_them() -> None:
    assert assess_health(FIRST, is_cut_short=True) is Health.UNKNOWN
    assert assess_health(NEXT, is_cut_short=True) is Health.BAD


@pytest.mark.parametrize(
    ("error", "took_seconds", "expected"),
    [(GONE, 0.1, False), (GONE, 2.0, True), (BUSY, 0.1, True), (CUT, 0.1, True), (FIRST, 0.1, True)],
)
def test_quick_refusals_alone_are_a_wait(error: PratiqueError, took_seconds: float, expected: bool) -> None:
    assert was_taken(error, took_seconds=took_seconds, quick_refusal_seconds=2.0) is expected


class TestRetryBudget:
    async def test_begins_full_is_spent_and_refilled_by_time(self) -> None:
        clock = ManualClock()
        budget = RetryBudget(clock=clock, share=0.2, floor_per_second=2, burst=3)
        assert [budget.try_spend() for _ in range(4)] == [True, True, True, False]
        assert budget.wait_seconds == 0.5
        await clock.advance(0.5)
        assert [budget.try_spend() for _ in range(2)] == [True, False]
        await clock.advance(100)
        assert (budget.balance, budget.wait_seconds) == (3.0, 0.0)

    def test_requests_pay_in_their_share(self) -> None:
        budget = RetryBudget(clock=ManualClock(), share=0.2, floor_per_second=1, burst=2)
        while budget.try_spend():
            pass
        for _ in range(4):
            budget.requested()
            assert not budget.try_spend()
        budget.requested()
        budget.requested()
        assert budget.try_spend()
        for _ in range(99):
            budget.requested()
        assert budget.balance == 2.0

    @given(st.lists(st.sampled_from(["request", "retry", "tick"]), max_size=200))
    @settings(max_examples=50, deadline=None)
    def test_never_more_than_the_share_the_floor_and_the_burst(self, steps: list[str]) -> None:
        now = 0.0

        class Hand(ManualClock):
            def monotonic(self) -> float:
                return now

        budget = RetryBudget(clock=Hand(), share=0.2, floor_per_second=1, burst=5)
        allowed = 0
        for step in steps:
            if step == "request":
                budget.requested()
            elif step == "retry":
                allowed += budget.try_spend()
            else:
                now += 0.25
        assert allowed <= 5 + 0.2 * steps.count("request") + now + 1e-9


class TestLatePoint:
    def test_unknown_before_enough_was_seen(self) -> None:
        late = LatePoint(least_seconds=0.1)
        for _ in range(19):
            late.observe(1.0)
        assert late.seconds is None
        late.observe(1.0)
        assert late.seconds == 1.0

    def test_is_the_95th_percentile_of_the_newest(self) -> None:
        late = LatePoint(least_seconds=0.1)
        for number in range(300):
            late.observe(float(number))
        assert late.seconds == 289.0

    def test_never_below_its_bound(self) -> None:
        late = LatePoint(least_seconds=0.1)
        for _ in range(20):
            late.observe(0.001)
        assert late.seconds == 0.1
