from __future__ import annotations

import asyncio
import time

import pytest

from pratique.core.clock import Clock, ManualClock, SystemClock

pytestmark = pytest.mark.unit


async def test_the_system_clock_reads_the_system() -> None:
    clock: Clock = SystemClock()
    before = (time.monotonic(), time.time())
    await clock.sleep(0.001)
    assert clock.monotonic() >= before[0] + 0.001
    assert clock.epoch() >= before[1]


async def test_a_manual_clock_moves_only_by_hand() -> None:
    clock = ManualClock(epoch_seconds=100)
    assert (clock.monotonic(), clock.epoch()) == (0, 100)
    await clock.advance(2.5)
    assert (clock.monotonic(), clock.epoch()) == (2.5, 102.5)


async def test_sleepers_wake_in_order_each_at_its_own_time() -> None:
    clock = ManualClock()
    woken: list[tuple[str, float]] = []

    async def sleep(name: str, *seconds: float) -> None:
        for part in seconds:
            await clock.sleep(part)
            woken.append((name, clock.monotonic()))

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(sleep("late", 3))
        tasks.create_task(sleep("twice", 1, 1))
        tasks.create_task(sleep("first", 1))
        await clock.advance(2.5)
        assert woken == [("twice", 1), ("first", 1), ("twice", 2)]
        await clock.advance(1)
    assert woken[-1] == ("late", 3)


async def test_a_cancelled_sleeper_does_not_wake() -> None:
    clock = ManualClock()
    sleeper = asyncio.ensure_future(clock.sleep(1))
    await clock.advance(0)
    sleeper.cancel()
    await clock.advance(2)
    assert sleeper.cancelled()
    assert clock.monotonic() == 2


async def test_a_sleep_of_nothing_waits_for_the_next_move() -> None:
    clock = ManualClock()
    sleeper = asyncio.ensure_future(clock.sleep(0))
    await clock.advance(0)
    assert sleeper.done()
    await sleeper
