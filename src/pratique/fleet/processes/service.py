"""A service: a program that is kept running until it is told to stop, and asked all the time how it is.

One task runs it (`Service.run`), everybody else looks at `snapshot()`. Steps of a run:

1. wait for the services that come first;
2. start the program and tell the guardian about it;
3. ask its probe until it is ready, or its deadline has passed; go on asking, less often;
4. when it ended: end what it left behind, decide by `policy` what follows.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from pratique.core.clock import Clock, SystemClock
from pratique.core.events import get_logger
from pratique.fleet.processes.child import Child, Program
from pratique.fleet.processes.lifecycle import Phase, follow
from pratique.fleet.processes.policy import Exit, GiveUp, RestartPolicy, assess_exit
from pratique.fleet.processes.probes import Health, ModelStatus, Probe

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pratique.fleet.processes.guard import Guard
    from pratique.fleet.processes.logs import ServiceLog

__all__ = ["Service", "ServiceSpec", "Snapshot"]

_ASK_STARTING_SECONDS: Final = 0.1
_ASK_READY_SECONDS: Final = 0.5
_UNREADY_AFTER: Final = 2
"""Answers in a row that a ready service may miss: one is an accident on a busy machine."""


@dataclass(frozen=True, kw_only=True)
class ServiceSpec:
    """What is run, and what is expected of it."""

    name: str
    kind: str
    program: Program
    address: str
    grace_seconds: float = 5.0
    """Between SIGTERM and SIGKILL."""
    ready_deadline_seconds: float | None = 30.0
    """None: the service keeps its own deadline and ends when it has passed."""
    policy: RestartPolicy = field(default_factory=RestartPolicy)


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A service at one moment. Times in seconds on the supervisor's monotonic clock."""

    name: str
    kind: str
    address: str
    phase: Phase
    since: float
    detail: str = ""
    progress: float | None = None
    eta_seconds: float | None = None
    pid: int | None = None
    restarts: int = 0
    failures: int = 0
    """In a row, without a ready or long run between them."""
    restart_at: float | None = None
    last_exit: str = ""
    last_log: str = ""
    model: ModelStatus | None = None


