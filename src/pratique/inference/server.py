"""The life of a model server behind its gate: load, warm up, serve, drain. The caller listens before it begins.

1. Import the model where it is not there yet            → process alive
2. Verify the artifacts while the engine imports, load   → model loaded
3. Send the warmup shapes through the real path          → traffic ready
4. Serve until told to stop, or until the engine is found dead
5. Drain: no new work, running requests finish or are cut with an error event → stopped

A failure in 1 to 4 ends the server: whoever runs it starts another, which has to show again that it is ready.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
from starlette.types import ASGIApp, Receive, Scope, Send

from pratique.core.catalogue.inference import (
    LIFECYCLE_STATE,
    LIFECYCLE_TRANSITIONS,
    MODEL_LOAD_FAILURE,
    PHASE_SECONDS,
    WARMUP_TIMEOUT,
)
from pratique.core.clock import Clock, SystemClock
from pratique.core.errors import PratiqueError
from pratique.core.events import get_logger
from pratique.core.ids import RandomIds
from pratique.core.metrics import Metrics
from pratique.inference.api.invocations import Invocations
from pratique.inference.engines.interface import Engine
from pratique.inference.errors import EngineLoadError, WarmupTimeoutError
from pratique.inference.gate import Gate, GateParts
from pratique.inference.lifecycle import Lifecycle, State, Transition
from pratique.inference.settings import InferenceSettings
from pratique.inference.status import PHASES, MemoryMeter, Phases, load_last_timings, render_status, save_timings
from pratique.inference.warmup.run import warm_up
from pratique.inference.warmup.shapes import BUILT_IN_SHAPES, Shape

__all__ = ["Artifacts", "ModelServer"]

_LOG = get_logger("server")
_CHECK_SECONDS = 0.1
_CLOSE_SECONDS = 10.0
_LAST_WORDS_SECONDS = 1.0
_PERCENT = re.compile(r"(\d+) %$")


@dataclass(frozen=True, kw_only=True)
class Artifacts:
    """What is to be done about the model's files before they are loaded; both block, and run in threads."""

    fetch: Callable[[Callable[[str, float], None]], object] | None = None
    verify: Callable[[Callable[[float], None]], object] | None = None


class ModelServer:
    """One model behind one gate."""

    def __init__(
        self,
        settings: InferenceSettings,
        engine: Engine,
        *,
        artifacts: Artifacts,
        timings: Path | None,
        clock: Clock | None = None,
    ) -> None:
        clock = clock or SystemClock()
        self._clock = clock
        self.settings = settings
        self.engine = engine
        self.metrics = Metrics()
        self.lifecycle = Lifecycle(clock, age_seconds=time.time() - psutil.Process().create_time())
        self.phases = Phases(clock, expected_seconds=load_last_timings(timings) if timings else {})
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
        self._artifacts = artifacts
        self._memory = MemoryMeter(clock)
        self._timings = timings
        self._warmed: list[str] = []
        self._warming: Shape | None = None
        self.lifecycle.listen(self._record)
        # There from the first scrape: an alarm on a counter that appears with its first failure misses it.
        for spec in (MODEL_LOAD_FAILURE, WARMUP_TIMEOUT):
            self.metrics.counter(spec)

    def status(self) -> dict[str, object]:
        """Return the body of /status."""
        pending = [shape.name for shape in BUILT_IN_SHAPES if shape.name not in self._warmed]
        failure = self.error and {"code": self.error.code, "message": self.error.message, "hint": self.error.hint}
        return {
            "schema_version": 1,
            "name": self.settings.name,
            "model": self.engine.model,
            "engine": self.engine.kind,
            **render_status(self.lifecycle, self.phases, warmed=self._warmed, pending=pending),
            "pid": os.getpid(),
            "error": failure,
            "memory_bytes": self._memory.read(),
        }

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
        await self._fetch()
        await self._load()
        self.lifecycle.advance(State.MODEL_LOADED)
        await self._warm_up()
        self.engine.count_requests()
        self.phases.finish("ready")
        self.lifecycle.advance(State.TRAFFIC_READY)
        self._keep_timings()
        while True:
            self.engine.check()
            await self._clock.sleep(_CHECK_SECONDS)

    async def _fetch(self) -> None:
        fetch = self._artifacts.fetch
        if fetch is None:
            return

        def tell(phase: str, share: float) -> None:
            if share < 1:
                self.phases.enter("import", f"importing the model: {phase}", counted=share)
                _LOG.info("phase", detail=self.phases.detail, at_seconds=round(self.lifecycle.age_seconds(), 2))

        await asyncio.to_thread(fetch, tell)

    async def _load(self) -> None:
        seconds = self.settings.load_timeout_seconds
        try:
            async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
                group.create_task(self.engine.start(self._report))
                group.create_task(self._verify())
        except TimeoutError as error:
            raise EngineLoadError(
                f"The model was not loaded after {seconds:.0f} s; the last phase was: {self.phases.detail}.",
                hint="Raise load_timeout_seconds where loading is slow.",
            ) from error
        except ExceptionGroup as group:
            raise group.exceptions[0] from group
        self.gate.open_to(self._route)

    async def _verify(self) -> None:
        """Check the files while the engine is imported, which takes far longer: no weight is served unchecked."""
        verify = self._artifacts.verify
        if verify is None:
            return

        def tell(share: float) -> None:
            self.phases.beside = f"verifying checksums {share:.0%}"

        began = self._clock.monotonic()
        try:
            await asyncio.to_thread(verify, tell)
        finally:
            self.phases.beside = ""
        self.phases.timings["verify"] = round(self._clock.monotonic() - began, 3)

    async def _warm_up(self) -> None:
        def started(shape: Shape) -> None:
            if self._warming is not None:
                self._warmed.append(self._warming.name)
            self._warming = shape
            share = len(self._warmed) / len(BUILT_IN_SHAPES)
            self.phases.enter("warmup", f"warming up: {shape.name}", counted=share)

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
        self.phases.finish("draining")
        self.lifecycle.advance(State.DRAINING)
        try:
            async with asyncio.timeout(self.settings.drain_seconds):
                await self.gate.wait_idle()
        except TimeoutError:
            self._invocations.cut()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LAST_WORDS_SECONDS):
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
        percent = _PERCENT.search(detail)
        counted = int(percent[1]) / 100 if percent else None
        self.phases.enter("imports" if "import" in detail else "load", detail, counted=counted)
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
        if self._timings is not None:
            save_timings(self._timings, {phase: self.phases.timings.get(phase, 0.0) for phase in PHASES})
        _LOG.info("ready", **self.phases.timings)

    def _fail(self, error: PratiqueError) -> None:
        self.error = error
        self.phases.finish(error.message)
        if isinstance(error, WarmupTimeoutError):
            self.metrics.counter(WARMUP_TIMEOUT).inc()
        elif self.lifecycle.state in {State.STARTING, State.PROCESS_ALIVE}:
            self.metrics.counter(MODEL_LOAD_FAILURE).inc()
        if not self.lifecycle.has_ended:
            self.lifecycle.advance(State.FAILED)
        _LOG.error("failed", code=error.code, error=error.message, hint=error.hint)
