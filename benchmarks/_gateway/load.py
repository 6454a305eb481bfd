"""The client side over /v1: bare protocols, so that many streams cost this process little."""

from __future__ import annotations

import asyncio
import json
import re
import time
from dataclasses import dataclass, field
from typing import Final, cast

import httptools

__all__ = ["Address", "StreamTally", "ask_many", "stream_many"]

_CONTENT: Final = re.compile(rb'"content": ?"w(\d+) "')


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where a gateway listens, and the key it asks for."""

    port: int
    key: str = ""
    model: str = "bench"

    def request(self, **fields: object) -> bytes:
        """Return a chat completion's request, whole."""
        messages = [{"role": "user", "content": "What is the capital of France?"}]
        body = json.dumps({"model": self.model, "messages": messages, **fields}).encode()
        key = f"authorization: Bearer {self.key}\r\n" if self.key else ""
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{self.port}\r\ncontent-type: application/json\r\n"
            f"accept: */*\r\nuser-agent: bench\r\n{key}content-length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


class _Client(asyncio.Protocol):
    """One connection: one request at a time. An answer that is not 200, or a lost connection, is an error."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._done: asyncio.Future[None] | None = None
        self.body = b""
        self.first: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none of asyncio's classes

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(exc or ConnectionError("The connection was closed."))

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(error)

    def on_body(self, body: bytes) -> None:
        if self.first is None:
            self.first = time.perf_counter()
        self.body += body

    def on_message_complete(self) -> None:
        if self._done is not None and not self._done.done():
            status = self._parser.get_status_code()
            if status == 200:
                self._done.set_result(None)
            else:
                self._fail(RuntimeError(f"{status}: {self.body[:300]!r}"))

    async def ask(self, request: bytes) -> None:
        self._done = asyncio.get_running_loop().create_future()
        self.body, self.first = b"", None
        self.transport.write(request)
        await self._done

    def _fail(self, error: Exception) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(error)


@dataclass
class StreamTally:
    """What came of some streams."""

    num_asked: int = 0
    num_frames: int = 0
    """Chunks that came in their place."""
    error: str = ""
    first_seconds: list[float] = field(default_factory=list)


async def ask_many(address: Address, *, concurrency: int, seconds: float) -> int:
    """Ask for short answers over and over; return how many came. Raises what went wrong."""
    until = time.perf_counter() + seconds
    request = address.request(max_tokens=50)
    num_answers = 0

    async def client() -> None:
        nonlocal num_answers
        connection = await _connect(address)
        while time.perf_counter() < until:
            await connection.ask(request)
            num_answers += 1
        connection.transport.close()

    await asyncio.gather(*(client() for _ in range(concurrency)))
    return num_answers


async def stream_many(
    address: Address, *, streams: int, rounds: int, chunks: int, milliseconds: int, deadline_seconds: float
) -> StreamTally:
    """Read so many streams at once, each so often. What has not come at the deadline is missing."""
    tally = StreamTally()
    request = address.request(stream=True, max_tokens=chunks, seed=milliseconds)
    connections = [await _connect(address) for _ in range(streams)]

    async def client(number: int, connection: _Client) -> None:
        # Spread over one interval, as people are.
        await asyncio.sleep(number / streams * milliseconds / 1e3)
        for _ in range(rounds):
            tally.num_asked += chunks
            began = time.perf_counter()
            try:
                await connection.ask(request)
            finally:
                tally.num_frames += _in_place(connection.body)
                if connection.first is not None:
                    tally.first_seconds.append(connection.first - began)

    reading = [asyncio.ensure_future(client(number, connection)) for number, connection in enumerate(connections)]
    await asyncio.wait(reading, timeout=deadline_seconds)
    for task in reading:
        task.cancel()
    results = await asyncio.gather(*reading, return_exceptions=True)
    failed = [error for error in results if error is not None]
    if failed:
        tally.error = repr(failed[0]) or "late"
    for connection in connections:
        connection.transport.abort()
    return tally


def _in_place(body: bytes) -> int:
    """Count the chunks that stand where they belong."""
    return sum(int(found) == place for place, found in enumerate(_CONTENT.findall(body)))


async def _connect(address: Address) -> _Client:
    _, client = await asyncio.get_running_loop().create_connection(_Client, "127.0.0.1", address.port)
    return client
