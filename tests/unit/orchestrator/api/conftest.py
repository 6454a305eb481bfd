"""One replica in this process, over fakes, behind real sockets."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec
import pytest

from pratique.orchestrator.access.keys import ApiKey, ApiKeys, hash_key, mint_key
from pratique.orchestrator.app import Parts, Replica, running
from pratique.orchestrator.conversations.memory import MemoryConversationStore
from pratique.orchestrator.server import bind, listening
from pratique.orchestrator.sessions.log.memory import MemoryLog
from pratique.orchestrator.settings import OrchestratorSettings
from pratique.orchestrator.upstream.scripted import ScriptedUpstream
from pratique.orchestrator.upstream.scripted_server import ScriptedModelServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

Event = dict[str, Any]


class Service:
    """A replica, and a person with a session who speaks to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.upstream = ScriptedUpstream()
        self.store = MemoryConversationStore()
        self.log = MemoryLog()
        self.model = ScriptedModelServer(self.upstream)
        self.key = mint_key()
        self.url = ""
        self._replica: Replica | None = None
        self._http: aiohttp.ClientSession | None = None
        self._stack = AsyncExitStack()
        self._count = 0

    async def start(self, **settings: Any) -> Service:
        """Start it; the page's folder has two files in it."""
        keys = self.folder / "api-keys.json"
        entry = ApiKey(id="key_test", name="test", sha256=hash_key(self.key), created=0)
        keys.write_bytes(msgspec.json.encode(ApiKeys(keys=(entry,))))
        page = self.folder / "page"
        (page / "assets").mkdir(parents=True, exist_ok=True)
        (page / "index.html").write_text("<!doctype html><title>chat</title>")
        (page / "assets" / "main-abc.js").write_text("export {}")
        enter = self._stack.enter_async_context
        await enter(self.model.running())
        base: dict[str, Any] = {
            "api_keys_file": keys,
            "page_dir": page,
            "inference_url": self.model.url,
            "status_poll_seconds": 0.02,
            "drain_notice_seconds": 0.0,
        }
        parts = Parts(store=self.store, log=self.log, upstream=self.upstream)
        self._replica = await enter(running(OrchestratorSettings(**{**base, **settings}), parts))
        listener = self._stack.enter_context(bind("127.0.0.1", 0))
        self.url = await enter(listening(self._replica.application, listener))
        self._http = await enter(self.person())
        return self

    @property
    def replica(self) -> Replica:
        assert self._replica is not None
        return self._replica

    @property
    def http(self) -> aiohttp.ClientSession:
        assert self._http is not None
        return self._http

    @asynccontextmanager
    async def person(self) -> AsyncIterator[aiohttp.ClientSession]:
        """Somebody with a session of their own."""
        async with aiohttp.ClientSession(self.url, cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
            async with http.get("/api/session") as response:
                assert response.status == 200
            yield http

    @asynccontextmanager
    async def socket(self, **more: Any) -> AsyncIterator[Socket]:
        async with self.http.ws_connect("/api/ws", **more) as raw:
            yield Socket(raw)

    def message(self, text: str = "one two three", **more: Any) -> Event:
        self._count += 1
        return {"client_message_id": f"message-{self._count:04}", "text": text, **more}

    async def post(self, path: str, body: object, *, status: int = 200, **more: Any) -> Event:
        async with self.http.post(path, json=body, **more) as response:
            assert response.status == status, (response.status, await response.text())
            answer: Event = await response.json()
            return answer

    async def get(self, path: str, *, status: int = 200, **more: Any) -> Event:
        async with self.http.get(path, **more) as response:
            assert response.status == status, (response.status, await response.text())
            answer: Event = await response.json()
            return answer

    async def aclose(self) -> None:
        await self._stack.aclose()


class Socket:
    """A WebSocket, with what tests do with it."""

    def __init__(self, raw: aiohttp.ClientWebSocketResponse) -> None:
        self.raw = raw

    async def send(self, kind: str, **fields: Any) -> None:
        await self.raw.send_json({"type": kind, **fields})

    async def receive(self, *kinds: str, seconds: float = 5.0) -> Event:
        """Return the next event of these types, passing over others."""
        async with asyncio.timeout(seconds):
            while True:
                message = await self.raw.receive()
                assert message.type is aiohttp.WSMsgType.TEXT, (message, self.raw.close_code)
                event: Event = json.loads(message.data)
                if not kinds or event["type"] in kinds:
                    return event

    async def reply(self) -> list[Event]:
        """Return a reply's numbered events up to its end."""
        events: list[Event] = []
        while not events or events[-1]["type"] != "ended":
            events.append(await self.receive("started", "token", "continued", "ended"))
        return events

    async def closed(self, *, seconds: float = 5.0) -> int | None:
        """Read until the other side closes; return its code."""
        async with asyncio.timeout(seconds):
            while (await self.raw.receive()).type not in {aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED}:
                pass
        return self.raw.close_code


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    made = Service(tmp_path)
    yield made
    await made.aclose()
