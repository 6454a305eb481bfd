"""One contract over every burst lane: in memory, Lambda's API (a double of it over the very handler), local workers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from pratique.orchestrator.forward.interface import ForwardUnavailableError
from pratique.orchestrator.lanes.interface import BurstFullError

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.integration

Bench = Any
CAPACITY = 2
PIECES = (b"data: one\n\n", b"data: two\n\n")


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - seen from outside
            await asyncio.sleep(0.005)


async def read(bench: Bench, mode: str = "stream", **changes: Any) -> tuple[int, bytes]:
    bench.play(mode)
    async with bench.lane.open(bench.request(mode, **changes)) as answer:
        return answer.status, b"".join([chunk async for chunk in answer.chunks()])


async def test_answer_comes_as_it_is_made_and_says_its_lane(bench: Bench) -> None:
    bench.play("endless")
    async with bench.lane.open(bench.request("endless")) as answer:
        assert (answer.status, answer.lane) == (200, "burst")
        assert (b"content-type", b"text/event-stream") in answer.headers
        assert (await anext(aiter(answer.chunks()))).startswith(PIECES[0])
        assert bench.num_running() == 1


async def test_whole_answer_arrives_and_the_place_is_free_again(bench: Bench) -> None:
    for _ in range(3):
        assert await read(bench) == (200, b"".join(PIECES))
    assert bench.lane.num_free == CAPACITY


async def test_refusal_of_the_model_server_is_an_answer(bench: Bench) -> None:
    assert await read(bench, "refuse") == (404, b'{"error": "no"}')


async def test_leaving_early_ends_the_run(bench: Bench) -> None:
    bench.play("endless")
    async with bench.lane.open(bench.request("endless")) as answer:
        await anext(aiter(answer.chunks()))
    await until(lambda: bench.num_running() == 0)
    assert bench.lane.num_free == CAPACITY
    assert await read(bench) == (200, b"".join(PIECES))


async def test_being_cancelled_while_it_waits_for_the_head_frees_the_place(bench: Bench) -> None:
    asking = asyncio.ensure_future(read(bench, "slow"))
    await until(lambda: bench.lane.num_free == CAPACITY - 1)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert bench.lane.num_free == CAPACITY


async def test_full_lane_says_so_and_runs_nothing(bench: Bench) -> None:
    bench.play("endless")
    async with bench.lane.open(bench.request("endless")), bench.lane.open(bench.request("endless")):
        assert bench.lane.num_free == 0
        with pytest.raises(BurstFullError):
            await read(bench)


async def test_no_server_behind_it_fails_before_the_head(bench: Bench) -> None:
    with pytest.raises(ForwardUnavailableError):
        await read(bench, "edge")
    assert bench.lane.num_free == CAPACITY


async def test_answer_that_breaks_off_is_told_after_its_first_bytes(bench: Bench) -> None:
    bench.play("break")
    seen = b""
    async with bench.lane.open(bench.request("break")) as answer:
        with pytest.raises(ForwardUnavailableError):  # noqa: PT012 - the loop is the statement
            async for chunk in answer.chunks():
                seen += chunk
    assert seen == PIECES[0]
    assert bench.lane.num_free == CAPACITY


async def test_head_that_does_not_come_in_time_is_given_up(bench: Bench) -> None:
    with pytest.raises(ForwardUnavailableError):
        await read(bench, "slow", timeout_seconds=0.6)
    assert bench.lane.num_free == CAPACITY
