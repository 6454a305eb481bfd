"""The lean WebSocket protocol, against aiohttp's client: frames of every length, and connections that are gone."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from pratique.orchestrator.server import bind, listening
from pratique.orchestrator.sockets import TEXTS, _Inbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import ASGIApp, Receive, Scope, Send

pytestmark = pytest.mark.unit

SIZES = [0, 1, 125, 126, 127, 65_535, 65_536, 200_000]


class App:
    """Accepts, sends what it is given, waits for the client, tries once more."""

    def __init__(self, texts: list[bytes]) -> None:
        self.texts = texts
        self.scope: Scope = {}
        self.received: list[Any] = []
        self.error: BaseException | None = None
        self.done = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "first"})
        await send({"type": "websocket.send", "texts": self.texts})
        while not self.received or self.received[-1]["type"] != "websocket.disconnect":
            self.received.append(await receive())
        try:
            await send({"type": "websocket.send", "texts": [b"late"]})
        except OSError as error:
            self.error = error
        self.done.set()


@asynccontextmanager
async def connected(app: ASGIApp) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    with bind("127.0.0.1", 0) as listener:
        async with (
            listening(app, listener) as url,
            aiohttp.ClientSession() as http,
            http.ws_connect(url, max_msg_size=0) as socket,
        ):
            yield socket


async def test_texts_of_every_length_arrive_whole_and_in_order() -> None:
    app = App([b"x" * size for size in SIZES] + ["ä€𝄞".encode()])
    async with connected(app) as socket:
        assert TEXTS in app.scope["extensions"]
        assert await socket.receive_str() == "first"
        assert [len(await socket.receive_str()) for _ in SIZES] == SIZES
        assert await socket.receive_str() == "ä€𝄞"
        for number in range(3):
            await socket.send_str(str(number))
        await socket.close()
        async with asyncio.timeout(3):
            await app.done.wait()
    assert [message.get("text") for message in app.received] == ["0", "1", "2", None]
    assert isinstance(app.error, OSError)


class Hasty:
    """Sends without a wait until it is refused, then once more when the client has left."""

    def __init__(self) -> None:
        self.num_sent = 0
        self.refused = asyncio.Event()
        self.is_sent_late = True
        self.done = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        send_now = scope["extensions"][TEXTS]["send_now"]
        await receive()
        assert send_now([b"before"]) is False
        await send({"type": "websocket.accept"})
        while send_now([b"x" * 60_000, b"y"]):
            self.num_sent += 1
            await asyncio.sleep(0)
        self.refused.set()
        while (await receive())["type"] != "websocket.disconnect":
            pass
        self.is_sent_late = send_now([b"late"])
        self.done.set()


async def test_sending_now_is_refused_whole_where_the_client_takes_nothing_or_has_left() -> None:
    app = Hasty()
    async with connected(app) as socket, asyncio.timeout(5):
        await app.refused.wait()
        for _ in range(app.num_sent):
            assert len(await socket.receive_str()) == 60_000
            assert await socket.receive_str() == "y"
        await socket.close()
        await app.done.wait()
    assert app.num_sent > 0
    assert app.is_sent_late is False


async def test_sending_now_on_a_connection_that_broke_a_moment_ago_is_refused_and_no_error() -> None:
    said: list[bool] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        send_now = scope["extensions"][TEXTS]["send_now"]
        await receive()
        await send({"type": "websocket.accept"})
        said.append(send_now([b"before"]))
        send_now.__self__.transport.abort()
        said.append(send_now([b"after"]))

    async with connected(app) as socket:
        await socket.receive()
    assert said == [True, False]


async def test_inbox_waits_and_survives_a_cancelled_reader() -> None:
    inbox = _Inbox()
    assert inbox.empty()
    reading = asyncio.ensure_future(inbox.get())
    await asyncio.sleep(0)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    inbox.put_nowait(1)
    inbox.put_nowait(2)
    assert not inbox.empty()
    assert [await inbox.get(), await inbox.get()] == [1, 2]
    reading = asyncio.ensure_future(inbox.get())
    await asyncio.sleep(0)
    inbox.put_nowait(3)
    inbox.put_nowait(4)
    assert await reading == 3
