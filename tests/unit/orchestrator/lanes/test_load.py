"""What decisions rest on: the processor, latencies, the sampler."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from pratique.core.catalogue.lanes import LANE_MODE, LATENCY_SECONDS
from pratique.core.clock import ManualClock
from pratique.core.metrics import Metrics
from pratique.orchestrator.lanes.decision import LaneRouter, Mode
from pratique.orchestrator.lanes.load import CpuMeter, LatencyWindow, Sampler, cgroup_meter
from pratique.orchestrator.lanes.settings import LaneSettings

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.unit


async def test_share_is_of_what_was_used_since_the_last_reading() -> None:
    clock, used = ManualClock(), [0.0]
    meter = CpuMeter(clock, read_seconds=lambda: used[0], cores=0.5)
    assert meter.read() == 0.0
    await clock.advance(2.0)
    used[0] = 0.25
    assert meter.read() == pytest.approx(0.25)
    await clock.advance(1.0)
    used[0] = 9.0
    assert meter.read() == 1.0


@pytest.mark.parametrize(
    ("limit", "stat"), [("max 100000", "usage_usec 5"), ("x", "usage_usec 5"), ("50000 100000", "no such line")]
)
def test_no_quota_or_an_unreadable_one_gives_no_meter(tmp_path: Path, limit: str, stat: str) -> None:
    assert cgroup_meter(ManualClock(), tmp_path) is None
    (tmp_path / "cpu.max").write_text(limit)
    (tmp_path / "cpu.stat").write_text(stat)
    assert cgroup_meter(ManualClock(), tmp_path) is None


async def test_share_of_a_quota_is_read_from_the_cgroup(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    (tmp_path / "cpu.stat").write_text("usage_usec 0\nuser_usec 0\n")
    clock = ManualClock()
    meter = cgroup_meter(clock, tmp_path)
    assert meter is not None
    await clock.advance(1.0)
    (tmp_path / "cpu.stat").write_text("usage_usec 400000\nuser_usec 0\n")
    assert meter.read() == pytest.approx(0.8)


async def test_share_that_cannot_be_read_for_a_while_is_the_last_known_one(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    (tmp_path / "cpu.stat").write_text("usage_usec 0\n")
    clock = ManualClock()
    meter = cgroup_meter(clock, tmp_path)
    assert meter is not None
    await clock.advance(1.0)
    (tmp_path / "cpu.stat").write_text("usage_usec 400000\n")
    assert meter.read() == pytest.approx(0.8)
    (tmp_path / "cpu.stat").unlink()
    await clock.advance(1.0)
    assert meter.read() == pytest.approx(0.8)
    (tmp_path / "cpu.stat").write_text("usage_usec 500000\n")
    await clock.advance(1.0)
    assert meter.read() == pytest.approx(0.1)


def window() -> LatencyWindow:
    return LatencyWindow(window_seconds=10.0, limit_seconds=1.0)


def test_latency_is_unknown_from_too_few_answers() -> None:
    latencies = window()
    for _ in range(9):
        latencies.end(latencies.begin(0.0), 0.2, has_head=True)
    assert latencies.p95(1.0) is None


def test_p95_is_by_nearest_rank_and_forgets_what_is_old() -> None:
    latencies = window()
    for number in range(1, 101):
        latencies.end(latencies.begin(0.0), number / 100, has_head=True)
    assert latencies.p95(1.0) == pytest.approx(0.95)
    assert latencies.p95(11.5) is None


def test_requests_that_hang_count_before_they_end_and_failed_ones_do_not_after() -> None:
    latencies = window()
    numbers = [latencies.begin(0.0) for _ in range(10)]
    assert latencies.p95(0.9) is None
    assert latencies.p95(3.0) == pytest.approx(3.0)
    for number in numbers:
        latencies.end(number, 3.0, has_head=False)
        latencies.end(number, 3.0, has_head=True)
    assert latencies.p95(3.0) is None


def mode_of(router: LaneRouter) -> Mode:
    return router.mode


async def test_sampler_shows_the_router_a_deep_queue() -> None:
    clock, metrics, depth = ManualClock(), Metrics(), [0]
    router = LaneRouter(LaneSettings(spill_after_seconds=1.0))
    latencies = window()
    for _ in range(10):
        latencies.end(latencies.begin(0.0), 0.2, has_head=True)
    sampler = Sampler(
        router,
        latencies,
        count=lambda: (depth[0], 0),
        cpu=lambda: 0.1,
        sample_seconds=0.5,
        clock=clock,
        metrics=metrics,
    )
    sampling = asyncio.ensure_future(sampler.run())
    await clock.advance(1.0)
    assert mode_of(router) is Mode.CALM
    depth[0] = 64
    await clock.advance(2.0)
    sampling.cancel()
    await asyncio.gather(sampling, return_exceptions=True)
    assert mode_of(router) is Mode.SPILLING
    assert metrics.gauge(LANE_MODE)._value.get() == 1
    assert metrics.gauge(LATENCY_SECONDS)._value.get() == pytest.approx(0.2)
