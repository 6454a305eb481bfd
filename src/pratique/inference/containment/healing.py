"""Keeps one engine in service: looks at it all the time, and mends what it finds inside the running process.

- an engine that died or hangs: it is restarted, warmed up, and tried with one full request; no traffic meanwhile
- KV blocks or memory that are used up: everything that runs is dropped, and it goes on
Either trips the breaker, so that requests are smaller for a while.

What is wrong is decided in `containment` (heartbeat, pressure, breaker); this is the shell around those decisions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from pratique.core.catalogue.containment import (
    BREAKER_STATE,
    ENGINE_RESET_SECONDS,
    ENGINE_RESETS,
    OOM_ESCALATIONS,
    OOM_RECOVERIES,
    OOM_REDUCED,
    OOM_TRIPS,
)
from pratique.core.clock import Clock
from pratique.core.events import get_logger
from pratique.core.metrics import Metrics
from pratique.inference.containment.breaker import Admission, Breaker, BreakerState, BreakerTransition
from pratique.inference.containment.heartbeat import Beat, Heartbeat
from pratique.inference.containment.incidents import IncidentKind, Incidents
from pratique.inference.containment.pressure import KvPressure
from pratique.inference.engines.interface import Engine
from pratique.inference.errors import DeathCause, EngineDeadError, EngineError
from pratique.inference.settings import ContainmentSettings

__all__ = ["Healer"]

_LOG = get_logger("healing")
_LOOK_SECONDS: Final = 0.05


@dataclass(frozen=True)
class _Trouble:
    cause: DeathCause
    needs_restart: bool
    detail: str
    """What is known of it, for people."""


class Healer:
    """The doctor of one engine, and its breaker."""

    def __init__(
        self,
        engine: Engine,
        settings: ContainmentSettings,
        *,
        clock: Clock,
        metrics: Metrics,
        restart: Callable[[], Awaitable[None]],
    ) -> None:
        """Take `restart` to bring the engine back into service: it raises EngineError where that did not work."""
        self.breaker = Breaker(clock, settings, max_model_len=engine.max_model_len)
        self.incidents = Incidents(clock)
        self._engine = engine
        self._settings = settings
        self._clock = clock
        self._metrics = metrics
        self._restart = restart
        self._heartbeat = Heartbeat(clock, settings, interval_seconds=_LOOK_SECONDS)
        self._pressure = KvPressure(clock, settings)
        self._asked: _Trouble | None = None
        self.breaker.listen(self._follow_breaker)
        # There from the first scrape: an alarm on a counter that appears with its first event misses that one.
        for spec in (OOM_ESCALATIONS, OOM_RECOVERIES, OOM_REDUCED):
            metrics.counter(spec).labels(model=engine.model)
        self._show_state(BreakerState.CLOSED)

    async def watch(self) -> None:
        """Keep the engine in service, until cancelled.

        Raises:
            EngineDeadError: restarts do not help.
        """
        self._asked = None  # asked for while it loaded: nothing of that is left to be given back
        while True:
            trouble = self._look()
            if trouble is not None:
                await self._heal(trouble)
            await self._clock.sleep(_LOOK_SECONDS)

    def relieve(self, *, needs_restart: bool) -> None:
        """Give memory back: the container has next to none left."""
        detail = "the container has next to no memory left"
        self._asked = _Trouble(DeathCause.OUT_OF_MEMORY, needs_restart, detail)

    def admit(self, wanted_tokens: int) -> Admission:
        """Ask the breaker, and count what it holds down."""
        admission = self.breaker.admit(wanted_tokens)
        if admission.is_reduced:
            self._metrics.counter(OOM_REDUCED).labels(model=self._engine.model).inc()
        return admission

    def _look(self) -> _Trouble | None:
        # Asked for, so that a cool-down which is over is seen (and told) also where no request comes.
        _ = self.breaker.state
        try:
            self._engine.check()
        except EngineDeadError as error:
            return _Trouble(error.cause, needs_restart=True, detail=error.message)
        asked, self._asked = self._asked, None
        if asked is not None:
            return asked
        pulse = self._engine.pulse()
        if self._heartbeat.observe(pulse) is not Beat.ALIVE:
            detail = f"no iteration while {pulse.num_unfinished} requests wait"
            return _Trouble(DeathCause.HUNG, needs_restart=True, detail=detail)
        # Once in a cool-down: what runs then is small, and the engine's own preemptions bring it to its end.
        if self._pressure.observe(pulse) and self.breaker.state is not BreakerState.OPEN:
            detail = f"{pulse.num_preemptions} preemptions so far, {pulse.num_waiting} requests wait"
            return _Trouble(DeathCause.KV_EXHAUSTED, needs_restart=False, detail=detail)
        return None

    async def _heal(self, trouble: _Trouble) -> None:
        began = self._clock.monotonic()
        kind = IncidentKind.RESTART if trouble.needs_restart else IncidentKind.FLUSH
        self._trip(trouble)
        if trouble.needs_restart:
            await self._restart_until_it_works(trouble.cause)
            self._asked = None  # there is no more to give back; where that was not enough it is asked for again
        else:
            await self._flush()
        self._heartbeat.restarted()
        seconds = self._clock.monotonic() - began
        self.incidents.record(kind, cause=trouble.cause, seconds=seconds)
        model = self._engine.model
        self._metrics.histogram(ENGINE_RESET_SECONDS).labels(model=model, kind=kind.value).observe(seconds)
        _LOG.info("engine_reset", model=model, kind=kind.value, cause=trouble.cause.value, seconds=round(seconds, 3))

    async def _flush(self) -> None:
        try:
            await self._engine.flush()
        except EngineError as error:
            # It may have died under it: the next look sees that, and restarts.
            self._count_reset(IncidentKind.FLUSH, error)
        else:
            self._count_reset(IncidentKind.FLUSH)

    async def _restart_until_it_works(self, cause: DeathCause) -> None:
        attempts = self._settings.max_restarts_in_a_row
        for _ in range(attempts):
            try:
                async with asyncio.timeout(self._settings.restart_timeout_seconds):
                    await self._restart()
            except (EngineError, TimeoutError) as error:
                self._count_reset(IncidentKind.RESTART, error)
            else:
                self._count_reset(IncidentKind.RESTART)
                return
        raise EngineDeadError(
            f"The engine of '{self._engine.model}' died ({cause.value}) and {attempts} restarts did not bring it back.",
            cause=cause,
            hint="The log says what each restart failed with.",
        )

    def _trip(self, trouble: _Trouble) -> None:
        model, cause = self._engine.model, trouble.cause
        trip = self.breaker.trip(cause)
        self._metrics.counter(OOM_TRIPS).labels(model=model, cause=cause.value).inc()
        self.incidents.record(IncidentKind.TRIP, cause=cause, detail=trouble.detail)
        _LOG.warning("oom_trip", model=model, cause=cause.value, detail=trouble.detail, trip=trip.number)
        if trip.is_escalation:
            self._metrics.counter(OOM_ESCALATIONS).labels(model=model).inc()
            self.incidents.record(IncidentKind.ESCALATION, cause=cause)
            _LOG.error(
                "oom_escalation",
                model=model,
                trips=self._settings.escalation_trips,
                within_seconds=self._settings.escalation_seconds,
                causes={cause.value: count for cause, count in self.breaker.trips_by_cause.items()},
                hint="For memory: more replicas or memory, or a lower max_model_len or max_num_seqs. For others: the "
                "incidents in /status.",
            )

    def _count_reset(self, kind: IncidentKind, error: Exception | None = None) -> None:
        labels = {"model": self._engine.model, "kind": kind.value, "outcome": "failed" if error else "ok"}
        self._metrics.counter(ENGINE_RESETS).labels(**labels).inc()
        if error is not None:
            detail = str(error) or type(error).__name__
            self.incidents.record(IncidentKind.RESTART_FAILED, detail=f"{kind.value}: {detail}")
            _LOG.error("engine_reset_failed", model=self._engine.model, kind=kind.value, error=detail)

    def _follow_breaker(self, step: BreakerTransition) -> None:
        self._show_state(step.state)
        if step.state is BreakerState.CLOSED:
            self._metrics.counter(OOM_RECOVERIES).labels(model=self._engine.model).inc()
            self.incidents.record(IncidentKind.RECOVERY)
        _LOG.info("breaker", model=self._engine.model, state=step.state.value, before=step.previous.value)

    def _show_state(self, present: BreakerState) -> None:
        gauge = self._metrics.gauge(BREAKER_STATE)
        for state in BreakerState:
            gauge.labels(model=self._engine.model, state=state.value).set(state is present)
