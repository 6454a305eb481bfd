"""The supervisor of one stack: prepares, starts everything, watches, stops everything.

Steps of a run:

1. take the state folder; end what a killed stack left in it;
2. look whether this machine has what is needed, choose ports, write the configuration of the parts;
3. start the guardian, then the control socket, then every service;
4. the stack is ready once one of each service takes traffic and the edge lets them be reached; it has failed where a
   kind of service fails again and again before that;
5. stop in order: who serves people first, what they need after them. Then nothing of this run is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import msgspec

from pratique.core import procfs
from pratique.core.clock import Clock, SystemClock
from pratique.core.events import get_logger
from pratique.fleet.edge import EdgeFiles
from pratique.fleet.errors import StackFailedError, UnknownServiceError
from pratique.fleet.processes.errand import Errand
from pratique.fleet.processes.guard import Guard
from pratique.fleet.processes.logs import ServiceLog
from pratique.fleet.processes.marker import has_marker
from pratique.fleet.processes.memory import load_own_bytes, load_session_bytes
from pratique.fleet.processes.service import Service, Snapshot
from pratique.fleet.stack.control import ControlServer, Request
from pratique.fleet.stack.home import StateHome, write_private
from pratique.fleet.stack.plan import API_KEY, MODEL_IMPORT, Plan
from pratique.fleet.stack.prepare import StackRequest, describe, make_probe, prepare
from pratique.fleet.stack.status import (
    StackStatus,
    Startup,
    assess_startup,
    assess_state,
    make_service_status,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

__all__ = ["Stack"]

_LOOK_SECONDS: Final = 0.1
_REAP_SECONDS: Final = 1.0
_ASK_SECONDS: Final = 2.0
_LAST_WORDS: Final = 6


class Stack:
    """One run of a stack. `run` is its whole life; `status`, `restart` and `stop` may be called meanwhile.

    `alter` may change the plan before anything starts: a failure drill leads connections through its own proxies.
    """

    def __init__(
        self,
        request: StackRequest,
        environment: Mapping[str, str],
        *,
        configure_log: Callable[[Path], None],
        clock: Clock | None = None,
        alter: Callable[[Plan], Plan] | None = None,
    ) -> None:
        self.became_ready = asyncio.Event()
        self._request = request
        self._environment = environment
        self._configure_log = configure_log
        self._clock = clock or SystemClock()
        self._alter = alter
        self._paths = request.paths
        self._started = self._clock.monotonic()
        self._started_at = self._clock.epoch()
        self._stopping = asyncio.Event()
        self._hurrying = asyncio.Event()
        self._failure: StackFailedError | None = None
        self._url = ""
        self._services: dict[str, Service] = {}
        self._errands: dict[str, Errand] = {}
        self._guard: Guard | None = None

    def stop(self) -> None:
        """Stop everything in order; said a second time, kill it."""
        if self._stopping.is_set():
            self._hurrying.set()
        self._stopping.set()

    def restart(self, name: str) -> None:
        """Have one service stopped in its own way and started again.

        Raises:
            UnknownServiceError: there is none of that name.
        """
        service = self._services.get(name)
        if service is None:
            raise UnknownServiceError(
                f"'{name}' is no service of this stack.", hint=f"There are {', '.join(self._services)}."
            )
        service.restart()

    def status(self, *, with_memory: bool = False) -> StackStatus:
        """Return how everything is. Memory takes some milliseconds to add up."""
        snapshots = self._snapshots()
        pids = {snapshot.pid for snapshot in snapshots if snapshot.pid}
        memory = load_session_bytes(pids) if with_memory else {}
        now = self._clock.monotonic()
        return StackStatus(
            state=assess_state(snapshots, was_ready=self.became_ready.is_set(), is_stopping=self._stopping.is_set()),
            state_dir=str(self._paths.root),
            pid=os.getpid(),
            url=self._url,
            engine=self._request.settings.engine,
            started_at=self._started_at,
            uptime_seconds=round(now - self._started, 3),
            supervisor_memory_bytes=load_own_bytes() if with_memory else None,
            services=tuple(make_service_status(snapshot, now, memory.get(snapshot.pid or 0)) for snapshot in snapshots),
        )

    async def run(self) -> None:
        """Live.

        Raises:
            PratiqueError: it could not start; everything is stopped again by then.
        """
        with StateHome(self._paths) as home:
            self._configure_log(self._paths.log_of("supervisor"))
            plan, marker = prepare(self._request, self._environment)
            if self._alter is not None:
                plan = self._alter(plan)
                EdgeFiles(self._paths.envoy).write(plan.edge)
            self._url = plan.url
            home.describe(describe(self._request, plan, self._started_at))
            async with Guard(marker) as guard, aiohttp.ClientSession() as session:
                self._guard = guard
                self._build(plan, guard, session)
                async with ControlServer(self._paths.control, self._handle):
                    try:
                        await self._live(plan, session)
                    finally:
                        await asyncio.shield(asyncio.to_thread(self._sweep, marker, guard.pid))
        if self._failure is not None:
            raise self._failure

    def _build(self, plan: Plan, guard: Guard, session: aiohttp.ClientSession) -> None:
        if plan.model_import is not None:
            log = ServiceLog(self._paths.log_of(MODEL_IMPORT), MODEL_IMPORT)
            self._errands[MODEL_IMPORT] = Errand(MODEL_IMPORT, plan.model_import, log=log, guard=guard)
        if plan.create_key is not None:
            log = ServiceLog(self._paths.log_of(API_KEY), API_KEY)
            self._errands[API_KEY] = Errand(
                API_KEY, plan.create_key, log=log, guard=guard, keep_secret=self._keep_api_key
            )
        for planned in plan.services:
            self._services[planned.name] = Service(
                planned.spec,
                probe=make_probe(planned, plan, session),
                log=ServiceLog(self._paths.log_of(planned.name), planned.name),
                guard=guard,
                clock=self._clock,
                first=self._readiness_of(planned.after),
                waiting_detail=_why_waiting(planned.after),
            )

    def _readiness_of(self, name: str) -> Callable[[], Awaitable[object]] | None:
        if name in self._errands:
            return self._errands[name].done.wait
        return self._services[name].was_ready.wait if name else None

    def _keep_api_key(self, fields: dict[str, Any]) -> bool:
        if "key" not in fields:
            return False
        write_private(self._paths.api_key, str(fields["key"]).encode() + b"\n")
        return True

    async def _live(self, plan: Plan, session: aiohttp.ClientSession) -> None:
        async with asyncio.TaskGroup() as group:
            running = {name: group.create_task(service.run()) for name, service in self._services.items()}
            chores = [group.create_task(errand.run()) for errand in self._errands.values()]
            chores += [group.create_task(self._watch_start(plan, session)), group.create_task(self._reap())]
            await self._stopping.wait()
            for chore in chores:
                chore.cancel()
            await self._stop_in_order(plan, running)

    async def _watch_start(self, plan: Plan, session: aiohttp.ClientSession) -> None:
        try:
            async with asyncio.timeout(self._request.settings.start_deadline_seconds):
                while not await self._has_started(plan, session):
                    await self._clock.sleep(_LOOK_SECONDS)
        except TimeoutError:
            seconds = self._request.settings.start_deadline_seconds
            self._fail(
                StackFailedError(f"The stack was not ready within {seconds:.0f} s.", hint=self._what_is_missing())
            )

    async def _has_started(self, plan: Plan, session: aiohttp.ClientSession) -> bool:
        snapshots = self._snapshots()
        verdict = assess_startup(snapshots, {name: found.was_ready.is_set() for name, found in self._services.items()})
        if verdict.startup is Startup.FAILED and verdict.culprit is not None:
            self._fail(self._diagnose(verdict.culprit))
            return True
        if verdict.startup is Startup.SERVING and await _is_reachable(plan, session):
            get_logger("fleet").info("stack_ready", seconds=round(self._clock.monotonic() - self._started, 3))
            self.became_ready.set()
            return True
        return False

    def _diagnose(self, culprit: Snapshot) -> StackFailedError:
        log = (self._services.get(culprit.name) or self._errands[culprit.name]).log
        said = "".join(f"\n  {line}" for line in log.tail[-_LAST_WORDS:])
        times = f" {culprit.failures} times in a row" if culprit.failures > 1 else ""
        return StackFailedError(
            f"{culprit.name} does not start: it {culprit.last_exit or culprit.detail}{times}."
            + (f" The end of its log:{said}" if said else ""),
            hint=f"All of it: {self._paths.log_of(culprit.name)}",
        )

    def _what_is_missing(self) -> str:
        late = [snapshot for snapshot in self._snapshots() if snapshot.phase.value != "ready"]
        return "; ".join(f"{found.name}: {found.phase.value}, {found.detail or found.last_log}" for found in late)

    def _fail(self, failure: StackFailedError) -> None:
        get_logger("fleet").error("stack_failed", reason=failure.message)
        self._failure = failure
        self._stopping.set()

    async def _stop_in_order(self, plan: Plan, running: dict[str, asyncio.Task[None]]) -> None:
        for kinds in plan.stop_order:
            tasks = []
            for name, service in self._services.items():
                if service.spec.kind in kinds:
                    service.stop()
                    tasks.append(running[name])
            await self._until_done(tasks)

    async def _until_done(self, tasks: list[asyncio.Task[None]]) -> None:
        hurrying = asyncio.create_task(self._hurrying.wait())
        try:
            pending = set(tasks)
            while pending and not hurrying.done():
                _, waited = await asyncio.wait({*pending, hurrying}, return_when=asyncio.FIRST_COMPLETED)
                pending &= waited
            for task in pending:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            hurrying.cancel()

    async def _reap(self) -> None:
        while True:
            await self._clock.sleep(_REAP_SECONDS)
            spare = {snapshot.pid for snapshot in self._snapshots()}
            if self._guard is not None:
                spare.add(self._guard.pid)
            procfs.reap_orphans(procfs.list_processes(), spare={pid for pid in spare if pid})

    def _sweep(self, marker: str, guardian: int) -> None:
        def left_behind(entries: list[procfs.ProcessEntry]) -> set[int]:
            marked = {entry.pid for entry in entries if has_marker(entry.pid, marker)}
            return (marked | procfs.descendants(entries, os.getpid())) - {guardian}

        if left := procfs.kill_until_gone(left_behind):
            get_logger("fleet").error("left_behind", pids=sorted(left))

    def _snapshots(self) -> list[Snapshot]:
        owners: tuple[Errand | Service, ...] = (*self._errands.values(), *self._services.values())
        return [owner.snapshot() for owner in owners]

    def _handle(self, request: Request) -> dict[str, Any]:
        if request.command == "status":
            return {"status": msgspec.to_builtins(self.status(with_memory=True))}
        if request.command == "stop":
            self.stop()
            return {}
        self.restart(request.service)
        return {}


async def _is_reachable(plan: Plan, session: aiohttp.ClientSession) -> bool:
    timeout = aiohttp.ClientTimeout(total=_ASK_SECONDS)
    with contextlib.suppress(aiohttp.ClientError, TimeoutError):
        for url in (f"{plan.url}/livez", f"{plan.internal_url}/ping"):
            async with session.get(url, timeout=timeout) as response:
                if response.status != 200:  # noqa: PLR2004 - HTTP's own number
                    return False
        return True
    return False


def _why_waiting(name: str) -> str:
    if not name:
        return ""
    return "waiting for the model's import" if name == MODEL_IMPORT else f"waiting for {name}, so that it loads alone"
