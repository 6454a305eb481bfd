"""The pool of worker processes: started when there is work, handed out, reused while warm, ended.

A worker is started when somebody waits and no worker is idle; only a few start at a time, because many at once would
take the processor from the service itself. Whoever waits gets the first worker that is free, a started or a returned
one. Workers end when idle for long, old, or used up, and with this process (PR_SET_PDEATHSIG). They have a bound of
memory and get no secret: their environment is made here.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pratique
from pratique.core.catalogue.lanes import COLD_START_SECONDS, WORKERS, WORKERS_ENDED
from pratique.core.events import get_logger
from pratique.orchestrator.forward.interface import ForwardUnavailableError
from pratique.orchestrator.lanes.runtime_api import RuntimeApi

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from pratique.core.clock import Clock
    from pratique.core.metrics import Metrics
    from pratique.orchestrator.lanes.runtime_api import Desk
    from pratique.orchestrator.lanes.settings import WorkerSettings

__all__ = ["Worker", "WorkerPool"]

_logger = get_logger("lanes")
_MODULE: Final = "pratique.orchestrator.lanes.runtime"
_PASSED_ON: Final = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR")
_REAP_SECONDS: Final = 1.0
_CONNECTIONS_PER_WORKER: Final = 4


@dataclass(eq=False)
class Worker:
    """A process, and the desk where it asks for work."""

    process: asyncio.subprocess.Process
    desk: Desk
    started: float
    idle_since: float
    num_invocations: int = 0


class WorkerPool:
    """Alive within `running`; `take` and `put_back` go in pairs."""

    def __init__(
        self,
        settings: WorkerSettings,
        *,
        inference_url: str,
        environment: Mapping[str, str],
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._inference_url = inference_url
        self._environment = {name: environment[name] for name in _PASSED_ON if name in environment}
        self._clock = clock
        self._api = RuntimeApi(max_connections=_CONNECTIONS_PER_WORKER * settings.max_workers)
        self._workers: set[Worker] = set()
        self._idle: list[Worker] = []
        self._waiting: deque[asyncio.Future[Worker]] = deque()
        self._num_starting = 0
        self._tasks: asyncio.TaskGroup | None = None
        self._cold_start = metrics.histogram(COLD_START_SECONDS)
        self._count = metrics.gauge(WORKERS)
        self._ended = metrics.counter(WORKERS_ENDED)

    @property
    def pids(self) -> list[int]:
        """The processes of the pool."""
        return [worker.process.pid for worker in self._workers]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[WorkerPool]:
        """Keep workers for as long as the body runs; then every one is ended."""
        async with self._api.running(), asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            reaping = tasks.create_task(self._reap())
            try:
                yield self
            finally:
                self._tasks = None
                reaping.cancel()
                for worker in list(self._workers):
                    self._end(worker, "closed")

    async def take(self, deadline: float) -> Worker:
        """Return a worker that waits for work; starts one where none is idle.

        Raises:
            ForwardUnavailableError: none could be started, or none was free by the deadline (of the loop's clock).
        """
        # The one used last, so that the others grow idle and end.
        while self._idle:
            worker = self._idle.pop()
            if worker in self._workers and worker.process.returncode is None:
                return worker
        turn: asyncio.Future[Worker] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._start_more()
        try:
            async with asyncio.timeout_at(deadline):
                return await turn
        except BaseException as error:
            with contextlib.suppress(ValueError):
                self._waiting.remove(turn)
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._hand_out(turn.result())  # it came just as the wait ended
            if isinstance(error, TimeoutError):
                raise ForwardUnavailableError("No burst worker was free in time.") from error
            raise

    def put_back(self, worker: Worker, *, is_over: bool) -> None:
        """Take a worker back; one that is not done with its invocation is ended, and what it runs with it."""
        worker.num_invocations += 1
        worker.idle_since = now = self._clock.monotonic()
        if not is_over:
            self._end(worker, "abandoned")
        elif worker.desk.failure:
            self._end(worker, "exited")
        elif worker.num_invocations >= self._settings.max_invocations:
            self._end(worker, "used_up")
        elif now - worker.started >= self._settings.max_age_seconds:
            self._end(worker, "old")
        elif worker in self._workers:
            self._hand_out(worker)
        self._start_more()

    def _hand_out(self, worker: Worker) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(worker)
                return
        self._idle.append(worker)

    def _start_more(self) -> None:
        settings = self._settings
        while (
            self._tasks is not None
            and self._num_starting < min(settings.max_starting, sum(not turn.done() for turn in self._waiting))
            and len(self._workers) + self._num_starting < settings.max_workers
        ):
            self._num_starting += 1
            self._tasks.create_task(self._add())

    async def _add(self) -> None:
        try:
            worker = await self._start()
        except ForwardUnavailableError as error:
            _logger.warning("burst_worker_did_not_start", error=error.message)
            turn = next((turn for turn in self._waiting if not turn.done()), None)
            if turn is not None:
                turn.set_exception(error)
        else:
            self._hand_out(worker)
        finally:
            self._num_starting -= 1
            self._start_more()

    async def _start(self) -> Worker:
        """Start a worker; return when it asks for work. Raises ForwardUnavailableError where it does not do so soon."""
        began = self._clock.monotonic()
        desk = self._api.open_desk()
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", _MODULE),
                env=self._environment_of(desk),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=2,  # what a function prints is its log; standard output is the service's own
            )
        except OSError as error:
            self._api.close_desk(desk, "not started")
            raise ForwardUnavailableError(f"No burst worker can be started: {error}.") from error
        worker = Worker(process, desk, started=began, idle_since=began)
        if self._tasks is None:
            process.kill()
            await process.wait()
            raise ForwardUnavailableError("The burst lane is closed.")
        self._workers.add(worker)
        self._count.set(len(self._workers))
        self._tasks.create_task(self._watch(worker))
        try:
            async with asyncio.timeout(self._settings.start_timeout_seconds):
                await desk.asked.wait()
        except TimeoutError:
            desk.close(f"It asked for no work within {self._settings.start_timeout_seconds:g} s.")
        if desk.failure:
            self._end(worker, "start_failed")
            raise ForwardUnavailableError(f"A burst worker did not start: {desk.failure}")
        self._cold_start.observe(self._clock.monotonic() - began)
        worker.idle_since = self._clock.monotonic()
        return worker

    def _environment_of(self, desk: Desk) -> dict[str, str]:
        return {
            **self._environment,
            "PYTHONPATH": str(Path(pratique.__file__).parent.parent),
            "AWS_LAMBDA_RUNTIME_API": self._api.address_of(desk),
            "PRATIQUE_BURST_INFERENCE_URL": self._inference_url,
            "PRATIQUE_BURST_PARENT": str(os.getpid()),
            "PRATIQUE_BURST_MEMORY_BYTES": str(self._settings.memory_bytes),
        }

    def _end(self, worker: Worker, reason: str) -> None:
        """Kill a worker: its connections close, which cancels what it runs down to the engine at once."""
        if worker in self._workers:
            self._workers.discard(worker)
            self._count.set(len(self._workers))
            self._ended.labels(reason).inc()
            self._api.close_desk(worker.desk, f"ended ({reason})")
            with contextlib.suppress(ProcessLookupError):
                worker.process.kill()

    async def _watch(self, worker: Worker) -> None:
        code = await worker.process.wait()
        if worker in self._workers:
            _logger.info("burst_worker_ended", pid=worker.process.pid, exit_code=code)
            self._end(worker, "exited")

    async def _reap(self) -> None:
        while True:
            await self._clock.sleep(min(_REAP_SECONDS, self._settings.idle_seconds))
            now = self._clock.monotonic()
            for worker in [w for w in self._idle if now - w.idle_since >= self._settings.idle_seconds]:
                self._idle.remove(worker)
                self._end(worker, "idle")
