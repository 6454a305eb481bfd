"""The life of a model server behind its gate: load, warm up, serve, drain. The caller listens before it begins.

1. Import the model where it is not there yet              → process alive
2. Load every model (tiered: the first)                    → model loaded
3. Send the warmup shapes through the real path            → traffic ready
4. Serve. A model whose engine died is brought back here   → degraded, then traffic ready
5. Drain: no new work, running requests finish or are cut with an error event → stopped

A failure in 1 to 3, or an engine that does not come back, ends the server: whoever runs it starts another, which has
to show again that it is ready.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

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
from pratique.inference.api.router import Router
from pratique.inference.containment.cgroup import MemoryCgroup, find_memory_cgroup
from pratique.inference.containment.watchdog import MemoryWatchdog
from pratique.inference.engines.interface import Engine
from pratique.inference.errors import ArtifactError, EngineLoadError, UnsafeWeightsError, WarmupTimeoutError
from pratique.inference.exposition import merge_expositions
from pratique.inference.gate import Gate, GateParts, Refusal
from pratique.inference.lifecycle import Lifecycle, State, Transition
from pratique.inference.settings import InferenceSettings
from pratique.inference.slot import Artifacts, ModelSlot, SlotParts
from pratique.inference.status import MemoryMeter, render_lifecycle, render_phases, render_settings
from pratique.inference.warmup.shapes import Shape

__all__ = ["ModelParts", "ModelServer"]

_LOG = get_logger("server")
_LAST_WORDS_SECONDS: Final = 1.0
_STATES_OF_SERVICE: Final = frozenset({State.MODEL_LOADED, State.TRAFFIC_READY, State.DEGRADED})


@dataclass(frozen=True, kw_only=True)
class ModelParts:
    """What a server needs to serve one model."""

    engine: Engine
    settings: InferenceSettings
    """Those of the server, with what is different for this model."""
    shapes: Callable[[Engine], Sequence[Shape]]
    """The warmup shapes, once the engine is there to be asked what it takes."""
    artifacts: Artifacts = field(default_factory=Artifacts)
    timings: Path | None = None
    """Where the phases' times of the last start are kept; None for nowhere."""


