"""Puts the lanes before the baseline that the settings ask for."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from pratique.core.settings import SettingsError
from pratique.orchestrator.lanes.load import CpuMeter, Sampler, cgroup_meter
from pratique.orchestrator.lanes.settings import check_lanes
from pratique.orchestrator.lanes.spilling import SpillingForwarder
from pratique.orchestrator.models.forward import pool_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AsyncExitStack

    from pratique.core.clock import Clock
    from pratique.core.metrics import Metrics
    from pratique.orchestrator.forward.interface import Forwarder
    from pratique.orchestrator.lanes.interface import BurstLane
    from pratique.orchestrator.lanes.settings import LaneSettings
    from pratique.orchestrator.models.catalogue import ModelCatalogue
    from pratique.orchestrator.models.settings import PoolSettings
    from pratique.orchestrator.settings import OrchestratorSettings

__all__ = ["open_lanes"]


async def open_lanes(
    settings: OrchestratorSettings,
    baseline: Forwarder,
    stack: AsyncExitStack,
    *,
    models: ModelCatalogue,
    clock: Clock,
    metrics: Metrics,
) -> Forwarder:
    """Return what forwards from now on; its workers live as long as the stack.

    Raises:
        SettingsError: settings contradict each other, or a package is missing.
    """
    lanes = settings.lanes
    check_lanes(lanes, first_token_timeout_seconds=settings.first_token_timeout_seconds)
    pool = _pool_of_burst(lanes, models)
    burst = await _open_burst(lanes, stack, inference_url=pool.url, clock=clock, metrics=metrics)
    forwarder = SpillingForwarder(
        baseline,
        burst,
        lanes,
        is_served=lambda body: pool_of(body, models) == pool.name,
        clock=clock,
        metrics=metrics,
    )
    # Without a burst lane too: what it measures is what a deployment is sized by.
    sampler = Sampler(
        forwarder.router,
        forwarder.window,
        count=forwarder.count,
        cpu=_cpu(clock),
        sample_seconds=lanes.sample_seconds,
        clock=clock,
        metrics=metrics,
    )
    await stack.enter_async_context(_sampling(sampler))
    return forwarder


def _pool_of_burst(settings: LaneSettings, models: ModelCatalogue) -> PoolSettings:
    name = settings.pool or models.default
    if name not in models.pools:
        raise SettingsError(
            f"[orchestrator.lanes] Expected pool to be one of {', '.join(models.order)}; found '{name}'.",
            hint="Name one of [[orchestrator.models.pools]], or leave it out for the default one.",
        )
    return models.pools[name]


async def _open_burst(
    settings: LaneSettings, stack: AsyncExitStack, *, inference_url: str, clock: Clock, metrics: Metrics
) -> BurstLane | None:
    if settings.kind == "none":
        return None
    if settings.kind == "lambda":
        from pratique.orchestrator.lanes.lambda_lane import LambdaLane

        return await stack.enter_async_context(LambdaLane(settings.aws, clock=clock).running())
    if find_spec("awslambdaric") is None:
        raise SettingsError("Burst workers need awslambdaric; it is not there.", hint="pip install 'pratique[burst]'")
    from pratique.orchestrator.lanes.workers import WorkerLane

    lane = WorkerLane(
        settings.workers,
        inference_url=settings.workers.inference_url or inference_url,
        environment=os.environ,
        clock=clock,
        metrics=metrics,
    )
    return await stack.enter_async_context(lane.running())


def _cpu(clock: Clock) -> Callable[[], float]:
    """Return what reads the processor's share: of this process, and of the cgroup's quota where there is one."""
    own, quota = CpuMeter(clock), cgroup_meter(clock)
    return own.read if quota is None else lambda: max(own.read(), quota.read())


@asynccontextmanager
async def _sampling(sampler: Sampler) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        sampling = tasks.create_task(sampler.run())
        try:
            yield
        finally:
            sampling.cancel()
