"""One model of a server: engine, warmup, breaker. It is kept in service while the process lives.

1. Check the artifacts' layout; verify their content while the engine starts   → warming up
2. Send the warmup shapes through the real path                                → ready
3. Watch (`healing`): an engine that died or hangs is restarted in this process and warmed up again, one shape of which
   fills the whole context                                                     → degraded, then ready
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from pratique.core.catalogue.inference import MODEL_READY, REPEATED_LOAD_FAILURE
from pratique.core.clock import Clock
from pratique.core.errors import PratiqueError
from pratique.core.events import get_logger
from pratique.core.metrics import Metrics
from pratique.inference.api.chat_budget import ChatBudget
from pratique.inference.api.lost_engine import with_lost_engine
from pratique.inference.api.target import WARMUP, Outcome
from pratique.inference.artifacts.failures import SYSTEMIC
from pratique.inference.containment.breaker import Admission, Breaker, BreakerState
from pratique.inference.containment.healing import Healer
from pratique.inference.context.fitter import Fitter
from pratique.inference.context.recall.factory import make_recall
from pratique.inference.engines.interface import Engine, EnginePhase
from pratique.inference.errors import MEMORY_CAUSES, EngineLoadError
from pratique.inference.settings import InferenceSettings
from pratique.inference.status import PHASES, Phases, load_last_timings, render_phases, save_timings
from pratique.inference.warmup.run import WarmupSummary, warm_up
from pratique.inference.warmup.shapes import Shape

__all__ = ["Artifacts", "ModelSlot", "SlotParts", "SlotState"]

_LOG = get_logger("slot")
_CLOSE_SECONDS: Final = 10.0


class SlotState(enum.Enum):
    """Where one model stands."""

    WAITING = "waiting"
    LOADING = "loading"
    WARMING_UP = "warming_up"
    READY = "ready"
    DEGRADED = "degraded"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class Artifacts:
    """What is to be done about a model's files before they are loaded; all block, and run in threads."""

    fetch: Callable[[Callable[[str, float], None]], object] | None = None
    """Import the model where it is not there yet."""
    check: Callable[[], object] | None = None
    """The quick part of the verification, before anything reads the files."""
    verify: Callable[[Callable[[float], None]], object] | None = None
    """The long part, beside the engine's start; the gate stays closed until it is done."""
    confirm: Callable[[], None] = lambda: None
    """Check that what was loaded is what was verified."""
    cancel: Callable[[], None] = lambda: None
    """End the long part soon: nobody waits for it any more."""
    released: Callable[[], list[dict[str, object]]] = list
    """What was released, of what was verified, where released artifacts are required."""
    failed: Callable[[str], int] = lambda _reason: 1
    """Count a start that failed, where the next process finds it; return how many did in a row."""
    failed_before: Callable[[], int] = lambda: 0
    """How many starts in a row had failed before this one."""
    succeeded: Callable[[], None] = lambda: None
    """Forget the failures: the model takes traffic."""


@dataclass(frozen=True, kw_only=True)
class SlotParts:
    """What a slot shares with its server."""

    clock: Clock
    metrics: Metrics
    changed: Callable[[], None]
    """Called after every change of state."""
    route: ASGIApp
    """The application that customers reach, behind the gate."""


