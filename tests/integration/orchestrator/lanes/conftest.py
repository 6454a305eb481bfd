"""Burst lanes over a scripted model server, and a double of the one call of the Lambda API that they use."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import struct
import threading
import types
import zlib
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from pratique.core.clock import SystemClock
from pratique.core.metrics import Metrics
from pratique.orchestrator.forward.interface import ForwardRequest
from pratique.orchestrator.lanes import handler
from pratique.orchestrator.lanes.lambda_lane import LambdaLane
from pratique.orchestrator.lanes.scripted import ScriptedAnswer, ScriptedBurstLane
from pratique.orchestrator.lanes.settings import LambdaSettings, WorkerSettings
from pratique.orchestrator.lanes.workers import WorkerLane

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from pratique.orchestrator.lanes.interface import BurstLane

CAPACITY = 2
PIECES = (b"data: one\n\n", b"data: two\n\n")


def ask(mode: str = "stream", *, timeout_seconds: float = 20.0, path: str = "/v1/completions") -> ForwardRequest:
    return ForwardRequest(
        method="POST",
        path=path,
        headers=[("content-type", "application/json"), ("x-trace", "1")],
        body=json.dumps({"mode": mode}).encode(),
        affinity="key_1",
        timeout_seconds=timeout_seconds,
    )


@dataclass
class Upstream:
    """A model server; what it does is in the request's body."""

    url: str = ""
    num_open: int = 0
    seen: list[dict[str, str]] = field(default_factory=list)
    functions: list[asyncio.Future[str]] = field(default_factory=list)
    """Runs of the handler in this process, which end at the latest when this server does."""

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.seen.append({name.lower(): value for name, value in request.headers.items()})
        mode = json.loads(await request.read())["mode"]
        if mode == "refuse":
            return web.json_response({"error": "no"}, status=404)
        if mode == "edge":
            return web.Response(status=503, text="no healthy upstream")
        if mode == "slow":
            await asyncio.sleep(30)
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        self.num_open += 1
        try:
            await response.write(PIECES[0])
            await asyncio.sleep(0.05)
            if mode == "break" and request.transport is not None:
                request.transport.abort()
            if mode == "endless":
                while True:
                    await response.write(b": more\n\n")
                    await asyncio.sleep(0.02)
            await response.write(PIECES[1])
        finally:
            self.num_open -= 1
        return response


