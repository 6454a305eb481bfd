"""A real Envoy over the files that the edge writes, and replicas whose health a test turns."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import signal
import subprocess
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp import web

from pratique.fleet.edge import Affinity, EdgeConfig, EdgeFiles, Endpoint, Gate, HealthCheck, Pool, Share, find_envoy
from pratique.testkit.ports import reserved_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    Ports = Callable[[], int]


class Replica:
    """A small service on a port that it keeps over stop and start."""

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.port = port
        self.ready = True
        self.requests = 0
        self.accepting = asyncio.Event()
        self.go_on = asyncio.Event()
        self._runner: web.AppRunner | None = None

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(name=self.name, port=self.port)

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/readyz", self._health)
        app.router.add_get("/metrics", self._who)
        app.router.add_get("/stream", self._stream)
        app.router.add_get("/ws", self._socket)
        app.router.add_route("*", "/who", self._who)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response(status=200 if self.ready else 503)

    async def _who(self, request: web.Request) -> web.Response:
        self.requests += 1
        await request.read()
        return web.Response(text=self.name, headers={"x-seen-request-id": request.headers.get("x-request-id", "")})

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: first\n\n")
        await self.go_on.wait()
        await response.write(b"data: last\n\n")
        return response

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        self.requests += 1
        channel = web.WebSocketResponse()
        await channel.prepare(request)
        async for message in channel:
            await channel.send_str(f"{self.name}: {message.data}")
        return channel


class Edge:
    """One Envoy process and its files."""

    def __init__(self, folder: Path, replicas: list[Replica], ports: Ports) -> None:
        self.files = EdgeFiles(folder)
        self.folder = folder
        self.port = ports()
        self.admin_port = ports()
        self.url = f"http://127.0.0.1:{self.port}"
        self.pools: tuple[Pool, ...] = (self.pool("replicas", replicas),)
        self.shares: tuple[Share, ...] = (Share(pool="replicas"),)
        self._process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def pool(name: str, replicas: list[Replica]) -> Pool:
        health = HealthCheck(path="/readyz", interval_seconds=0.1)
        return Pool(name=name, endpoints=tuple(replica.endpoint for replica in replicas), health=health)

    def write(self) -> None:
        gate = Gate(
            name="public",
            port=self.port,
            shares=self.shares,
            affinity=Affinity(header="x-pratique-affinity", cookie="pratique_affinity"),
            is_public=True,
        )
        self.files.write(EdgeConfig(gates=(gate,), pools=self.pools, admin_port=self.admin_port))

    def start(self) -> None:
        self.write()
        with (self.folder / "access.log").open("wb") as log:
            self._process = subprocess.Popen(
                self.files.command(find_envoy(), workers=1),
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - async-signal-safe: one prctl
                stdout=log,
            )

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class Client:
    """What tests ask the edge with; every request on a connection of its own unless a test says otherwise."""

    def __init__(self, session: aiohttp.ClientSession, edge: Edge) -> None:
        self.session = session
        self.edge = edge

    async def who(self, key: str | None = None, *, cookie: str | None = None, method: str = "GET") -> str:
        headers = {"x-pratique-affinity": key} if key else {}
        if cookie:
            headers["cookie"] = f"pratique_affinity={cookie}"
        async with self.session.request(method, f"{self.edge.url}/who", headers=headers) as response:
            return await response.text() if response.status == 200 else f"status {response.status}"

    async def wait_until(self, condition: Callable[[list[str]], bool], *, within: float = 5.0) -> None:
        """Wait until 8 answers in a row, each with another key, satisfy the condition."""
        async with asyncio.timeout(within):
            while not condition(await self.sample(8)):  # noqa: ASYNC110 - another process changes
                await asyncio.sleep(0.005)

    async def sample(self, count: int) -> list[str]:
        answers = []
        for number in range(count):
            with contextlib.suppress(aiohttp.ClientError):
                answers.append(await self.who(f"key-{number}"))
        return answers

    async def statistics(self) -> dict[str, int]:
        async with self.session.get(f"http://127.0.0.1:{self.edge.admin_port}/stats?format=json") as response:
            found = (await response.json())["stats"]
        return {entry["name"]: entry["value"] for entry in found if "value" in entry}


@pytest.fixture
def ports() -> Iterator[Ports]:
    """Return ports that stay free until the test ends, whoever stops and starts on them."""
    with contextlib.ExitStack() as kept:
        yield lambda: kept.enter_context(reserved_port())


@pytest.fixture
def make_edge(ports: Ports) -> Callable[[Path], Edge]:
    """Return an edge with nobody behind it, not started."""
    return lambda folder: Edge(folder, [], ports)


@pytest.fixture
async def replicas(ports: Ports) -> AsyncIterator[list[Replica]]:
    started = [Replica("replica-0", ports()), Replica("replica-1", ports())]
    for replica in started:
        await replica.start()
    yield started
    for replica in started:
        replica.go_on.set()
        await replica.stop()


@pytest.fixture
async def edge(tmp_path: Path, replicas: list[Replica], ports: Ports) -> AsyncIterator[Edge]:
    made = Edge(tmp_path, replicas, ports)
    made.start()
    yield made
    made.stop()


@pytest.fixture
async def client(edge: Edge) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(force_close=True), timeout=aiohttp.ClientTimeout(total=10)
    ) as session:
        client = Client(session, edge)
        await client.wait_until(lambda answers: len(answers) == 8 and set(answers) == {"replica-0", "replica-1"})
        yield client