class Service:
    """Runs one service. `first` is awaited before the first start, while the service shows `waiting_detail`."""

    def __init__(
        self,
        spec: ServiceSpec,
        *,
        probe: Probe,
        log: ServiceLog,
        guard: Guard,
        clock: Clock | None = None,
        first: Callable[[], Awaitable[object]] | None = None,
        waiting_detail: str = "",
    ) -> None:
        self.spec = spec
        self.log = log
        self.was_ready = asyncio.Event()
        self._probe = probe
        self._guard = guard
        self._clock = clock or SystemClock()
        self._first = first
        self._stopping = asyncio.Event()
        self._restarting = asyncio.Event()
        self._was_ready_this_time = False
        self._state = Snapshot(
            name=spec.name,
            kind=spec.kind,
            address=spec.address,
            phase=Phase.WAITING,
            since=self._clock.monotonic(),
            detail=waiting_detail,
        )

    def snapshot(self) -> Snapshot:
        """Return how it is now."""
        return replace(self._state, last_log=self.log.last_line)

    def stop(self) -> None:
        """Have it stopped for good; `run` returns once nothing of it is left."""
        self._stopping.set()

    def restart(self) -> None:
        """Have it stopped and started again, also where it was given up."""
        self._restarting.set()

    async def run(self) -> None:
        """Keep it running until `stop`. When cancelled, kill it."""
        try:
            if await self._wait_for_the_first():
                while not self._stopping.is_set():
                    await self._live_once()
        finally:
            self.log.close()
        self._settle()
        self._enter(Phase.STOPPED, detail="", restart_at=None)

    async def _wait_for_the_first(self) -> bool:
        if self._first is not None:
            await _first_of(self._first(), self._stopping.wait())
        return not self._stopping.is_set()

    async def _live_once(self) -> None:
        self._restarting.clear()
        self._enter(Phase.STARTING, detail="starting the process", restart_at=None)
        started = self._clock.monotonic()
        self._was_ready_this_time = False
        try:
            child = Child(self.spec.program, self.log.write)
        except OSError as error:
            self.log.note(f"could not be started: {error}")
            await self._follow_exit(self._exit(127, started, f"could not be started: {error}"))
            return
        self._guard.watch(child.pid)
        self._set(pid=child.pid)
        try:
            code, reason = await self._attend(child)
        finally:
            child.kill()
            # What a cancelled run leaves is ended all the same; bounded by the deadline inside.
            await asyncio.shield(child.close())
            self._guard.forget(child.pid)
            self._set(pid=None)
        await self._follow_exit(self._exit(code, started, reason))

    async def _attend(self, child: Child) -> tuple[int, str]:
        """Watch a running child until it has ended; return its exit code and why we ended it, where we did."""
        late = asyncio.Event()
        asking = asyncio.create_task(self._keep_asking(late))
        try:
            await _first_of(child.wait(), self._stopping.wait(), self._restarting.wait(), late.wait())
        finally:
            asking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asking
        if child.has_exited:
            return await child.wait(), ""
        if late.is_set():
            child.kill()
            return await child.wait(), f"was not ready within {self.spec.ready_deadline_seconds:.0f} s"
        self._enter(Phase.STOPPING, detail="finishing what runs", progress=None, eta_seconds=None, model=None)
        return await child.terminate(self.spec.grace_seconds), ""

    async def _keep_asking(self, late: asyncio.Event) -> None:
        deadline = self.spec.ready_deadline_seconds
        started = self._clock.monotonic()
        missed = 0
        while True:
            health = await self._probe.ask()
            missed = 0 if health.ready else missed + 1
            self._take_in(health, missed)
            never_ready = not self._was_ready_this_time
            if never_ready and deadline is not None and self._clock.monotonic() - started > deadline:
                late.set()
                return
            await self._clock.sleep(_ASK_READY_SECONDS if health.ready else _ASK_STARTING_SECONDS)

    def _take_in(self, health: Health, missed: int) -> None:
        if health.ready:
            if self._state.phase is not Phase.READY:
                self._enter(Phase.READY)
            self._was_ready_this_time = True
            self.was_ready.set()
        elif self._state.phase is Phase.READY:
            if missed < _UNREADY_AFTER and health.model is None:
                return
            self._enter(Phase.UNREADY)
        self._set(
            detail=health.detail,
            progress=health.progress,
            eta_seconds=health.eta_seconds,
            model=health.model or self._state.model,
        )

    async def _follow_exit(self, ended: Exit) -> None:
        self._set(progress=None, eta_seconds=None, model=None)
        if self._stopping.is_set():
            return
        if self._restarting.is_set():
            self._settle()
            self._enter(Phase.STOPPED)
            self._set(restarts=self._state.restarts + 1, failures=0)
            return
        what = ended.describe()
        self.log.note(what)
        verdict = assess_exit(self.spec.policy, ended, failures_before=self._state.failures)
        if isinstance(verdict, GiveUp):
            self._set(failures=self._state.failures + 1)
            self._enter(Phase.FAILED, detail=verdict.reason, last_exit=what)
            await _first_of(self._stopping.wait(), self._restarting.wait())
            self._set(restarts=self._state.restarts + 1, failures=0)
            return
        self._set(failures=verdict.failures)
        self._enter(
            Phase.BACKING_OFF,
            detail=f"{what}; starts again",
            last_exit=what,
            restart_at=self._clock.monotonic() + verdict.delay_seconds,
        )
        await _first_of(self._clock.sleep(verdict.delay_seconds), self._stopping.wait(), self._restarting.wait())
        self._set(restarts=self._state.restarts + 1)

    def _settle(self) -> None:
        """Bring the phase of a program that has ended to where it can be called stopped."""
        if self._state.phase in {Phase.STARTING, Phase.READY, Phase.UNREADY}:
            self._enter(Phase.STOPPING)

    def _exit(self, code: int, started: float, reason: str) -> Exit:
        return Exit(
            code=code,
            uptime_seconds=self._clock.monotonic() - started,
            was_ready=self._was_ready_this_time,
            reason=reason,
        )

    def _enter(self, phase: Phase, **fields: Any) -> None:  # noqa: ANN401 - fields of Snapshot, each of its own type
        old = self._state.phase
        if phase is old is Phase.STOPPED:
            return
        self._set(phase=follow(old, phase), since=self._clock.monotonic(), **fields)
        get_logger("fleet").info("phase", name=self.spec.name, phase=phase.value, before=old.value, pid=self._state.pid)

    def _set(self, **fields: Any) -> None:  # noqa: ANN401 - as above
        self._state = replace(self._state, **fields)


async def _first_of(*awaitables: Awaitable[object]) -> None:
    """Return when the first is done; cancel the others."""
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
