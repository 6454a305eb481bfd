"""What is opened for which settings."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest

from pratique.core.catalogue.lanes import CPU_SHARE
from pratique.core.clock import Clock, ManualClock, SystemClock
from pratique.core.metrics import Metrics
from pratique.core.settings import SettingsError
from pratique.orchestrator.forward.interface import Forwarder, ForwardRequest
from pratique.orchestrator.lanes import build
from pratique.orchestrator.lanes.settings import LaneSettings
from pratique.orchestrator.lanes.spilling import SpillingForwarder
from pratique.orchestrator.lanes.workers import WorkerLane
from pratique.orchestrator.models.catalogue import build_catalogue
from pratique.orchestrator.models.settings import ModelsSettings, PoolSettings
from pratique.orchestrator.settings import OrchestratorSettings

pytestmark = pytest.mark.unit

SMALL = PoolSettings(name="small", url="http://small:1")
LARGE = PoolSettings(name="large", url="http://large:1")


async def opened(
    stack: AsyncExitStack,
    *,
    pools: tuple[PoolSettings, ...] = (),
    clock: Clock | None = None,
    metrics: Metrics | None = None,
    **settings: Any,
) -> SpillingForwarder:
    forwarder: Forwarder = await build.open_lanes(
        OrchestratorSettings(lanes=LaneSettings(**settings)),
        object(),  # type: ignore[arg-type]  # nothing is forwarded here
        stack,
        models=build_catalogue(ModelsSettings(pools=pools), inference_url="http://only:1"),
        clock=clock or SystemClock(),
        metrics=metrics or Metrics(),
    )
    assert isinstance(forwarder, SpillingForwarder)
    return forwarder


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({}, type(None)),
        ({"kind": "workers"}, WorkerLane),
    ],
)
async def test_lane_that_is_asked_for_is_opened_and_closed(settings: dict[str, Any], kind: type) -> None:
    async with AsyncExitStack() as stack:
        forwarder = await opened(stack, **settings)
        assert isinstance(forwarder._burst, kind)
        await asyncio.sleep(0)


async def test_processors_share_is_measured_without_a_burst_lane_too(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, metrics = ManualClock(), Metrics()
    monkeypatch.setattr(build, "_cpu", lambda _: lambda: 0.7)
    async with AsyncExitStack() as stack:
        await opened(stack, clock=clock, metrics=metrics)
        await clock.advance(1.0)
    assert metrics.registry.get_sample_value(CPU_SHARE.name) == 0.7


@pytest.mark.parametrize(
    ("pools", "chosen", "url", "served"),
    [
        ((), "", "http://only:1", [True, True, True]),
        ((SMALL, LARGE), "", "http://small:1", [True, False, True]),
        ((SMALL, LARGE), "large", "http://large:1", [False, True, False]),
    ],
)
async def test_only_what_is_for_the_lanes_own_pool_may_go_there_and_to_its_servers(
    pools: tuple[PoolSettings, ...], chosen: str, url: str, served: list[bool]
) -> None:
    bodies = (b'{"model":"small"}', b'{"model":"large"}', b'{"model":"nobody"}')
    async with AsyncExitStack() as stack:
        forwarder = await opened(stack, pools=pools, kind="workers", pool=chosen)
        asked = [
            ForwardRequest(
                method="POST", path="/v1/completions", headers=(), body=body, affinity="usr", timeout_seconds=1
            )
            for body in bodies
        ]
        assert [forwarder._is_eligible(request) for request in asked] == served
        assert isinstance(forwarder._burst, WorkerLane)
        assert forwarder._burst.pool._inference_url == url


async def test_pool_that_there_is_not_opens_nothing() -> None:
    async with AsyncExitStack() as stack:
        with pytest.raises(SettingsError, match="one of small, large; found 'huge'"):
            await opened(stack, pools=(SMALL, LARGE), kind="workers", pool="huge")


async def test_contradiction_opens_nothing() -> None:
    async with AsyncExitStack() as stack:
        with pytest.raises(SettingsError):
            await opened(stack, kind="lambda")


async def test_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "find_spec", lambda _: None)
    async with AsyncExitStack() as stack:
        with pytest.raises(SettingsError) as raised:
            await opened(stack, kind="workers")
    assert "pratique[burst]" in (raised.value.hint or "")


async def test_quota_of_the_cgroup_counts_where_it_is_used_more(monkeypatch: pytest.MonkeyPatch) -> None:
    class Meter:
        def read(self) -> float:
            return 0.9

    clock = ManualClock()
    monkeypatch.setattr(build, "cgroup_meter", lambda _: Meter())
    assert build._cpu(clock)() == 0.9
    monkeypatch.setattr(build, "cgroup_meter", lambda _: None)
    assert build._cpu(clock)() == 0.0
