"""Orchestrator processes on one SQLite file and one Valkey, before a scripted model server in this process."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import sys
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from pratique.orchestrator.upstream.scripted import ScriptedUpstream
from pratique.orchestrator.upstream.scripted_server import ScriptedModelServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from pratique.testkit.kit import PrivateServer


class Replica:
    """One `pratique serve orchestrator` process."""

    def __init__(self, name: str, flags: list[str], environment: dict[str, str], folder: Path) -> None:
        self.name = name
        self.url = ""
        self.process: asyncio.subprocess.Process | None = None
        self._flags = flags
        self._environment = environment
        self._folder = folder

    async def start(self) -> None:
        """Start it; return when it listens."""
        with (self._folder / f"{self.name}.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "pratique.cli.main", "serve", "orchestrator", "--name", self.name, "--port", "0"),
                *self._flags,
                env={**os.environ, **self._environment},
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                preexec_fn=_die_with_parent,
            )
        assert self.process.stdout is not None
        async with asyncio.timeout(20):
            line = (await self.process.stdout.readline()).decode()
        assert line.startswith("listening on "), (self._folder / f"{self.name}.log").read_text()
        self.url = line.removeprefix("listening on ").strip()

    async def kill(self) -> float:
        """End it as a crash would; return when (monotonic)."""
        assert self.process is not None
        at = time.monotonic()
        self.process.kill()
        await self.process.wait()
        return at

    async def stop(self) -> int:
        """Ask it to stop; return its exit code."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            return await self.process.wait()

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.returncode is None


class Client:
    """One person with one cookie; sockets to any replica. Collects each reply's events and checks their order."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self.http = http
        self.events: list[dict[str, Any]] = []
        self.others: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.accepted: dict[str, Any] = {}

    @asynccontextmanager
    async def socket(self, replica: Replica) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        async with self.http.ws_connect(f"{replica.url}/api/ws", max_msg_size=2**24) as socket:
            yield socket

    async def read(
        self, socket: aiohttp.ClientWebSocketResponse, *, until_seq: int | None = None, seconds: float = 10
    ) -> None:
        """Read until the reply has ended, event `until_seq` came, or the socket is lost."""
        async with asyncio.timeout(seconds):
            async for message in socket:
                if message.type is not aiohttp.WSMsgType.TEXT:
                    return
                event = json.loads(message.data)
                if "seq" not in event:
                    self.others.append(event)
                    if event["type"] == "accepted":
                        self.accepted = event
                    continue
                assert event["seq"] == self.last_seq + 1, (event, self.events[-3:])
                self.events.append(event)
                self.times.append(time.monotonic())
                if event["type"] == "ended" or event["seq"] == until_seq:
                    return

    async def say(self, socket: aiohttp.ClientWebSocketResponse, text: str, *, message_id: str, **more: Any) -> None:
        await socket.send_json({"type": "message", "client_message_id": message_id, "text": text, **more})

    async def resume(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        await socket.send_json({**self.cursor, "type": "resume"})

    @property
    def cursor(self) -> dict[str, Any]:
        return {
            "conversation_id": self.accepted["conversation_id"],
            "generation_id": self.accepted["generation_id"],
            "last_seq": self.last_seq,
        }

    @property
    def last_seq(self) -> int:
        return int(self.events[-1]["seq"]) if self.events else 0

    @property
    def text(self) -> str:
        return "".join(event["text"] for event in self.events if event["type"] == "token")

    @property
    def ended(self) -> dict[str, Any]:
        assert self.events[-1]["type"] == "ended", self.events[-1]
        return self.events[-1]

    async def stored_turn(self, replica: Replica) -> dict[str, Any]:
        """The last turn as that replica shows it."""
        url = f"{replica.url}/api/conversations/{self.accepted['conversation_id']}"
        async with self.http.get(url) as response:
            assert response.status == 200
            turn: dict[str, Any] = (await response.json())["turns"][-1]
            return turn


class House:
    """The replicas, their model, and people."""

    def __init__(self, model: ScriptedModelServer, valkey: PrivateServer[Any], folder: Path) -> None:
        self.model = model
        self.valkey = valkey
        self.folder = folder
        self.replicas: list[Replica] = []
        self._sessions: list[aiohttp.ClientSession] = []

    async def start(self, name: str, **settings: object) -> Replica:
        """Start a replica, with settings as its environment names them."""
        environment = {
            f"PRATIQUE_ORCHESTRATOR_{key.upper()}": json.dumps(value) if not isinstance(value, str) else value
            for key, value in settings.items()
        }
        flags = ["--state-dir", str(self.folder), "--valkey-url", self.valkey.url, "--inference-url", self.model.url]
        replica = Replica(name, flags, environment, self.folder)
        await replica.start()
        self.replicas.append(replica)
        return replica

    async def client(self) -> Client:
        """A new person, with a session."""
        http = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))
        self._sessions.append(http)
        running = next(replica for replica in self.replicas if replica.is_running)
        async with http.get(f"{running.url}/api/session") as response:
            assert response.status == 200
        return Client(http)

    async def aclose(self) -> None:
        for session in self._sessions:
            await session.close()
        for replica in self.replicas:
            if replica.is_running:
                await replica.kill()


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


@pytest.fixture
def upstream() -> ScriptedUpstream:
    return ScriptedUpstream(words=60, pause_seconds=0.03)


@pytest.fixture
async def house(
    upstream: ScriptedUpstream, pratique_launch: Callable[[str], PrivateServer[Any]], tmp_path: Path
) -> AsyncIterator[House]:
    async with ScriptedModelServer(upstream).running() as model:
        made = House(model, pratique_launch("valkey"), tmp_path)
        try:
            yield made
        finally:
            await made.aclose()
