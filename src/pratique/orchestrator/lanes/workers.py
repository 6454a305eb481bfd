"""A burst lane on this machine: short-lived processes that run the Lambda handler under AWS's own runtime client.

A worker serves one invocation at a time, as a Lambda environment does. It is started when there is work and no idle
one, reused while warm, and ended when idle for long, old, or after many invocations. An invocation whose reader leaves,
or whose time is up, ends with its worker: a killed process closes its connection, which cancels the request down to the
engine at once. Workers end with this process (PR_SET_PDEATHSIG), have a bound of memory, and get no secret: their
environment is made here.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import uuid
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pratique
from pratique.core.catalogue.lanes import COLD_START_SECONDS, WORKERS, WORKERS_ENDED
from pratique.core.events import get_logger
from pratique.orchestrator.forward.interface import ForwardUnavailableError
from pratique.orchestrator.lanes.interface import BurstFullError
from pratique.orchestrator.lanes.invocation import Invocation
from pratique.orchestrator.lanes.payload import event_of, open_answer
from pratique.orchestrator.lanes.runtime_api import RuntimeApi

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from pratique.core.clock import Clock
    from pratique.core.metrics import Metrics
    from pratique.orchestrator.forward.interface import ForwardAnswer, ForwardRequest
    from pratique.orchestrator.lanes.runtime_api import Desk
    from pratique.orchestrator.lanes.settings import WorkerSettings

__all__ = ["WorkerLane"]

_logger = get_logger("lanes")
_MODULE: Final = "pratique.orchestrator.lanes.runtime"
_PASSED_ON: Final = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR")
_REAP_SECONDS: Final = 1.0
_CONNECTIONS_PER_WORKER: Final = 4


@dataclass(eq=False)
class _Worker:
    process: asyncio.subprocess.Process
    desk: Desk
    started: float
    idle_since: float
    num_invocations: int = 0

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()


class WorkerLane:
    """A `BurstLane` over a pool of processes; alive within `running`."""

    max_body_bytes = 8 * 2**20

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
        self._workers: set[_Worker] = set()
        self._idle: list[_Worker] = []
        self._num_taken = 0
        self._tasks: asyncio.TaskGroup | None = None
        self._cold_start = metrics.histogram(COLD_START_SECONDS)
        self._count = metrics.gauge(WORKERS)
        self._ended = metrics.counter(WORKERS_ENDED)

    @property
    def num_free(self) -> int:
        return self._settings.max_workers - self._num_taken

    @property
    def pids(self) -> list[int]:
        """The processes of the pool."""
        return [worker.process.pid for worker in self._workers]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[WorkerLane]:
        """Take requests for as long as the body runs; then every worker is ended."""
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

    @asynccontextmanager
    async def open(self, request: ForwardRequest) -> AsyncIterator[ForwardAnswer]:
        if self.num_free <= 0:
            raise BurstFullError(f"All {self._settings.max_workers} burst workers are busy.")
        self._num_taken += 1
        try:
            deadline = asyncio.get_running_loop().time() + request.timeout_seconds
            worker = self._warm() or await self._start()
            invocation = self._invocation(request, deadline)
            worker.desk.hand(invocation)
            try:
                yield await open_answer(await invocation.head(), invocation.pieces())
            finally:
                self._put_back(worker, invocation)
        finally:
            self._num_taken -= 1

    def _invocation(self, request: ForwardRequest, deadline: float) -> Invocation:
        invocation_id, epoch = str(uuid.uuid4()), self._clock.epoch()
        event = event_of(request, invocation_id=invocation_id, epoch=epoch)
        return Invocation(invocation_id, event, deadline=deadline, deadline_epoch=epoch + request.timeout_seconds)

    def _warm(self) -> _Worker | None:
        # The one used last, so that the others grow idle and end.
        while self._idle:
            worker = self._idle.pop()
            if worker in self._workers and worker.process.returncode is None:
                return worker
        return None

    def _put_back(self, worker: _Worker, invocation: Invocation) -> None:
        worker.num_invocations += 1
        worker.idle_since = now = self._clock.monotonic()
        if not invocation.is_over:
            self._end(worker, "abandoned")
        elif worker.desk.failure:
            self._end(worker, "exited")
        elif worker.num_invocations >= self._settings.max_invocations:
            self._end(worker, "used_up")
        elif now - worker.started >= self._settings.max_age_seconds:
            self._end(worker, "old")
        elif worker in self._workers:
            self._idle.append(worker)

    async def _start(self) -> _Worker:
        """Start a worker; return when it asks for work.

        Raises:
            ForwardUnavailableError: it did not start, or not in time.
        """
        if self._tasks is None:
            raise ForwardUnavailableError("The burst lane is closed.")
        began = self._clock.monotonic()
        desk = self._api.open_desk()
        worker = _Worker(await self._spawn(desk), desk, started=began, idle_since=began)
        self._workers.add(worker)
        self._count.set(len(self._workers))
        self._tasks.create_task(self._watch(worker))
        try:
            async with asyncio.timeout(self._settings.start_timeout_seconds):
                await desk.asked.wait()
        except TimeoutError as error:
            raise ForwardUnavailableError(
                f"A burst worker did not start within {self._settings.start_timeout_seconds:g} s."
            ) from error
        finally:
            if not desk.asked.is_set():
                self._end(worker, "start_failed")
        if desk.failure:
            self._end(worker, "start_failed")
            raise ForwardUnavailableError(f"A burst worker did not start: {desk.failure}")
        self._cold_start.observe(self._clock.monotonic() - began)
        return worker

    async def _spawn(self, desk: Desk) -> asyncio.subprocess.Process:
        try:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", _MODULE),
                env=self._worker_environment(desk),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=2,  # what a function prints is its log; standard output is the service's own
            )
        except BaseException as error:
            self._api.close_desk(desk, "not started")
            if isinstance(error, OSError):
                raise ForwardUnavailableError(f"No burst worker can be started: {error}.") from error
            raise

    def _worker_environment(self, desk: Desk) -> dict[str, str]:
        return {
            **self._environment,
            "PYTHONPATH": str(Path(pratique.__file__).parent.parent),
            "AWS_LAMBDA_RUNTIME_API": self._api.address_of(desk),
            "PRATIQUE_BURST_INFERENCE_URL": self._inference_url,
            "PRATIQUE_BURST_PARENT": str(os.getpid()),
            "PRATIQUE_BURST_MEMORY_BYTES": str(self._settings.memory_bytes),
        }

    def _end(self, worker: _Worker, reason: str) -> None:
        """Kill a worker; the kernel does at once what a signal asks for."""
        if worker in self._workers:
            self._workers.discard(worker)
            self._count.set(len(self._workers))
            self._ended.labels(reason).inc()
            self._api.close_desk(worker.desk, f"ended ({reason})")
            worker.kill()

    async def _watch(self, worker: _Worker) -> None:
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
