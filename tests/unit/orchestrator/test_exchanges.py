"""The lean HTTP protocol, byte by byte: how answers are written, and how long a connection may rest."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from uvicorn import Config
from uvicorn.server import ServerState

from pratique.orchestrator.exchanges import LeanHttpProtocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import Receive, Scope, Send

pytestmark = pytest.mark.unit

Message = dict[str, Any]
GET = b"GET /a%20b?c=d HTTP/1.1\r\nHost: a\r\n\r\n"
HEAD = b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"
REST_SECONDS = 0.15
HEAD_OF_2 = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"


def start(*headers: tuple[bytes, bytes], status: int = 200) -> Message:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def body(data: bytes = b"", *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


LENGTH = (b"Content-Length", b"2")
CLOSE = (b"Connection", b"Close")


class App:
    """Sends what it is given to each request; a float is a wait."""

    def __init__(self, *steps: Message | float) -> None:
        self.steps = steps
        self.scope: Scope = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        await receive()
        for step in self.steps:
            if isinstance(step, float):
                await asyncio.sleep(step)
            else:
                await send(step)


class Recorded(LeanHttpProtocol):
    """Keeps what is written, write by write."""

    writes: list[bytes]

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.transport = _Transport(transport, self.writes)  # type: ignore[assignment]  # as much of one as is used


class _Transport:
    def __init__(self, transport: Any, writes: list[bytes]) -> None:
        self._transport = transport
        self._writes = writes

    def write(self, data: bytes) -> None:
        self._writes.append(data)
        self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


@asynccontextmanager
async def connected(
    app: App, seen: list[LeanHttpProtocol] | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter, list[bytes]]]:
    config = Config(app, log_config=None, timeout_keep_alive=REST_SECONDS)  # type: ignore[arg-type]  # floats do as well
    state = ServerState()
    writes: list[bytes] = []

    def protocol() -> Recorded:
        made = Recorded(config, state, {})
        made.writes = writes
        if seen is not None:
            seen.append(made)
        return made

    async with await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        try:
            yield reader, writer, writes
        finally:
            writer.close()
            await writer.wait_closed()


async def ask(app: App, request: bytes = GET) -> tuple[list[bytes], bytes]:
    """Return what was written, and what came until the connection was closed."""
    async with connected(app) as (reader, writer, writes), asyncio.timeout(5):
        writer.write(request)
        return writes, await reader.read()


@pytest.mark.parametrize(
    ("messages", "written"),
    [
        pytest.param(
            [start(LENGTH), body(b"ok")],
            [HEAD_OF_2 + b"ok"],
            id="head and body of a known length in one",
        ),
        pytest.param(
            [start(LENGTH), body(b"", more=True), body(b"o", more=True), body(b"k", more=True), body()],
            [HEAD_OF_2 + b"o", b"k"],
            id="and its further pieces as they come",
        ),
        pytest.param(
            [start(), body(b"ok", more=True), body()],
            [
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
                b"2\r\nok\r\n",
                b"0\r\n\r\n",
            ],
            id="a stream's head at once",
        ),
        pytest.param(
            [start((b"Transfer-Encoding", b"chunked")), body(b"ok")],
            [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"2\r\nok\r\n0\r\n\r\n"],
            id="a stream that says so itself",
        ),
        pytest.param([start(status=204), body()], [b"HTTP/1.1 204 No Content\r\n\r\n"], id="no body"),
        pytest.param(
            [start((b"content-length", b"0")), body()],
            [b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"],
            id="an empty one",
        ),
        pytest.param(
            [start(LENGTH, CLOSE), body(b"ok")],
            [b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: Close\r\n\r\nok"],
            id="the connection's last",
        ),
    ],
)
async def test_answers_are_written_in_as_few_pieces_as_may_be(messages: list[Message], written: list[bytes]) -> None:
    app = App(*messages)
    writes, answer = await ask(app)
    assert writes == written
    assert answer == b"".join(written)
    assert (app.scope["path"], app.scope["raw_path"], app.scope["query_string"]) == ("/a b", b"/a%20b", b"c=d")


async def test_head_alone_is_sent_where_only_that_was_asked_for() -> None:
    writes, _ = await ask(App(start(LENGTH), body(b"ok")), HEAD)
    assert writes == [HEAD_OF_2]


async def test_old_client_is_told_that_the_connection_ends() -> None:
    writes, _ = await ask(App(start(LENGTH), body(b"ok")), b"GET / HTTP/1.0\r\n\r\n")
    assert writes == [b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"]


FAILED = (
    b"HTTP/1.1 500 Internal Server Error\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 21\r\n"
    b"connection: close\r\n\r\nInternal Server Error"
)


@pytest.mark.parametrize(
    ("messages", "answer"),
    [
        pytest.param([start((b"x-a\r\nx-b", b"c")), body()], b"", id="line break in a name"),
        pytest.param([start((b"x-a", b"b\r\nx-c: d")), body()], b"", id="line break in a value"),
        pytest.param([body()], FAILED, id="no start"),
        pytest.param([start(), start()], b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", id="two starts"),
        pytest.param([start(LENGTH), body(b"too long")], b"", id="longer than it says"),
        pytest.param([start(LENGTH), body(b"1")], HEAD_OF_2 + b"1", id="shorter than it says"),
        pytest.param([start(LENGTH)], b"", id="no body"),
        pytest.param([], FAILED, id="nothing"),
    ],
)
async def test_answer_that_is_none_ends_the_connection(
    messages: list[Message], answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.CRITICAL, "uvicorn.error"):
        assert (await ask(App(*messages)))[1] == answer


async def test_message_behind_a_whole_answer_is_refused() -> None:
    app = App(start(LENGTH), body(b"ok"), body(b"more"))
    writes, _ = await ask(app)
    assert len(writes) == 1


async def test_connection_is_closed_after_its_rest_and_not_before() -> None:
    async with connected(App(start(LENGTH), body(b"ok"))) as (reader, writer, _), asyncio.timeout(5):
        for _ in range(4):
            writer.write(GET)
            await reader.readuntil(b"ok")
            await asyncio.sleep(REST_SECONDS * 0.6)
        began = asyncio.get_running_loop().time()
        assert await reader.read() == b""
        assert asyncio.get_running_loop().time() - began < REST_SECONDS * 3


async def test_connection_that_is_gone_or_upgraded_is_kept_by_no_timer() -> None:
    for last in (b"", b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"):
        seen: list[LeanHttpProtocol] = []
        async with connected(App(start(LENGTH), body(b"ok")), seen) as (reader, writer, _), asyncio.timeout(5):
            writer.write(GET)
            await reader.readuntil(b"ok")
            assert seen[0].timeout_keep_alive_task is not None
            writer.write(last)
            writer.write_eof()
            await reader.read()
        assert seen[0].timeout_keep_alive_task is None


async def test_connection_in_use_does_not_rest() -> None:
    app = App(REST_SECONDS * 1.5, start(LENGTH), body(b"ok"))
    async with connected(app) as (reader, writer, _), asyncio.timeout(5):
        for _ in range(2):
            writer.write(GET)
            await reader.readuntil(b"ok")
