"""One script for many in one round trip: each gets its own answer, whatever befalls the others."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from pratique.orchestrator.shared_scripts import ScriptTogether

pytestmark = pytest.mark.unit


class Server:
    """A client, its pool and its one connection: answers with the last argument of each command."""

    def __init__(self) -> None:
        self.connection_pool = self
        self.knows_script = True
        self.batches: list[list[bytes]] = []
        self.failures: list[Exception] = []
        self.load_failures: list[Exception] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.num_out = 0
        self.num_cut = 0

    async def get_connection(self) -> Server:
        self.num_out += 1
        return self

    async def release(self, _: Server) -> None:
        self.num_out -= 1

    async def disconnect(self, **_: object) -> None:
        self.num_cut += 1

    async def script_load(self, _: str) -> None:
        if self.load_failures:
            raise self.load_failures.pop(0)
        self.knows_script = True

    async def send_packed_command(self, commands: list[bytes]) -> None:
        await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)
        self.batches.append(list(commands))
        self.unread = list(commands)

    async def read_response(self) -> Any:
        said = self.unread.pop(0).split(b"\r\n")[-2]
        if not self.knows_script:
            raise NoScriptError("NOSCRIPT")
        if said == b"bad":
            raise ResponseError("ERR")
        return said


def over(server: Any, *, deadline_seconds: float = 5.0) -> ScriptTogether:
    return ScriptTogether(server, "return 1", deadline_seconds=deadline_seconds)


async def test_what_is_asked_at_once_goes_at_once_and_each_gets_its_own() -> None:
    server = Server()
    together = over(server)
    found = await asyncio.gather(*(together.run([b"k"], [b"%d" % number]) for number in range(600)))
    assert found == [b"%d" % number for number in range(600)]
    assert [len(batch) for batch in server.batches] == [256, 256, 88]
    assert server.batches[0][0].startswith(b"*5\r\n$7\r\nEVALSHA\r\n$40\r\n")
    assert server.batches[0][0].endswith(b"\r\n$1\r\n1\r\n$1\r\nk\r\n$1\r\n0\r\n")


async def test_refusal_of_one_is_nobody_elses() -> None:
    together = over(Server())
    bad = asyncio.ensure_future(together.run([], [b"bad"]))
    assert await together.run([], [b"good"]) == b"good"
    with pytest.raises(ResponseError):
        await bad


async def test_script_that_the_server_forgot_is_loaded_again() -> None:
    server = Server()
    server.knows_script = False
    together = over(server)
    assert await together.run([], [b"x"]) == b"x"


async def test_broken_connection_is_tried_once_more_and_then_said() -> None:
    server = Server()
    together = over(server)
    server.failures = [RedisConnectionError("gone")]
    assert await together.run([], [b"x"]) == b"x"
    server.failures = [RedisConnectionError("gone"), RedisConnectionError("gone")]
    with pytest.raises(RedisConnectionError):
        await together.run([], [b"x"])
    assert (server.num_out, server.num_cut) == (0, 3)
    assert await together.run([], [b"y"]) == b"y"


async def test_connection_that_was_reset_under_uvloop_is_tried_once_more_and_fails_nobody_else() -> None:
    server = Server()
    together = over(server)
    reset = RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed")
    server.failures = [reset]
    assert await together.run([], [b"x"]) == b"x"
    server.gate.clear()
    server.failures = [reset, reset]
    first = asyncio.ensure_future(together.run([], [b"1"]))
    await asyncio.sleep(0)
    later = asyncio.ensure_future(together.run([], [b"2"]))
    await asyncio.sleep(0)
    server.gate.set()
    with pytest.raises(RedisConnectionError, match="the handler is closed"):
        await first
    assert await later == b"2"
    assert (server.num_out, server.num_cut) == (0, 3)


async def test_reset_while_the_script_is_loaded_ends_nothing_but_its_own_batch() -> None:
    server = Server()
    server.knows_script = False
    server.load_failures = [RuntimeError("the handler is closed")]
    together = over(server)
    with pytest.raises(RedisConnectionError, match="the handler is closed"):
        await together.run([], [b"x"])
    assert await together.run([], [b"y"]) == b"y"


async def test_connection_that_hangs_is_cut_at_the_deadline_and_the_next_ones_go_on_another() -> None:
    server = Server()
    server.gate.clear()
    together = over(server, deadline_seconds=0.02)
    first = asyncio.ensure_future(together.run([], [b"1"]))
    await asyncio.sleep(0)
    later = asyncio.ensure_future(together.run([], [b"2"]))
    with pytest.raises(RedisTimeoutError, match=r"within 0\.02 s"):
        await asyncio.wait_for(first, 2)
    server.gate.set()
    assert await asyncio.wait_for(later, 2) == b"2"
    assert (server.num_out, server.num_cut) == (0, 1)


async def test_one_that_is_cancelled_cancels_nobody_else() -> None:
    server = Server()
    server.gate.clear()
    together = over(server)
    first, second, third = (asyncio.ensure_future(together.run([], [name])) for name in (b"1", b"2", b"3"))
    await asyncio.sleep(0)
    late = asyncio.ensure_future(together.run([], [b"4"]))
    await asyncio.sleep(0)
    second.cancel()
    late.cancel()
    server.gate.set()
    assert [await first, await third] == [b"1", b"3"]
    assert sum(len(batch) for batch in server.batches) == 3  # the late one was never sent


async def test_closing_tells_those_who_wait() -> None:
    server = Server()
    server.gate.clear()
    together = over(server)
    waiting = asyncio.ensure_future(together.run([], [b"1"]))
    await asyncio.sleep(0.01)
    await together.aclose()
    with pytest.raises(RedisConnectionError):
        await waiting
    assert server.num_out == 0
    await together.aclose()


async def test_who_cannot_take_its_answer_keeps_nobody_elses_from_them() -> None:
    together, told = over(Server()), list[bytes]()
    begun = together.begun([], [])

    def fails(_: object) -> None:
        raise ZeroDivisionError

    together.tell(begun, [b"1"], fails)
    together.tell(begun, [b"2"], told.append)
    assert told == []
    assert await together.run([], [b"3"]) == b"3"
    assert told == [b"2"]