@asynccontextmanager
async def serving(application: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(application, shutdown_timeout=0.1, handler_cancellation=True, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


class LambdaDouble:
    """InvokeWithResponseStream as documented, over the very handler of the function: chunks as they come, in frames.

    What it is for: MiniStack knows the call but collects an answer before it sends it.
    """

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self.url = ""
        self.throttles = False
        self.num_open = 0
        self.last_frames: tuple[bytes, ...] | None = None
        """Sent instead of an answer, where set."""

    async def serve(self, request: web.Request) -> web.StreamResponse:
        if self.throttles:
            kind = {"x-amzn-errortype": "TooManyRequestsException"}
            return web.json_response({"Reason": "ConcurrentInvocationLimitExceeded"}, status=429, headers=kind)
        event = json.loads(await request.read())
        response = web.StreamResponse(
            headers={
                "content-type": "application/vnd.amazon.eventstream",
                "x-amzn-lambda-response-content-type": "application/vnd.awslambda.http-integration-response",
            }
        )
        self.num_open += 1
        try:
            await response.prepare(request)
            if self.last_frames is None:
                await self._run(event, response)
            for sent in self.last_frames or ():
                await response.write(sent)
        finally:
            self.num_open -= 1
        return response

    async def _run(self, event: dict[str, Any], response: web.StreamResponse) -> None:
        """Run the handler in a thread, as it blocks; it notices at its next chunk that nobody listens any more."""
        loop = asyncio.get_running_loop()
        payloads: asyncio.Queue[bytes | None] = asyncio.Queue()
        is_left = threading.Event()

        def send(payload: bytes | None) -> None:
            loop.call_soon_threadsafe(payloads.put_nowait, payload)

        run = loop.run_in_executor(None, run_function, event, send, is_left)
        self.upstream.functions.append(run)
        try:
            while (payload := await payloads.get()) is not None:
                await response.write(frame("PayloadChunk", payload))
            error = await run
            await response.write(frame("InvokeComplete", json.dumps({"ErrorCode": error} if error else {}).encode()))
        finally:
            is_left.set()


def run_function(event: dict[str, Any], send: Callable[[bytes | None], None], is_left: threading.Event) -> str:
    """Run the handler as a streaming runtime does; return the error's kind, if any."""
    context = types.SimpleNamespace(get_remaining_time_in_millis=lambda: 20_000)
    try:
        with closing(handler.stream(event, context)) as answer:
            send(json.dumps({"statusCode": answer.status, "headers": answer.headers}).encode() + bytes(8))
            for chunk in answer.chunks():
                if is_left.is_set():
                    break
                send(chunk)
    except (handler.UnreachableError, http.client.HTTPException, OSError):
        return "Unhandled"
    finally:
        send(None)
    return ""


def frame(kind: str, payload: bytes) -> bytes:
    """Return a message of an event stream (https://smithy.io/2.0/aws/amazon-eventstream.html)."""
    headers = b""
    content = "application/octet-stream" if kind == "PayloadChunk" else "application/json"
    for name, value in ((":message-type", "event"), (":event-type", kind), (":content-type", content)):
        headers += struct.pack("!B", len(name)) + name.encode() + struct.pack("!BH", 7, len(value)) + value.encode()
    prelude = struct.pack("!II", 16 + len(headers) + len(payload), len(headers))
    message = prelude + struct.pack("!I", zlib.crc32(prelude)) + headers + payload
    return message + struct.pack("!I", zlib.crc32(message))


@dataclass(kw_only=True)
class Bench:
    """A lane, and the knobs of what stands behind it."""

    lane: BurstLane
    num_running: Callable[[], int]
    play: Callable[[str], None]
    """Tell a scripted lane what the request's body tells a model server."""
    upstream: Upstream
    request: Callable[..., ForwardRequest]


@pytest.fixture
async def upstream(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Upstream]:
    model = Upstream()
    application = web.Application()
    application.router.add_post("/{path:.*}", model.serve)
    async with serving(application) as url:
        model.url = url
        monkeypatch.setenv("PRATIQUE_BURST_INFERENCE_URL", url)
        yield model
    async with asyncio.timeout(10):
        await asyncio.gather(*model.functions, return_exceptions=True)


@pytest.fixture(name="ask")
def asking() -> Callable[..., ForwardRequest]:
    return ask


@pytest.fixture(name="frame")
def framing() -> Callable[..., bytes]:
    return frame


@pytest.fixture
async def double(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[LambdaDouble, LambdaLane]]:
    for name, value in (("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test")):
        monkeypatch.setenv(name, value)
    api = LambdaDouble(upstream)
    application = web.Application()
    application.router.add_post("/2021-11-15/functions/burst/response-streaming-invocations", api.serve)
    async with serving(application) as url:
        settings = LambdaSettings(
            function="burst", region="us-east-1", endpoint_url=url, max_concurrency=CAPACITY, throttled_seconds=0.1
        )
        async with LambdaLane(settings, clock=SystemClock()).running() as lane:
            api.url = url
            yield api, lane


@pytest.fixture
async def workers(upstream: Upstream) -> AsyncIterator[WorkerLane]:
    lane = WorkerLane(
        WorkerSettings(max_workers=CAPACITY),
        inference_url=upstream.url,
        environment=os.environ,
        clock=SystemClock(),
        metrics=Metrics(),
    )
    async with lane.running():
        yield lane


@pytest.fixture(params=["scripted", "lambda", "workers"])
def bench(request: pytest.FixtureRequest, upstream: Upstream) -> Bench:
    if request.param == "workers":
        pool = request.getfixturevalue("workers")
        return Bench(
            request=ask, lane=pool, num_running=lambda: upstream.num_open, play=lambda _: None, upstream=upstream
        )
    if request.param == "lambda":
        api, lane = request.getfixturevalue("double")
        return Bench(request=ask, lane=lane, num_running=lambda: api.num_open, play=lambda _: None, upstream=upstream)
    scripted = ScriptedBurstLane(capacity=CAPACITY)

    def play(mode: str) -> None:
        scripted.script = {
            "stream": ScriptedAnswer(pieces=PIECES),
            "endless": ScriptedAnswer(pieces=PIECES * 500, piece_seconds=0.02),
            "refuse": ScriptedAnswer(status=404, pieces=(b'{"error": "no"}',)),
            "edge": ScriptedAnswer(fails_before_head=True),
            "break": ScriptedAnswer(pieces=PIECES, breaks_after=1),
            "slow": ScriptedAnswer(head_seconds=30.0),
        }[mode]

    return Bench(request=ask, lane=scripted, num_running=lambda: scripted.num_open, play=play, upstream=upstream)
