"""The Lambda runtime API on loopback: hands invocations to the pool's workers, takes their answers.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html (2018-06-01): /runtime/invocation/next, …/{id}/response
(buffered and streamed, with error trailers), …/{id}/error, /runtime/init/error.

Each worker has a desk, under a secret path of its own that stands before the API's: no other user of this machine can
ask for an invocation or answer one. Bodies are read no faster than the answer's reader takes them.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import h11

from pratique.core.events import get_logger
from pratique.orchestrator.lanes.invocation import Invocation, failure_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

__all__ = ["Desk", "RuntimeApi"]

_logger = get_logger("lanes")
_VERSION: Final = "2018-06-01"
_READ_BYTES: Final = 64 * 1024
_MAX_ERROR_BYTES: Final = 256 * 1024
_FIRST_REQUEST_SECONDS: Final = 5.0
_ACCEPTED: Final = b'{"status":"OK"}\n'

_Headers = dict[bytes, bytes]


class Desk:
    """Where one worker and the pool meet: at most one invocation at a time."""

    def __init__(self) -> None:
        self.token = secrets.token_urlsafe(24)
        self.asked = asyncio.Event()
        """The worker has asked for its first invocation, or will never do: see `failure`."""
        self.failure = ""
        """Why it could not start."""
        self.current: Invocation | None = None
        self._handed: asyncio.Queue[Invocation | None] = asyncio.Queue()

    def hand(self, invocation: Invocation) -> None:
        """Give the worker its next invocation; one that comes after the desk was closed has failed."""
        if self.failure:
            invocation.finish(self.failure)
            return
        self.current = invocation
        self._handed.put_nowait(invocation)

    async def next(self) -> Invocation | None:
        """Wait for the next invocation; None when the desk is closed."""
        self.asked.set()
        return await self._handed.get()

    def close(self, failure: str) -> None:
        """The worker is gone, or is to go."""
        self.failure = self.failure or failure
        self.asked.set()
        self._handed.put_nowait(None)
        if self.current is not None:
            self.current.finish(failure)


class RuntimeApi:
    """The server; `address_of` says what a worker's AWS_LAMBDA_RUNTIME_API is."""

    def __init__(self, *, max_connections: int) -> None:
        self._max_connections = max_connections
        self._desks: dict[str, Desk] = {}
        self._connections: set[asyncio.Task[None]] = set()
        self._strangers: dict[_Exchange, None] = {}
        """Connections that have named no desk yet, the oldest first."""
        self._port = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[RuntimeApi]:
        """Listen on a free port for as long as the body runs."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self._port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for connection in self._connections:
                connection.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)
            await server.wait_closed()

    def open_desk(self) -> Desk:
        """Make a worker's desk."""
        desk = Desk()
        self._desks[desk.token] = desk
        return desk

    def close_desk(self, desk: Desk, failure: str) -> None:
        """Take no more requests there."""
        self._desks.pop(desk.token, None)
        desk.close(failure)

    def address_of(self, desk: Desk) -> str:
        """Return the address, the desk's path included."""
        return f"127.0.0.1:{self._port}/{desk.token}"

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            writer.close()
            return
        if len(self._strangers) >= self._max_connections:
            # The oldest has had longest to say who it is: whoever only holds connections keeps no worker out.
            oldest = next(iter(self._strangers))
            del self._strangers[oldest]
            oldest.abort()
        self._connections.add(task)
        exchange = _Exchange(reader, writer)
        self._strangers[exchange] = None
        try:
            await self._serve(exchange)
        except (OSError, h11.ProtocolError, TimeoutError, asyncio.IncompleteReadError) as error:
            _logger.debug("runtime_api_connection_ended", error=type(error).__name__)
        finally:
            self._connections.discard(task)
            self._strangers.pop(exchange, None)
            exchange.abort()

    async def _serve(self, exchange: _Exchange) -> None:
        async with asyncio.timeout(_FIRST_REQUEST_SECONDS):
            request = await exchange.request()
        while request is not None:
            token, _, path = request.target.decode("ascii", "replace").lstrip("/").partition("/")
            desk = self._desks.get(token)
            if desk is None:
                await exchange.respond(403, b"")
                return
            self._strangers.pop(exchange, None)
            if len(self._connections) - len(self._strangers) > self._max_connections:
                return
            await self._answer(exchange, desk, request.method, path.removeprefix(f"{_VERSION}/runtime/"))
            request = await exchange.request()

    async def _answer(self, exchange: _Exchange, desk: Desk, method: bytes, path: str) -> None:
        if method == b"GET" and path == "invocation/next":
            await _next(exchange, desk)
            return
        step, _, rest = path.partition("/")
        invocation = desk.current
        if method == b"POST" and path == "init/error":
            desk.close(failure_of(await exchange.body(_MAX_ERROR_BYTES)))
            await exchange.respond(202, _ACCEPTED)
        elif method == b"POST" and step == "invocation" and invocation and rest == f"{invocation.id}/response":
            await _take(exchange, desk, invocation)
        elif method == b"POST" and step == "invocation" and invocation and rest == f"{invocation.id}/error":
            invocation.finish(failure_of(await exchange.body(_MAX_ERROR_BYTES)))
            await exchange.respond(202, _ACCEPTED)
        else:
            await exchange.body(_MAX_ERROR_BYTES)
            await exchange.respond(404, b"")


