"""The model server's process: listen at once, load, warm up, serve, drain.

1. Listen, with the gate closed                          → process alive
2. Verify the artifacts while the engine imports, load   → model loaded
3. Send the warmup shapes through the real path          → traffic ready
4. Serve until SIGTERM or SIGINT, or until the engine is found dead
5. Drain: no new work, running requests finish or are cut with an error event → stopped

A failure in 2, 3 or 4 ends the process with exit code 1: whoever runs it starts another, which has to show again that
it is ready.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from pratique.core.catalogue.inference import (
    LIFECYCLE_STATE,
    LIFECYCLE_TRANSITIONS,
    MODEL_LOAD_FAILURE,
    PHASE_SECONDS,
    WARMUP_TIMEOUT,
)
from pratique.core.clock import SystemClock
from pratique.core.errors import EnvironmentFaultError, PratiqueError
from pratique.core.events import get_logger
from pratique.core.ids import RandomIds
from pratique.core.metrics import Metrics
from pratique.inference.api.invocations import Invocations
from pratique.inference.artifacts.small_model import SMALL_MODEL, default_model_root
from pratique.inference.engines.interface import Engine
from pratique.inference.errors import EngineError, EngineLoadError, WarmupError
from pratique.inference.gate import Gate, GateParts
from pratique.inference.lifecycle import Lifecycle, State, Transition
from pratique.inference.settings import InferenceSettings
from pratique.inference.status import PHASES, Phases, load_last_timings, render_status, save_timings
from pratique.inference.warmup.run import warm_up
from pratique.inference.warmup.shapes import BUILT_IN_SHAPES, Shape

__all__ = ["ModelServer", "PortTakenError", "serve"]

_LOG = get_logger("server")
_CHECK_SECONDS = 1.0
_CLOSE_SECONDS = 10.0


class PortTakenError(EnvironmentFaultError):
    """Another process listens on the port."""

    code = "port_taken"


class ModelServer:
    """One model behind one gate."""

    def __init__(
        self, settings: InferenceSettings, engine: Engine, *, verify: Callable[[], object], timings: Path
    ) -> None:
        clock = SystemClock()
        self.settings = settings
        self.engine = engine
        self.metrics = Metrics()
        self.lifecycle = Lifecycle(clock, age_seconds=time.time() - psutil.Process().create_time())
        self.phases = Phases(clock, expected_seconds=load_last_timings(timings))
        self.gate = Gate(
            GateParts(
                lifecycle=self.lifecycle,
                status=self.status,
                metrics=self.metrics,
                engine_metrics=engine.metrics,
                max_in_flight=settings.max_queued_requests,
            )
        )
        self.error: PratiqueError | None = None
        self._invocations = Invocations(engine, settings, ids=RandomIds(clock))
        self._verify = verify
        self._timings = timings
        self._warmed: list[str] = []
        self._warming: Shape | None = None
        self.lifecycle.listen(self._record)

    def status(self) -> dict[str, object]:
        """Return the body of /status."""
        pending = [shape.name for shape in BUILT_IN_SHAPES if shape.name not in self._warmed]
        body = render_status(
            name=self.settings.name,
            model=self.engine.model,
            engine=self.engine.kind,
            lifecycle=self.lifecycle,
            phases=self.phases,
            warmup=(self._warmed, pending),
        )
        failure = self.error and {"code": self.error.code, "message": self.error.message, "hint": self.error.hint}
        return body | {"error": failure}

    async def run(self, stop: asyncio.Event) -> None:
        """Load, serve until `stop` is set, drain. Raises what ended it otherwise; /status tells it meanwhile."""
        stopping = asyncio.create_task(stop.wait())
        working = asyncio.create_task(self._work())
        try:
            await asyncio.wait({stopping, working}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
            await self._drain()
        except PratiqueError as error:
            self._fail(error)
            raise
        finally:
            for task in (working, stopping):
                task.cancel()
            await asyncio.gather(working, stopping, return_exceptions=True)
            await self._close_engine()

    async def _work(self) -> None:
        self.lifecycle.advance(State.PROCESS_ALIVE)
        await self._load()
        self.lifecycle.advance(State.MODEL_LOADED)
        await self._warm_up()
        self.phases.finish("ready")
        self.lifecycle.advance(State.TRAFFIC_READY)
        self._keep_timings()
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            self.engine.check()

    async def _load(self) -> None:
        seconds = self.settings.load_timeout_seconds
        try:
            async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
                group.create_task(self.engine.start(self._report))
                group.create_task(asyncio.to_thread(self._verify))
        except TimeoutError as error:
            raise EngineLoadError(
                f"The model was not loaded after {seconds:.0f} s; the last phase was: {self.phases.detail}.",
                hint="Raise load_timeout_seconds where loading is slow.",
            ) from error
        except BaseExceptionGroup as group:
            raise next(iter(group.exceptions)) from group
        self.gate.open_to(self._route)

    async def _warm_up(self) -> None:
        def started(shape: Shape) -> None:
            if self._warming is not None:
                self._warmed.append(self._warming.name)
            self._warming = shape
            self.phases.enter("warmup", f"warming up: {shape.name}")

        await warm_up(
            self.engine,
            self._route,
            shapes=BUILT_IN_SHAPES,
            timeout_seconds=self.settings.warmup_timeout_seconds,
            started=started,
        )
        self._warmed = [shape.name for shape in BUILT_IN_SHAPES]

    async def _drain(self) -> None:
        if self.lifecycle.has_ended or self.lifecycle.state is State.STARTING:
            return
        self.phases.detail = "draining"
        self.lifecycle.advance(State.DRAINING)
        try:
            async with asyncio.timeout(self.settings.drain_seconds):
                await self.gate.wait_idle()
        except TimeoutError:
            self._invocations.cut()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self.gate.wait_idle()
        self.lifecycle.advance(State.STOPPED)

    async def _close_engine(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self.engine.aclose()

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        inner: ASGIApp = self._invocations if scope["path"] == "/invocations" else self.engine.openai_app
        await inner(scope, receive, send)

    def _report(self, detail: str) -> None:
        self.phases.enter("imports" if "import" in detail else "load", detail)
        _LOG.info("phase", detail=detail, at_seconds=round(self.lifecycle.age_seconds(), 2))

    def _record(self, step: Transition) -> None:
        for state in State:
            self.metrics.gauge(LIFECYCLE_STATE).labels(state=state.value).set(state is step.state)
        self.metrics.counter(LIFECYCLE_TRANSITIONS).labels(state=step.state.value).inc()
        _LOG.info("lifecycle", state=step.state.value, at_seconds=round(step.at_seconds, 2))

    def _keep_timings(self) -> None:
        self.phases.timings["ready"] = round(self.lifecycle.age_seconds(), 3)
        for phase, seconds in self.phases.timings.items():
            self.metrics.gauge(PHASE_SECONDS).labels(phase=phase).set(seconds)
        save_timings(self._timings, {phase: self.phases.timings.get(phase, 0.0) for phase in PHASES})
        _LOG.info("ready", **self.phases.timings)

    def _fail(self, error: PratiqueError) -> None:
        self.error = error
        self.phases.detail = error.message
        if isinstance(error, WarmupError):
            self.metrics.counter(WARMUP_TIMEOUT).inc()
        elif self.lifecycle.state in {State.STARTING, State.PROCESS_ALIVE}:
            self.metrics.counter(MODEL_LOAD_FAILURE).inc()
        if not self.lifecycle.has_ended:
            self.lifecycle.advance(State.FAILED)
        _LOG.error("failed", code=error.code, error=error.message, hint=error.hint)


async def serve(settings: InferenceSettings) -> int:
    """Run a model server until it is told to stop; return the exit code."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    listener = _listen(settings)
    server = _build(settings)
    _LOG.info("listening", host=settings.host, port=listener.getsockname()[1], engine=settings.engine)
    async with _http(server.gate, listener):
        try:
            await server.run(stop)
        except EngineError:
            return 1
        except PratiqueError as error:
            return max(error.exit_code, 1) if error.exit_code == 2 else 1  # noqa: PLR2004 - usage, documented
    return 0