class ModelServer:
    """One model, or several, behind one gate."""

    def __init__(
        self,
        settings: InferenceSettings,
        models: Sequence[ModelParts],
        *,
        clock: Clock | None = None,
        cgroup: MemoryCgroup | None = None,
    ) -> None:
        clock = clock or SystemClock()
        self._clock = clock
        self.settings = settings
        self.metrics = Metrics()
        self.lifecycle = Lifecycle(clock, age_seconds=time.time() - psutil.Process().create_time())
        self.error: PratiqueError | None = None
        self.slots: list[ModelSlot] = []
        self.router = Router(self.slots, settings)
        self._invocations = Invocations(self.router, settings, ids=RandomIds(clock), metrics=self.metrics)
        self.router.invocations = self._invocations
        parts = SlotParts(clock=clock, metrics=self.metrics, changed=self._slot_changed, route=self.router)
        for model in models:
            slot = ModelSlot(
                model.settings,
                model.engine,
                parts,
                shapes=model.shapes,
                artifacts=model.artifacts,
                timings=model.timings,
            )
            self.slots.append(slot)
        self.gate = Gate(
            GateParts(
                refusal=self._refusal,
                probe=self.probe,
                status=self.status,
                is_ready=lambda: self.lifecycle.is_ready,
                metrics=self.metrics,
                engine_metrics=lambda: merge_expositions(slot.engine.metrics() for slot in self.slots),
                max_in_flight=settings.max_queued_requests,
            )
        )
        self.memory = MemoryWatchdog(
            clock,
            settings.containment,
            cgroup=cgroup or find_memory_cgroup(),
            metrics=self.metrics,
            relieve=self._relieve,
        )
        self._meter = MemoryMeter(clock)
        self.gate.open_to(self.router)
        self.lifecycle.listen(self._record)
        # There from the first scrape: an alarm on a counter that appears with its first failure misses it.
        for spec in (MODEL_LOAD_FAILURE, WARMUP_TIMEOUT):
            self.metrics.counter(spec)

    def probe(self) -> dict[str, object]:
        """Return the body of /ping: what a probe and the person who reads it need."""
        slot = self._current
        failure = self.error and {"code": self.error.code, "message": self.error.message, "hint": self.error.hint}
        return {
            "schema_version": 1,
            "name": self.settings.name,
            "model": self.slots[0].name,
            "engine": self.slots[0].engine.kind,
            **render_lifecycle(self.lifecycle),
            **render_phases(slot.phases),
            "warmup": slot.warmup_status(),
            "pid": os.getpid(),
            "error": failure,
            "memory_bytes": self._meter.read(),
        }

    def status(self) -> dict[str, object]:
        """Return the body of /status: all that is known."""
        return {
            **self.probe(),
            "in_flight": self.gate.num_in_flight,
            "models": [slot.status() for slot in self.slots],
            "memory": self.memory.snapshot(),
            "settings": render_settings(self.settings),
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
            await asyncio.gather(*(slot.aclose() for slot in self.slots))

    async def _work(self) -> None:
        self.lifecycle.advance(State.PROCESS_ALIVE)
        await self._fetch()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.memory.run())
                if self.settings.readiness == "tiered":
                    await self._start_in_turn(group)
                else:
                    await self._start_together(group)
        except ExceptionGroup as group:
            raise group.exceptions[0] from group

    async def _start_together(self, group: asyncio.TaskGroup) -> None:
        """Take traffic once every model is warm."""
        for slot in self.slots:
            await slot.load()
        self.lifecycle.advance(State.MODEL_LOADED)
        for slot in self.slots:
            await slot.warm_up()
            group.create_task(slot.watch())

    async def _start_in_turn(self, group: asyncio.TaskGroup) -> None:
        """Take traffic for each model that is warm; one that fails is left out, unless all do."""
        for slot in self.slots:
            try:
                await slot.load()
                if self.lifecycle.state is State.PROCESS_ALIVE:
                    self.lifecycle.advance(State.MODEL_LOADED)
                await slot.warm_up()
            except PratiqueError as error:
                self._count_failure(error)
                slot.fail(error)
                await slot.aclose()
                _LOG.error("model_failed", model=slot.name, code=error.code, error=error.message, hint=error.hint)
            else:
                group.create_task(slot.watch())
        failed = [slot.error for slot in self.slots if slot.error is not None]
        if len(failed) == len(self.slots):
            raise failed[0]

    async def _fetch(self) -> None:
        for slot, fetch in [(slot, slot.artifacts.fetch) for slot in self.slots]:
            if fetch is not None:
                await asyncio.to_thread(fetch, _Teller(slot))

    def _relieve(self, *, needs_restart: bool) -> None:
        for slot in self.slots:
            slot.relieve(needs_restart=needs_restart)

    @property
    def _current(self) -> ModelSlot:
        """The model that the server waits for, or else its first."""
        return next((slot for slot in self.slots if not slot.is_ready and slot.error is None), self.slots[0])

    def _slot_changed(self) -> None:
        if self.lifecycle.state not in _STATES_OF_SERVICE:
            return
        ready = [slot.is_ready for slot in self.slots]
        serves = any(ready) if self.settings.readiness == "tiered" else all(ready)
        if serves and not self.lifecycle.is_ready:
            self._become_ready()
        elif not serves and self.lifecycle.is_ready:
            self.lifecycle.advance(State.DEGRADED)

    def _become_ready(self) -> None:
        is_first = self.lifecycle.state is State.MODEL_LOADED
        self.lifecycle.advance(State.TRAFFIC_READY)
        if not is_first:
            return
        slot = self.slots[0]
        slot.phases.timings["ready"] = round(self.lifecycle.age_seconds(), 3)
        for phase, seconds in slot.phases.timings.items():
            self.metrics.gauge(PHASE_SECONDS).labels(phase=phase).set(seconds)
        _LOG.info("ready", **slot.phases.timings)

    def _refusal(self) -> Refusal | None:
        """Say why no request is taken now."""
        state = self.lifecycle.state
        if state is State.DEGRADED and any(slot.is_ready for slot in self.slots):
            # Several models, and not this one's engine is under repair: the router knows which is.
            state = State.TRAFFIC_READY
        if state is not State.TRAFFIC_READY:
            eta = self._current.phases.eta_seconds()
            text = self._current.fallback if state is State.DEGRADED else None
            return Refusal(reason=state.value, retry_after_seconds=eta or 1.0, text=text)
        if self.memory.is_shedding:
            return Refusal(reason="memory", retry_after_seconds=1.0, text=self.settings.containment.fallback_text)
        return None

    async def _drain(self) -> None:
        if self.lifecycle.has_ended or self.lifecycle.state is State.STARTING:
            return
        self._current.phases.finish("draining")
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

    def _record(self, step: Transition) -> None:
        for state in State:
            self.metrics.gauge(LIFECYCLE_STATE).labels(state=state.value).set(state is step.state)
        self.metrics.counter(LIFECYCLE_TRANSITIONS).labels(state=step.state.value).inc()
        tell = _LOG.warning if step.state in {State.DEGRADED, State.FAILED} else _LOG.info
        tell("lifecycle", state=step.state.value, at_seconds=round(step.at_seconds, 2))

    def _fail(self, error: PratiqueError) -> None:
        self.error = error
        self._current.phases.finish(error.message)
        self._count_failure(error)
        if not self.lifecycle.has_ended:
            self.lifecycle.advance(State.FAILED)
        _LOG.error("failed", code=error.code, error=error.message, hint=error.hint)

    def _count_failure(self, error: PratiqueError) -> None:
        if isinstance(error, WarmupTimeoutError):
            self.metrics.counter(WARMUP_TIMEOUT).inc()
        elif isinstance(error, (ArtifactError, EngineLoadError, UnsafeWeightsError)):
            self.metrics.counter(MODEL_LOAD_FAILURE).inc()


class _Teller:
    """Passes on how far the import of a slot's model is."""

    def __init__(self, slot: ModelSlot) -> None:
        self._slot = slot

    def __call__(self, phase: str, share: float) -> None:
        if share < 1:
            self._slot.phases.enter("import", f"importing the model: {phase}", counted=share)
