"""How this replica is doing: processor, event loop, latency of the baseline lane; sampled by one cheap task.

The processor's share is of what this process may use: one core, as Python runs on one, or less where the cgroup's quota
is less (Linux cgroup v2, cpu.max and cpu.stat). With a quota, what others in the same cgroup use of it counts too.
"""

from __future__ import annotations

import math
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pratique.core.catalogue.lanes import CPU_SHARE, LANE_MODE, LATENCY_SECONDS, LOOP_LAG_SECONDS
from pratique.orchestrator.lanes.decision import LoadSample, Mode

if TYPE_CHECKING:
    from collections.abc import Callable

    from pratique.core.clock import Clock
    from pratique.core.metrics import Metrics
    from pratique.orchestrator.lanes.decision import LaneRouter

__all__ = ["CpuMeter", "LatencyWindow", "Sampler", "cgroup_meter"]

_CGROUP: Final = Path("/sys/fs/cgroup")
_MAX_LATENCIES: Final = 2048
_MIN_LATENCIES: Final = 10
_MODES: Final = {Mode.CALM: 0, Mode.SPILLING: 1, Mode.RETURNING: 2}


class CpuMeter:
    """Share of the processor used between two readings."""

    def __init__(
        self, clock: Clock, *, read_seconds: Callable[[], float] = time.process_time, cores: float = 1.0
    ) -> None:
        self._clock = clock
        self._read_seconds = read_seconds
        self._cores = cores
        self._last = (clock.monotonic(), read_seconds())
        self._share = 0.0

    def read(self) -> float:
        """Return the share since the last reading, 0 to 1; the last known one where it cannot be read now."""
        try:
            now, used = self._clock.monotonic(), self._read_seconds()
        except OSError:
            # Out of descriptors, as a rule: under the very load that is measured here, which must not end the replica.
            return self._share
        (then, before), self._last = self._last, (now, used)
        self._share = min(1.0, (used - before) / (now - then) / self._cores) if now > then else 0.0
        return self._share


def cgroup_meter(clock: Clock, root: Path = _CGROUP) -> CpuMeter | None:
    """Return a meter of the cgroup's use of its quota; None where it has none, or none can be read."""
    try:
        quota, period = (root / "cpu.max").read_text().split()
        _cgroup_seconds(root)
    except (OSError, ValueError):
        return None
    if quota == "max":
        return None
    return CpuMeter(clock, read_seconds=lambda: _cgroup_seconds(root), cores=int(quota) / int(period))


def _cgroup_seconds(root: Path) -> float:
    for line in (root / "cpu.stat").read_text().splitlines():
        name, _, value = line.partition(" ")
        if name == "usage_usec":
            return int(value) / 1e6
    raise ValueError(f"Expected usage_usec in {root / 'cpu.stat'}; it is not there.")


class LatencyWindow:
    """Seconds until the head of an answer, lately; those that wait beyond the limit count before they end. Pure."""

    def __init__(self, *, window_seconds: float, limit_seconds: float) -> None:
        self._window_seconds = window_seconds
        self._limit_seconds = limit_seconds
        self._ended: deque[tuple[float, float]] = deque(maxlen=_MAX_LATENCIES)
        self._open: dict[int, float] = {}
        self._number = 0

    def begin(self, now: float) -> int:
        """A request begins; returns its number."""
        self._number += 1
        self._open[self._number] = now
        return self._number

    def end(self, number: int, now: float, *, has_head: bool) -> None:
        """Its head has come, or never will."""
        began = self._open.pop(number, None)
        if began is not None and has_head:
            self._ended.append((now, now - began))

    def p95(self, now: float) -> float | None:
        """Return the 95th percentile, by nearest rank; None where there are too few to tell."""
        while self._ended and self._ended[0][0] < now - self._window_seconds:
            self._ended.popleft()
        seconds = [taken for _, taken in self._ended]
        seconds += [now - began for began in self._open.values() if now - began > self._limit_seconds]
        if len(seconds) < _MIN_LATENCIES:
            return None
        return sorted(seconds)[math.ceil(0.95 * len(seconds)) - 1]


class Sampler:
    """Shows the router how things are, every `sample_seconds`."""

    def __init__(
        self,
        router: LaneRouter,
        window: LatencyWindow,
        *,
        count: Callable[[], tuple[int, int]],
        cpu: Callable[[], float],
        sample_seconds: float,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._router = router
        self._window = window
        self._count = count
        self._cpu = cpu
        self._sample_seconds = sample_seconds
        self._clock = clock
        self._cpu_share = metrics.gauge(CPU_SHARE)
        self._lag = metrics.gauge(LOOP_LAG_SECONDS)
        self._latency = metrics.gauge(LATENCY_SECONDS)
        self._mode = metrics.gauge(LANE_MODE)

    async def run(self) -> None:
        """Sample until cancelled."""
        while True:
            began = self._clock.monotonic()
            await self._clock.sleep(self._sample_seconds)
            self._lag.set(max(0.0, self._clock.monotonic() - began - self._sample_seconds))
            self.sample()

    def sample(self) -> None:
        """Take one sample."""
        now = self._clock.monotonic()
        depth, burst_in_flight = self._count()
        share, latency = self._cpu(), self._window.p95(now)
        sample = LoadSample(depth=depth, burst_in_flight=burst_in_flight, cpu_share=share, latency_seconds=latency)
        self._router.observe(sample, now)
        self._cpu_share.set(share)
        self._latency.set(latency or 0.0)
        self._mode.set(_MODES[self._router.mode])
