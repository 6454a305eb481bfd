"""The baseline lane's places and the line before them."""

from __future__ import annotations

import asyncio

import pytest

from pratique.orchestrator.lanes.places import Places

pytestmark = pytest.mark.unit


async def test_place_goes_to_the_first_in_line() -> None:
    places = Places(max_in_flight=1, max_wait_seconds=5)
    await places.enter()
    order: list[int] = []

    async def come(number: int) -> None:
        await places.enter()
        order.append(number)
        places.leave()

    async with asyncio.TaskGroup() as tasks:
        for number in range(3):
            tasks.create_task(come(number))
        await asyncio.sleep(0)
        assert places.waiting == 3
        places.leave()
    assert order == [0, 1, 2]
    assert (places.in_flight, places.waiting) == (0, 0)


async def test_wait_ends_at_its_deadline() -> None:
    places = Places(max_in_flight=1, max_wait_seconds=0.01)
    await places.enter()
    with pytest.raises(TimeoutError):
        await places.enter()
    assert (places.in_flight, places.waiting) == (1, 0)


async def test_waiter_that_is_cancelled_leaves_the_line() -> None:
    places = Places(max_in_flight=1, max_wait_seconds=5)
    await places.enter()
    waiting = asyncio.ensure_future(places.enter())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    places.leave()
    assert (places.in_flight, places.waiting) == (0, 0)


async def test_place_handed_to_a_waiter_that_is_just_cancelled_is_not_lost() -> None:
    places = Places(max_in_flight=1, max_wait_seconds=5)
    await places.enter()
    first, second = asyncio.ensure_future(places.enter()), asyncio.ensure_future(places.enter())
    await asyncio.sleep(0)
    places.leave()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await asyncio.wait_for(second, 1)
    places.leave()
    assert (places.in_flight, places.waiting) == (0, 0)
