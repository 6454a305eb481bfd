"""The watch over a request: time-outs and leaving clients end its task, others' cancellations pass through."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from pratique.orchestrator.api.openai.vigil import ClientLeftError, Rounds, SilentModelError, Vigil

if TYPE_CHECKING:
    from starlette.types import Message

# ruff: noqa: PT012 - what is tested is a context and what happens in it
pytestmark = pytest.mark.unit


def silent() -> Exception:
    return SilentModelError("Nothing.")


class Client:
    """Leaves when told to."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()

    async def receive(self) -> Message:
        await self.gone.wait()
        return {"type": "http.disconnect"}


async def test_wait_that_takes_too_long_is_ended_with_its_error() -> None:
    with pytest.raises(SilentModelError):
        async with Vigil() as vigil:
            vigil.expect(0.03, silent)
            await asyncio.sleep(5)


async def test_each_expectation_replaces_the_one_before() -> None:
    async with Vigil() as vigil:
        for _ in range(5):
            vigil.expect(0.1, silent)
            await asyncio.sleep(0.04)
        vigil.expect(5, silent)
        await asyncio.sleep(0.15)


async def test_shorter_expectation_counts_at_once() -> None:
    with pytest.raises(SilentModelError):
        async with Vigil() as vigil:
            vigil.expect(60, silent)
            await asyncio.sleep(0.05)
            vigil.expect(0.05, silent)
            await asyncio.sleep(5)


@pytest.mark.parametrize("after", [0.0, 0.05])
async def test_client_that_leaves_ends_the_work(after: float) -> None:
    client = Client()
    asyncio.get_running_loop().call_later(after, client.gone.set)
    with pytest.raises(ClientLeftError):
        async with Vigil() as vigil:
            vigil.watch(client.receive)
            await asyncio.sleep(5)


async def test_client_watched_late_is_watched_at_once() -> None:
    client = Client()
    client.gone.set()
    with pytest.raises(ClientLeftError):
        async with Vigil() as vigil:
            vigil.expect(60, silent)
            await asyncio.sleep(0.05)
            vigil.watch(client.receive)
            await asyncio.sleep(5)


async def test_work_that_ends_in_the_same_moment_is_done_and_nothing_lingers() -> None:
    async with Vigil() as vigil:
        vigil._end(SilentModelError("Nothing."))
    await asyncio.sleep(0)


async def test_errors_of_the_work_go_first() -> None:
    with pytest.raises(KeyError):
        async with Vigil() as vigil:
            vigil._end(SilentModelError("Nothing."))
            raise KeyError


async def test_cancellation_from_outside_stays_one() -> None:
    async def work() -> None:
        async with Vigil() as vigil:
            vigil.watch(Client().receive)
            vigil.expect(5, silent)
            await asyncio.sleep(5)

    task = asyncio.ensure_future(work())
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_rounds_come_by_each_request_that_is_still_there() -> None:
    rounds = Rounds()
    clients = [Client() for _ in range(3)]
    errors: list[type[Exception] | None] = []

    async def work(client: Client, seconds: float) -> None:
        try:
            async with Vigil(rounds) as vigil:
                vigil.watch(client.receive)
                vigil.expect(60, silent)
                await asyncio.sleep(seconds)
        except ClientLeftError as error:
            errors.append(type(error))
        else:
            errors.append(None)

    await work(clients[0], 0)
    for _ in range(2):  # the second time after rounds in which nobody was there
        errors.clear()
        for client in clients:
            client.gone.set()
        async with asyncio.timeout(5):
            await asyncio.gather(work(clients[0], 5), work(clients[1], 0), work(clients[2], 5))
        assert errors == [None, ClientLeftError, ClientLeftError]
        await asyncio.sleep(0.05)
