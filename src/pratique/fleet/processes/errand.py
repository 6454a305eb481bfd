"""A program that is run once, to its end: an import, the making of a key. Shown like a service while it runs."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pratique.core.clock import Clock, SystemClock
from pratique.fleet.processes.child import Child, Program
from pratique.fleet.processes.lifecycle import Phase, follow
from pratique.fleet.processes.policy import Exit
from pratique.fleet.processes.service import Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    from pratique.fleet.processes.guard import Guard
    from pratique.fleet.processes.logs import ServiceLog

__all__ = ["Errand"]


class Errand:
    """Runs a program once. Its JSON lines with `phase` and `progress` (0…1) are its progress.

    `keep_secret` gets every JSON object first; what it takes, by returning True, is not logged.
    """

    def __init__(
        self,
        name: str,
        program: Program,
        *,
        log: ServiceLog,
        guard: Guard,
        clock: Clock | None = None,
        keep_secret: Callable[[dict[str, Any]], bool] = lambda _: False,
    ) -> None:
        self.log = log
        self.done = asyncio.Event()
        self._program = program
        self._guard = guard
        self._clock = clock or SystemClock()
        self._keep_secret = keep_secret
        now = self._clock.monotonic()
        self._state = Snapshot(name=name, kind=name, address="", phase=Phase.WAITING, since=now)

    def snapshot(self) -> Snapshot:
        """Return how far it is. `ready` means that it is done."""
        return replace(self._state, last_log=self.log.last_line)

    async def run(self) -> None:
        """Run it. It ends `ready`, with `done` set, or `failed`; when cancelled, it is killed."""
        started = self._clock.monotonic()
        self._enter(Phase.STARTING, detail="starting the process")
        try:
            code = await self._run_child()
        except OSError as error:
            self.log.note(f"could not be started: {error}")
            code = 127
        finally:
            self.log.close()
        if code == 0:
            self._enter(Phase.READY, detail="done", progress=1.0)
            self.done.set()
        else:
            uptime = self._clock.monotonic() - started
            what = Exit(code=code, uptime_seconds=uptime, was_ready=False).describe()
            self._enter(Phase.FAILED, detail=what, last_exit=what, failures=1)

    async def _run_child(self) -> int:
        child = Child(self._program, self._take_line)
        self._guard.watch(child.pid)
        self._state = replace(self._state, pid=child.pid)
        try:
            return await child.wait()
        finally:
            child.kill()
            await asyncio.shield(child.close())
            self._guard.forget(child.pid)
            self._state = replace(self._state, pid=None)

    def _take_line(self, line: bytes) -> None:
        try:
            fields = json.loads(line)
        except ValueError:
            fields = None
        if isinstance(fields, dict):
            if self._keep_secret(fields):
                return
            if "phase" in fields:
                progress = fields.get("progress")
                shown = float(progress) if isinstance(progress, int | float) else None
                self._state = replace(self._state, detail=str(fields["phase"]), progress=shown)
                return
        self.log.write(line)

    def _enter(self, phase: Phase, **fields: Any) -> None:  # noqa: ANN401 - fields of Snapshot, each of its own type
        now = self._clock.monotonic()
        self._state = replace(self._state, phase=follow(self._state.phase, phase), since=now, **fields)
