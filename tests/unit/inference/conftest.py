"""The simulated engine behind the real server, called in process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from starlette.types import ASGIApp, Message

from pratique.core.clock import Clock, ManualClock, SystemClock
from pratique.inference.engines.simulated import SimulatedEngine
from pratique.inference.run import shape_finder
from pratique.inference.server import ModelParts, ModelServer
from pratique.inference.settings import InferenceSettings, SimulatedSettings
from pratique.inference.slot import Artifacts, ModelSlot

FAST = {"load_seconds": 0.0, "first_token_seconds": 0.0, "token_seconds": 0.0, "reply_tokens": 20}


@dataclass
class Answer:
    """What an application sent back; `leave` is the client closing its connection."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    is_complete: bool = False
    leave: asyncio.Event = field(default_factory=asyncio.Event)

    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    def events(self) -> list[tuple[str, Any]]:
        events = []
        for block in self.body.decode().split("\n\n"):
            if block:
                name, data = block.split("\n")
                events.append((name.removeprefix("event: "), msgspec.json.decode(data.removeprefix("data: "))))
        return events


class Caller:
    """Calls an ASGI application as a server would."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, method: str, path: str, body: object = b"", **headers: str) -> Answer:
        answer = Answer()
        await self.into(answer, method, path, body, **headers)
        return answer

    async def into(self, answer: Answer, method: str, path: str, body: object = b"", **headers: str) -> None:
        raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
        requests = [{"type": "http.request", "body": raw, "more_body": False}]

        async def receive() -> Message:
            if requests:
                return requests.pop()
            await answer.leave.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                answer.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            else:
                answer.body += message.get("body", b"")
                answer.is_complete = not message.get("more_body", False)

        pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": pairs,
        }
        await self.app(scope, receive, send)


class Running:
    """A model server over the simulated engine, and the task that runs it."""

    def __init__(
        self, server: ModelServer, engines: list[SimulatedEngine], stop: asyncio.Event, clock: Clock | None = None
    ) -> None:
        self.server = server
        self.engines = engines
        self.engine = engines[0]
        self.slot: ModelSlot = server.slots[0]
        self.stop = stop
        self.call = Caller(server.gate)
        self.clock: Any = clock or SystemClock()
        self.task: asyncio.Task[None] = asyncio.create_task(server.run(stop))

    async def until(self, state: str) -> None:
        """Wait for a lifecycle state; raise what ended the server before."""
        async with asyncio.timeout(10):
            while self.server.lifecycle.state.value != state:
                if self.task.done():
                    self.task.result()
                    if self.server.lifecycle.state.value != state:
                        raise AssertionError(f"it ended in {self.server.lifecycle.state}")
                await asyncio.sleep(0.002)

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait for what has no event of its own."""
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 - the server tells nobody when a request enters
                await asyncio.sleep(0.001)


Launch = Callable[..., Running]


class FastClock(ManualClock):
    """A clock that runs as fast as there is work to do: what waits for seconds waits for microseconds."""

    def __init__(self) -> None:
        super().__init__()
        self._going = asyncio.Event()
        self._going.set()

    async def run(self) -> None:
        while True:
            await self._going.wait()
            await self.advance(0.01)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Let no time pass, however long the machine takes: what is begun inside does not end."""
        self._going.clear()
        try:
            yield
        finally:
            self._going.set()


@pytest.fixture
def make_settings() -> Callable[..., InferenceSettings]:
    def make(**changes: Any) -> InferenceSettings:
        simulated = SimulatedSettings(**{**FAST, **changes.pop("simulated", {})})
        return InferenceSettings(engine="simulated", max_model_len=2048, simulated=simulated, **changes)

    return make


@pytest.fixture
async def launch(make_settings: Callable[..., InferenceSettings], tmp_path: Path) -> AsyncIterator[Launch]:
    """Start model servers; they end with the test."""
    async with contextlib.AsyncExitStack() as stack:

        def start(
            *,
            artifacts: Artifacts | None = None,
            models: tuple[str, ...] = ("simulated",),
            cgroup: Any = None,
            clock: FastClock | None = None,
            **changes: Any,
        ) -> Running:
            settings = make_settings(**changes)
            engines = [
                SimulatedEngine(settings.simulated, model=name, max_model_len=settings.max_model_len, clock=clock)
                for name in models
            ]
            parts = [
                ModelParts(
                    engine=engine,
                    settings=settings,
                    shapes=shape_finder(settings, engine.model),
                    artifacts=artifacts or Artifacts(),
                    timings=tmp_path / "last.json",
                )
                for engine in engines
            ]
            server = ModelServer(settings, parts, clock=clock, cgroup=cgroup)
            running = Running(server, engines, asyncio.Event(), clock)
            if clock is not None:
                ticking = asyncio.create_task(clock.run())
                stack.callback(ticking.cancel)
            stack.push_async_callback(_end, running)
            return running

        yield start


async def _end(running: Running) -> None:
    running.task.cancel()
    await asyncio.gather(running.task, return_exceptions=True)


@pytest.fixture
def launch_fast(launch: Launch) -> Launch:
    """Start model servers on a clock that does not let anybody wait."""
    return lambda **changes: launch(clock=FastClock(), **changes)


@pytest.fixture
def caller() -> type[Caller]:
    return Caller


@pytest.fixture
def answer() -> type[Answer]:
    return Answer
