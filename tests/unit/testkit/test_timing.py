"""Assertions on time, on a clock that the tests turn themselves."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Any

import pytest

from pratique.testkit.errors import TestkitUsageError
from pratique.testkit.timing import SlaError, eventually, eventually_async, require_seconds, within

pytestmark = pytest.mark.unit


class Clock:
    """Time goes on only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0
        self.naps: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now += seconds

    async def sleep_async(self, seconds: float) -> None:
        self.sleep(seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf, "1", None, True])
def test_what_is_no_duration_is_refused_by_name(value: Any) -> None:
    with pytest.raises(TestkitUsageError, match="latency is"):
        require_seconds("latency", value)
    with pytest.raises(TestkitUsageError, match="within is"):
        within(value)
    with pytest.raises(TestkitUsageError, match="within is"):
        eventually(lambda: True, within=value)
    with pytest.raises(TestkitUsageError, match="every is"):
        eventually(lambda: True, every=value)


def test_a_block_that_is_late_says_how_late(clock: Clock) -> None:
    with pytest.raises(SlaError, match=r"Expected the answer within 2 s, it took 2\.500 s"):  # noqa: SIM117 - one subject
        with within(2, what="the answer", clock=clock):
            clock.sleep(2.5)


def test_a_block_in_time_passes_and_tells_how_long_it_took(clock: Clock) -> None:
    with within(2, clock=clock) as block:
        clock.sleep(2)
    assert block.elapsed_seconds == 2


def test_an_error_of_a_late_block_goes_through_as_it_is(clock: Clock) -> None:
    def fail_late() -> None:
        with within(1, clock=clock):
            clock.sleep(5)
            raise KeyError

    with pytest.raises(KeyError):
        fail_late()


async def test_an_async_block_is_measured_too(clock: Clock) -> None:
    async def take(seconds: float) -> float:
        async with within(1, clock=clock) as block:
            await clock.sleep_async(seconds)
        return block.elapsed_seconds

    assert await take(0.5) == 0.5
    with pytest.raises(SlaError):
        await take(1.5)


def test_the_first_true_answer_is_returned(clock: Clock) -> None:
    answers = iter([0, "", "here"])
    assert eventually(lambda: next(answers), every=0.5, clock=clock, sleep=clock.sleep) == "here"
    assert clock.naps == [0.5, 0.5]


def test_the_last_value_is_told(clock: Clock) -> None:
    with pytest.raises(SlaError, match=r"within 1 s: the last value was \[\]"):
        eventually(list, within=1, every=0.4, clock=clock, sleep=clock.sleep)
    assert clock.naps == pytest.approx([0.4, 0.4, 0.2])


def test_the_last_error_is_told_and_kept_as_the_cause(clock: Clock) -> None:
    def check() -> bool:
        raise ConnectionError("not yet")

    with pytest.raises(SlaError, match="the last error was ConnectionError: not yet") as caught:
        eventually(check, within=1, clock=clock, sleep=clock.sleep)
    assert isinstance(caught.value.__cause__, ConnectionError)


def test_no_time_at_all_is_still_one_question(clock: Clock) -> None:
    assert eventually(lambda: 1, within=0, clock=clock, sleep=clock.sleep) == 1
    with pytest.raises(SlaError, match="the last value was 0"):
        eventually(lambda: 0, within=0, clock=clock, sleep=clock.sleep)


async def test_an_async_check_is_awaited_and_a_plain_one_asked(clock: Clock) -> None:
    answers = iter([False, True])

    async def check() -> bool:
        await asyncio.sleep(0)
        return next(answers)

    assert await eventually_async(check, clock=clock, sleep=clock.sleep_async) is True
    assert await eventually_async(lambda: 7, clock=clock, sleep=clock.sleep_async) == 7


async def test_an_async_check_that_fails_or_stays_false_is_told(clock: Clock) -> None:
    async def check() -> bool:
        raise KeyError("a")

    with pytest.raises(SlaError, match="KeyError"):
        await eventually_async(check, within=0.1, clock=clock, sleep=clock.sleep_async)
    with pytest.raises(SlaError, match="the last value was None"):
        await eventually_async(lambda: None, within=0.1, clock=clock, sleep=clock.sleep_async)


async def test_an_async_check_that_hangs_is_ended() -> None:
    with pytest.raises(SlaError, match="TimeoutError: the check was still awaited"):
        await eventually_async(asyncio.Event().wait, within=0.02)


async def test_a_timeout_of_the_check_itself_is_told_as_it_is(clock: Clock) -> None:
    async def check() -> bool:
        raise TimeoutError("the queue's")

    with pytest.raises(SlaError, match="TimeoutError: the queue's"):
        await eventually_async(check, within=0.1, clock=clock, sleep=clock.sleep_async)


async def test_a_failure_shows_no_line_of_ours(clock: Clock) -> None:
    with pytest.raises(SlaError) as quick:  # noqa: SIM117 - one subject
        with within(2, clock=clock):
            clock.sleep(3)
    with pytest.raises(SlaError) as quick_async:
        async with within(2, clock=clock):
            clock.sleep(3)
    with pytest.raises(SlaError) as plain:
        eventually(lambda: 0, within=0, clock=clock)
    with pytest.raises(SlaError) as in_coroutine:
        await eventually_async(lambda: 0, within=0, clock=clock)
    with pytest.raises(TestkitUsageError) as misused:
        within(-1)
    for caught in (quick, quick_async, plain, in_coroutine, misused):
        shown = caught.traceback.filter(caught)
        assert [Path(str(entry.path)).name for entry in shown] == ["test_timing.py"]