async def _next(exchange: _Exchange, desk: Desk) -> None:
    await exchange.body(_MAX_ERROR_BYTES)
    invocation = await desk.next()
    if invocation is None:
        await exchange.respond(410, b"")
        return
    headers = (
        ("Lambda-Runtime-Aws-Request-Id", invocation.id),
        ("Lambda-Runtime-Deadline-Ms", str(int(invocation.deadline_epoch * 1000))),
        ("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:local:000000000000:function:pratique-burst"),
    )
    await exchange.respond(200, invocation.event, headers)


async def _take(exchange: _Exchange, desk: Desk, invocation: Invocation) -> None:
    """Pass an answer's bytes on as they come; a connection that breaks off is a worker that is gone."""
    invocation.begin(exchange.headers.get(b"content-type", b"").decode("latin-1"))
    try:
        async for piece in exchange.pieces():
            await invocation.put(piece)
    except BaseException:
        desk.close("The worker broke its answer off.")
        raise
    invocation.finish("The handler failed after its first byte." if exchange.trailers else "")
    await exchange.respond(202, _ACCEPTED)


class _Exchange:
    """HTTP/1.1 over one connection, by h11: it knows trailers, which carry the error of a streamed answer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.headers: _Headers = {}
        self.trailers: _Headers = {}
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.SERVER)

    async def request(self) -> h11.Request | None:
        """Return the next request's head; None at the connection's end."""
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        event = await self._event()
        if not isinstance(event, h11.Request):
            return None
        self.headers, self.trailers = dict(event.headers), {}
        return event

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes. Raises h11.RemoteProtocolError where it breaks off."""
        if self._http.they_are_waiting_for_100_continue:
            await self._send(h11.InformationalResponse(status_code=100, headers=[]))
        while True:
            event = await self._event()
            if isinstance(event, h11.Data):
                yield bytes(event.data)
            else:
                self.trailers = dict(event.headers) if isinstance(event, h11.EndOfMessage) else {}
                return

    async def body(self, limit: int) -> bytes:
        """Return the body, which is short."""
        body = bytearray()
        async for piece in self.pieces():
            body += piece
            if len(body) > limit:
                raise h11.RemoteProtocolError(f"A body has at most {limit} bytes here.")
        return bytes(body)

    async def respond(self, status: int, body: bytes, headers: Sequence[tuple[str, str]] = ()) -> None:
        kind = [("content-type", "application/json"), ("content-length", str(len(body)))]
        await self._send(h11.Response(status_code=status, headers=[*kind, *headers]))
        await self._send(h11.Data(data=body))
        await self._send(h11.EndOfMessage())

    def abort(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closing
            self._writer.transport.abort()

    async def _send(self, event: h11.Event) -> None:
        self._writer.write(self._http.send(event) or b"")
        await self._writer.drain()

    async def _event(self) -> object:
        while True:
            event = self._http.next_event()
            if event is not h11.NEED_DATA:
                return event
            self._http.receive_data(await self._reader.read(_READ_BYTES))