class ModelSlot:
    """A model, and all that keeps it in service."""

    def __init__(
        self,
        settings: InferenceSettings,
        engine: Engine,
        parts: SlotParts,
        *,
        shapes: Callable[[Engine], Sequence[Shape]],
        artifacts: Artifacts,
        timings: Path | None,
    ) -> None:
        self.settings = settings
        self.engine = engine
        self.state = SlotState.WAITING
        self._recall = make_recall(
            settings.budget, engine, clock=parts.clock, metrics=parts.metrics, may_run=self._is_idle
        )
        self.fitter = Fitter(engine, settings.budget, recall=self._recall)
        self.error: PratiqueError | None = None
        self.phases = Phases(
            parts.clock, expected_seconds=load_last_timings(timings) if timings else {}, closed=self._tell_phase
        )
        self._parts = parts
        self._clock = parts.clock
        self.artifacts = artifacts
        self._find_shapes = shapes
        self._shapes: Sequence[Shape] = ()
        self._warmed: list[str] = []
        self._warming: str | None = None
        self._summary: WarmupSummary | None = None
        self._timings = timings
        self._healer = Healer(
            engine, settings.containment, clock=parts.clock, metrics=parts.metrics, restart=self._restart
        )
        openai = with_lost_engine(self._openai, engine, self.breaker, fallback=settings.containment.fallback_text)
        self.openai_app: ASGIApp = ChatBudget(self, openai, settings, metrics=parts.metrics)
        parts.metrics.gauge(MODEL_READY).labels(model=engine.model).set(0)

    @property
    def name(self) -> str:
        return self.engine.model

    @property
    def breaker(self) -> Breaker:
        return self._healer.breaker

    @property
    def is_ready(self) -> bool:
        return self.state is SlotState.READY

    @property
    def fallback(self) -> str | None:
        """What a person may be shown while the model is under repair for its memory; None for other reasons."""
        is_of_memory = self.breaker.last_cause in MEMORY_CAUSES
        return self.settings.containment.fallback_text if is_of_memory else None

    def status(self) -> dict[str, object]:
        """Return what /status says of this model."""
        return {
            "name": self.name,
            "engine": self.engine.kind,
            "state": self.state.value,
            "max_model_len": self.engine.max_model_len,
            "adapters": list(self.engine.adapters),
            "released": self.artifacts.released(),
            **render_phases(self.phases),
            "warmup": self.warmup_status(),
            "last_warmup": self._summary and self._summary.to_status(),
            "budget": self._budget_status(),
            "breaker": self.breaker.snapshot(),
            "incidents": self._healer.incidents.snapshot(),
        }

    def _budget_status(self) -> dict[str, object]:
        """Return how much context requests get now."""
        is_closed = self.breaker.state is BreakerState.CLOSED
        limit = self.engine.max_model_len if is_closed else self.breaker.reduced_tokens
        policy = self.settings.budget
        return {
            "limit_tokens": limit,
            "context_reserve_tokens": policy.context_reserve_tokens,
            "output_reserve_tokens": policy.output_reserve_tokens,
            "recall": policy.recall,
        }

    def warmup_status(self) -> dict[str, object]:
        """Return how far the warmup is."""
        pending = [shape.name for shape in self._shapes if shape.name not in self._warmed]
        return {"done": self._warmed, "pending": pending}

    async def load(self) -> None:
        """Bring the model into memory, its files verified.

        Raises:
            ArtifactError: its files are not what they should be. EngineLoadError: it does not load, or not in time.
        """
        self._enter(SlotState.LOADING)
        with self._counting_failures():
            await self._load()
        self.phases.finish("loaded")

    async def warm_up(self) -> None:
        """Take the model into service.

        Raises:
            WarmupError: a shape failed. WarmupTimeoutError: the time is over.
        """
        self._enter(SlotState.WARMING_UP)
        with self._counting_failures():
            await self._warm()
        self.artifacts.succeeded()
        self.phases.finish("ready")
        if self._timings is not None:
            save_timings(self._timings, {phase: self.phases.timings.get(phase, 0.0) for phase in PHASES})
        self._enter(SlotState.READY)

    async def watch(self) -> None:
        """Keep the model in service, until cancelled.

        Raises:
            EngineDeadError: restarts do not help.
        """
        if self._recall is not None:
            await self._recall.start()
        await self._healer.watch()

    def relieve(self, *, needs_restart: bool) -> None:
        """Give memory back: the container has next to none left."""
        self._healer.relieve(needs_restart=needs_restart)

    def admit(self, wanted_tokens: int) -> Admission:
        """Say how much context a request gets that wants so many tokens in all; to be settled."""
        return self._healer.admit(wanted_tokens)

    def settle(self, admission: Admission, outcome: Outcome) -> None:
        """Say how an admitted request ended; more than once does no harm."""
        match outcome:
            case Outcome.SUCCEEDED:
                self.breaker.succeeded(admission)
            case Outcome.FAILED:
                self.breaker.failed(admission)
            case Outcome.ABANDONED:
                self.breaker.abandoned(admission)

    def fail(self, error: PratiqueError) -> None:
        """Say that this model will not be served."""
        self.error = error
        self.phases.finish(error.message)
        self._enter(SlotState.FAILED)

    async def aclose(self) -> None:
        """End the engine."""
        if self._recall is not None:
            await self._recall.aclose()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self.engine.aclose()

    @contextlib.contextmanager
    def _counting_failures(self) -> Iterator[None]:
        try:
            yield
        except PratiqueError as error:
            in_a_row = self.artifacts.failed(error.message)
            self._parts.metrics.gauge(REPEATED_LOAD_FAILURE).set(in_a_row)
            if in_a_row >= SYSTEMIC:
                _LOG.error("repeated_load_failure", model=self.name, in_a_row=in_a_row, error=error.message)
            raise

    async def _load(self) -> None:
        seconds = self.settings.load_timeout_seconds
        try:
            async with asyncio.timeout(seconds):
                await self._check()
                async with asyncio.TaskGroup() as group:
                    group.create_task(self.engine.start(self._report))
                    group.create_task(self._verify())
                await asyncio.to_thread(self.artifacts.confirm)
        except TimeoutError as error:
            raise EngineLoadError(
                f"The model was not loaded after {seconds:.0f} s; the last phase was: {self.phases.detail}.",
                hint="Raise load_timeout_seconds where loading is slow.",
            ) from error
        except ExceptionGroup as group:
            raise group.exceptions[0] from group

    async def _check(self) -> None:
        if self.artifacts.check is not None:
            began = self._clock.monotonic()
            try:
                await asyncio.to_thread(self.artifacts.check)
            finally:
                # A scraper mostly misses the moment between a failure and the end of its process.
                self._parts.metrics.gauge(REPEATED_LOAD_FAILURE).set(self.artifacts.failed_before())
            self.phases.note("check", self._clock.monotonic() - began)

    async def _verify(self) -> None:
        """Check the content while the engine is imported, which takes longer: no weight is served unchecked."""
        verify = self.artifacts.verify
        if verify is None:
            return

        def tell(share: float) -> None:
            self.phases.beside = f"verifying checksums {share:.0%}"

        began = self._clock.monotonic()
        try:
            await asyncio.to_thread(verify, tell)
        finally:
            self.artifacts.cancel()
            self.phases.beside = ""
        self.phases.note("verify", self._clock.monotonic() - began)

    async def _warm(self) -> None:
        self._shapes = self._find_shapes(self.engine)
        self._warmed, self._warming = [], None

        def started(shape: Shape) -> None:
            if self._warming is not None:
                self._warmed.append(self._warming)
            self._warming = shape.name
            share = len(self._warmed) / len(self._shapes)
            self.phases.enter("warmup", f"warming up: {shape.name}", counted=share)

        self._summary = await warm_up(
            self.engine,
            self._warm_route,
            shapes=self._shapes,
            timeout_seconds=self.settings.warmup_timeout_seconds,
            started=started,
            clock=self._clock,
        )
        self._warmed = [shape.name for shape in self._shapes]
        self.engine.count_requests()

    async def _openai(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Asked for each time: there is none before the engine has started.
        await self.engine.openai_app(scope, receive, send)

    async def _warm_route(self, scope: Scope, receive: Receive, send: Send) -> None:
        # The mark lets it past the readiness of this slot and past the breaker; nothing from outside can carry it.
        await self._parts.route({**scope, WARMUP: True}, receive, send)

    async def _restart(self) -> None:
        self._enter(SlotState.DEGRADED)
        self._warmed, self._warming = [], None
        self.phases.enter(EnginePhase.PROCESS.value, "restarting the engine")
        await self.engine.restart(self._report)
        # The weights were read again: they must still be those that were verified.
        await asyncio.to_thread(self.artifacts.confirm)
        await self._warm()
        self.phases.finish("ready")
        self._enter(SlotState.READY)

    def _enter(self, state: SlotState) -> None:
        self.state = state
        self._parts.metrics.gauge(MODEL_READY).labels(model=self.name).set(state is SlotState.READY)
        _LOG.info("model", model=self.name, state=state.value)
        self._parts.changed()

    def _is_idle(self) -> bool:
        return self.is_ready and self.engine.pulse().num_unfinished == 0

    def _report(self, phase: EnginePhase, detail: str, share: float | None = None) -> None:
        self.phases.enter(phase.value, detail, counted=share)

    def _tell_phase(self, phase: str, seconds: float) -> None:
        _LOG.info("phase", model=self.name, phase=phase, seconds=round(seconds, 3))
