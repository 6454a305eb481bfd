"""The circuit breaker: who may ask, after what was heard."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pratique.core.breaker import Breaker, BreakerState, FailureShare
from pratique.core.clock import ManualClock

pytestmark = pytest.mark.unit


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def breaker(clock: ManualClock) -> Breaker:
    return Breaker(clock=clock, failures=3, pause_seconds=1, max_pause_seconds=4)


def opened(breaker: Breaker) -> Breaker:
    while not breaker.is_open:
        breaker.failed()
    return breaker


def test_failures_in_a_row_open_it(breaker: Breaker) -> None:
    for _ in range(2):
        breaker.failed()
    breaker.succeeded()
    for _ in range(2):
        breaker.failed()
    assert breaker.may_ask()
    assert (breaker.state, breaker.retry_after_seconds) == (BreakerState.CLOSED, 0.0)
    breaker.failed()
    assert breaker.is_open
    assert not breaker.may_ask()
    assert (breaker.state, breaker.retry_after_seconds) == (BreakerState.OPEN, 1.0)


async def test_after_the_pause_one_tries_and_its_success_closes(breaker: Breaker, clock: ManualClock) -> None:
    opened(breaker)
    await clock.advance(1)
    assert (breaker.state, breaker.retry_after_seconds) == (BreakerState.HALF_OPEN, 0.0)
    assert [breaker.may_ask() for _ in range(3)] == [True, False, False]
    assert breaker.state is BreakerState.HALF_OPEN
    breaker.succeeded()
    assert breaker.may_ask()
    assert not breaker.is_open


async def test_each_failed_trial_doubles_the_pause_to_its_bound(breaker: Breaker, clock: ManualClock) -> None:
    opened(breaker)
    for pause in (1, 2, 4, 4):
        await clock.advance(pause - 0.01)
        assert not breaker.may_ask()
        await clock.advance(0.01)
        assert breaker.may_ask()
        breaker.failed()
    await clock.advance(4)
    breaker.may_ask()
    breaker.succeeded()
    assert opened(breaker).retry_after_seconds == 1.0


async def test_calls_begun_before_it_opened_do_not_make_the_pause_longer(breaker: Breaker, clock: ManualClock) -> None:
    opened(breaker)
    for _ in range(10):
        breaker.failed()
    await clock.advance(1)
    assert breaker.may_ask()


async def test_a_trial_that_never_reports_back_is_followed_by_another(breaker: Breaker, clock: ManualClock) -> None:
    opened(breaker)
    await clock.advance(1)
    assert breaker.may_ask()
    await clock.advance(1)
    assert breaker.may_ask()


async def test_a_slow_trial_stays_the_only_one_for_as_long_as_it_may_take(clock: ManualClock) -> None:
    breaker = opened(Breaker(clock=clock, failures=1, pause_seconds=1, max_pause_seconds=4, trial_seconds=6))
    await clock.advance(1)
    assert breaker.may_ask()
    # It may be back at any moment: who waits looks again after a pause.
    assert breaker.retry_after_seconds == 1.0
    await clock.advance(5.9)
    assert not breaker.may_ask()
    await clock.advance(0.1)
    assert breaker.may_ask()


async def test_after_an_abandoned_trial_the_next_caller_is_the_trial(breaker: Breaker, clock: ManualClock) -> None:
    opened(breaker)
    await clock.advance(1)
    assert breaker.may_ask()
    breaker.abandoned()
    assert breaker.is_open
    assert [breaker.may_ask() for _ in range(2)] == [True, False]


def test_abandoned_calls_neither_open_nor_close_it(breaker: Breaker) -> None:
    for _ in range(99):
        breaker.abandoned()
    assert not breaker.is_open
    opened(breaker).abandoned()
    assert breaker.state is BreakerState.OPEN


class TestShare:
    @pytest.fixture
    def breaker(self, clock: ManualClock) -> Breaker:
        share = FailureShare(share=0.5, min_calls=10, window_seconds=10)
        return Breaker(clock=clock, failures=100, pause_seconds=1, max_pause_seconds=4, share=share)

    def alternate(self, breaker: Breaker, num_pairs: int) -> None:
        for _ in range(num_pairs):
            breaker.succeeded()
            breaker.failed()

    def test_half_of_enough_calls_opens_it(self, breaker: Breaker) -> None:
        self.alternate(breaker, 4)
        assert not breaker.is_open
        self.alternate(breaker, 1)
        assert breaker.is_open

    async def test_what_is_older_than_the_window_is_forgotten(self, breaker: Breaker, clock: ManualClock) -> None:
        self.alternate(breaker, 4)
        await clock.advance(11)
        self.alternate(breaker, 4)
        assert not breaker.is_open

    async def test_what_was_counted_before_it_was_down_does_not_open_it_again(
        self, breaker: Breaker, clock: ManualClock
    ) -> None:
        self.alternate(breaker, 5)
        await clock.advance(1)
        assert breaker.may_ask()
        breaker.succeeded()
        breaker.failed()
        assert not breaker.is_open


@given(st.lists(st.sampled_from(["ask", "good", "bad", "left", "wait"]), max_size=60))
@settings(max_examples=50, deadline=None)
def test_whatever_happens_somebody_may_ask_again_within_the_longest_pause(steps: list[str]) -> None:
    now = 0.0

    class Hand(ManualClock):
        def monotonic(self) -> float:
            return now

    breaker = Breaker(
        clock=Hand(), failures=2, pause_seconds=1, max_pause_seconds=4, share=FailureShare(min_calls=4), trial_seconds=3
    )
    for step in steps:
        match step:
            case "ask":
                breaker.may_ask()
            case "good":
                breaker.succeeded()
            case "bad":
                breaker.failed()
            case "left":
                breaker.abandoned()
            case _:
                now += 0.7
    now += 4.0
    assert breaker.may_ask()
