"""A burst lane on this machine: short-lived processes that run the Lambda handler under AWS's own runtime client.

A worker serves one invocation at a time, as a Lambda environment does. An invocation whose reader leaves, or whose time
is up, ends with its worker.
"""

from __future__ import annotations

import asyncio
import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from pratique.orchestrator.lanes.interface import BurstFullError
from pratique.orchestrator.lanes.invocation import Invocation
from pratique.orchestrator.lanes.payload import event_of, open_answer
from pratique.orchestrator.lanes.pool import WorkerPool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from pratique.core.clock import Clock
    from pratique.core.metrics import Metrics
    from pratique.orchestrator.forward.interface import ForwardAnswer, ForwardRequest
    from pratique.orchestrator.lanes.settings import WorkerSettings

__all__ = ["WorkerLane"]


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
        self.pool = WorkerPool(
            settings, inference_url=inference_url, environment=environment, clock=clock, metrics=metrics
        )
        self._max_workers = settings.max_workers
        self._clock = clock
        self._num_taken = 0

    @property
    def num_free(self) -> int:
        return self._max_workers - self._num_taken

    @asynccontextmanager
    async def running(self) -> AsyncIterator[WorkerLane]:
        """Take requests for as long as the body runs."""
        async with self.pool.running():
            yield self

    @asynccontextmanager
    async def open(self, request: ForwardRequest) -> AsyncIterator[ForwardAnswer]:
        if self.num_free <= 0:
            raise BurstFullError(f"All {self._max_workers} burst workers are busy.")
        self._num_taken += 1
        try:
            began = self._clock.monotonic()
            deadline = asyncio.get_running_loop().time() + request.timeout_seconds
            worker = await self.pool.take(deadline)
            invocation = self._invocation(request, deadline, waited_seconds=self._clock.monotonic() - began)
            worker.desk.hand(invocation)
            try:
                yield await open_answer(await invocation.head(), invocation.pieces())
            finally:
                self.pool.put_back(worker, is_over=invocation.is_over)
        finally:
            self._num_taken -= 1

    def _invocation(self, request: ForwardRequest, deadline: float, *, waited_seconds: float) -> Invocation:
        invocation_id, epoch = str(uuid.uuid4()), self._clock.epoch()
        left = request.timeout_seconds - waited_seconds
        event = event_of(request, invocation_id=invocation_id, epoch=epoch)
        return Invocation(invocation_id, event, deadline=deadline, deadline_epoch=epoch + left)
