"""Calls of one turn of the event loop, gathered."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from pratique.orchestrator.cache import SharedCacheError
from pratique.orchestrator.cache._batches import Batches

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.unit


class Server:
    """Doubles numbers, when its gate is open; remembers what it was asked together."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None

    async def ask(self, keys: Sequence[int]) -> list[int]:
        self.asked.append(list(keys))
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return [2 * key for key in keys]


@pytest.fixture
async def server() -> Server:
    return Server()


async def test_calls_of_one_turn_share_a_round_trip(server: Server) -> None:
    batches = Batches(server.ask, limit=10)
    assert await asyncio.gather(*map(batches.load, range(7))) == [0, 2, 4, 6, 8, 10, 12]
    assert await batches.load(7) == 14
    assert server.asked == [[0, 1, 2, 3, 4, 5, 6], [7]]


@pytest.mark.parametrize("limit", [1, 2, 3])
async def test_a_batch_is_bounded(server: Server, limit: int) -> None:
    batches = Batches(server.ask, limit=limit)
    assert await asyncio.gather(*map(batches.load, range(7))) == [0, 2, 4, 6, 8, 10, 12]
    assert [key for batch in server.asked for key in batch] == list(range(7))
    assert max(map(len, server.asked)) == limit


async def test_one_that_leaves_cancels_nobody(server: Server) -> None:
    batches = Batches(server.ask, limit=10)
    server.gate.clear()
    waiting = [asyncio.ensure_future(batches.load(key)) for key in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()  # before it was sent
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting[1].cancel()  # while it is under way
    server.gate.set()
    told = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(one) for one in told] == [asyncio.CancelledError, asyncio.CancelledError, int]
    assert server.asked == [[1, 2]]


async def test_nothing_is_sent_for_those_who_all_left(server: Server) -> None:
    batches = Batches(server.ask, limit=10)
    waiting = asyncio.ensure_future(batches.load(1))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await asyncio.sleep(0)
    assert server.asked == []


async def test_a_failed_batch_fails_its_callers_and_no_later_ones(server: Server) -> None:
    batches = Batches(server.ask, limit=2)
    server.error = OSError("down")
    server.gate.clear()
    waiting = [asyncio.ensure_future(batches.load(key)) for key in range(2)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    server.gate.set()
    told = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(told[1], OSError)
    server.error = None
    assert await batches.load(3) == 6


async def test_closing_fails_who_waits(server: Server) -> None:
    batches = Batches(server.ask, limit=10)
    server.gate.clear()
    under_way = asyncio.ensure_future(batches.load(1))
    for _ in range(3):
        await asyncio.sleep(0)
    not_sent = asyncio.ensure_future(batches.load(2))
    await asyncio.sleep(0)
    await batches.aclose()
    for waiting in (under_way, not_sent):
        with pytest.raises(SharedCacheError, match="closed"):
            await waiting
    assert server.asked == [[1]]