def _build(settings: InferenceSettings) -> ModelServer:
    if settings.engine == "simulated":
        from pratique.inference.engines.simulated import SimulatedEngine

        engine: Engine = SimulatedEngine(settings.simulated, model="simulated", max_model_len=settings.max_model_len)
        return ModelServer(settings, engine, verify=lambda: None, timings=Path(os.devnull))
    from pratique.inference.artifacts.manifest import verify
    from pratique.inference.engines.vllm import VllmEngine

    root = settings.model_root or default_model_root(dict(os.environ))
    folder = settings.model or root / SMALL_MODEL
    engine = VllmEngine(settings, folder=folder, model=folder.name)
    return ModelServer(
        settings, engine, verify=lambda: verify(folder), timings=folder.parent / f".{folder.name}.start.json"
    )


def _listen(settings: InferenceSettings) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise PortTakenError(
            f"The model server cannot listen on {settings.host}:{settings.port}: {error.strerror}.",
            hint="Choose another one with --port.",
        ) from error
    listener.listen(1024)
    return listener


@contextlib.asynccontextmanager
async def _http(app: ASGIApp, listener: socket.socket) -> AsyncIterator[None]:
    """Serve HTTP on the socket while the body runs. Signals stay ours."""
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1)
    http = _Http(config)
    serving = asyncio.create_task(http.serve(sockets=[listener]))
    try:
        yield
    finally:
        http.should_exit = True
        await asyncio.wait({serving}, timeout=_CLOSE_SECONDS)


class _Http(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]  # noqa: ANN202 - the base class is untyped here
        """Leave the signals to `serve`, which drains before it stops listening."""
        yield
