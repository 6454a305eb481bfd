"""The client side of the chat: WebSockets that ask and read, and WebSockets that are idle."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import secrets
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import aiohttp
from benchmarks._gateway.load import StreamTally

if TYPE_CHECKING:
    from benchmarks._gateway.load import Address

__all__ = ["chat_many", "idle_sockets"]


async def chat_many(
    address: Address, *, streams: int, rounds: int, milliseconds: int, chunks: int, deadline_seconds: float
) -> StreamTally:
    """Send messages and read their replies, each over a WebSocket of its own. The query names the pace."""
    tally = StreamTally()
    run = secrets.token_hex(4)
    async with _session(address) as http, asyncio.timeout(deadline_seconds):
        sockets = [await http.ws_connect("/api/ws", compress=0) for _ in range(streams)]

        async def client(number: int, socket: aiohttp.ClientWebSocketResponse) -> None:
            await asyncio.sleep(number / streams * milliseconds / 1e3)
            for count in range(rounds):
                await _ask(socket, tally, f"{run}-{number:04}-{count:04}", f"{milliseconds} ms", chunks)

        results = await asyncio.gather(
            *(client(number, socket) for number, socket in enumerate(sockets)), return_exceptions=True
        )
        for error in (error for error in results if error is not None):
            tally.error = repr(error)
    return tally


async def _ask(
    socket: aiohttp.ClientWebSocketResponse, tally: StreamTally, message_id: str, text: str, chunks: int
) -> None:
    began = time.perf_counter()
    tally.num_asked += chunks
    await socket.send_json({"type": "message", "client_message_id": message_id, "text": text, "max_tokens": chunks})
    said = ""
    is_first = True
    while True:
        message = await socket.receive()
        if message.type is not aiohttp.WSMsgType.TEXT:
            raise ConnectionError(f"closed: {socket.close_code}")
        event = json.loads(message.data)
        if event["type"] == "token":
            if is_first:
                tally.first_seconds.append(time.perf_counter() - began)
                is_first = False
            said += event["text"]
        elif event["type"] == "ended":
            break
        elif event["type"] == "error":
            raise ConnectionError(message.data)
    tally.num_frames += sum(word == f"w{place}" for place, word in enumerate(said.split()))


@contextlib.asynccontextmanager
async def idle_sockets(address: Address, count: int) -> AsyncIterator[None]:
    """Keep so many sockets open that were said hello to and say nothing."""
    writers = [await _open_idle(address) for _ in range(count)]
    yield
    for writer in writers:
        writer.transport.abort()


async def _open_idle(address: Address) -> asyncio.StreamWriter:
    reader, writer = await asyncio.open_connection("127.0.0.1", address.port)
    writer.write(
        f"GET /api/ws HTTP/1.1\r\nhost: 127.0.0.1:{address.port}\r\nauthorization: Bearer {address.key}\r\n"
        "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
        f"sec-websocket-key: {base64.b64encode(secrets.token_bytes(16)).decode()}\r\n\r\n".encode()
    )
    await reader.readuntil(b"\r\n\r\n")
    await reader.readuntil(b'"hello"')
    return writer


@contextlib.asynccontextmanager
async def _session(address: Address) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(
        f"http://127.0.0.1:{address.port}",
        connector=aiohttp.TCPConnector(limit=0),
        headers={"authorization": f"Bearer {address.key}"},
    ) as http:
        yield http
