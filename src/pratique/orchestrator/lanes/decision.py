"""Which lane a request takes, and why. Pure: samples and counts go in, a decision comes out.

Three modes. CALM: all work stays in the baseline lane. SPILLING: a threshold was passed for `spill_after_seconds`; new
stateless work goes to burst: what the queue has no room for, or all of it where the processor or the latency is the
reason. It ends when everything was below the lower thresholds for `return_after_seconds`. RETURNING, where all work had
spilled: its share falls to nothing over `return_ramp_seconds`, and one threshold passed on the way spills again.

Spilled work counts as work that would come back: the way back is open only when both lanes together hold little enough
for the baseline. Otherwise an empty baseline lane would call everything back at once, and the lanes would swing.

A request never waits where another lane has room, except that work that names a conversation stays where it is.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pratique.orchestrator.lanes.interface import BASELINE, BURST

if TYPE_CHECKING:
    from collections.abc import Callable

    from pratique.orchestrator.lanes.settings import LaneSettings

__all__ = ["Decision", "Lane", "LaneRouter", "LoadSample", "Mode", "Occupancy", "Reason"]


class Lane(enum.Enum):
    """Where a request goes."""

    BASELINE = BASELINE
    BURST = BURST
    SHED = "shed"


class Mode(enum.Enum):
    """What is done with new stateless work."""

    CALM = "calm"
    SPILLING = "spilling"
    RETURNING = "returning"


class Reason(enum.Enum):
    """Why: the metrics' label."""

    NORMAL = "normal"
    """The baseline lane is well."""
    QUEUE = "queue_depth"
    CPU = "cpu"
    LATENCY = "latency"
    BASELINE_FULL = "baseline_full"
    """Every place in the baseline lane is taken."""
    FILLING = "filling"
    """The queue made work spill, and the baseline lane has room again."""
    RETURNING = "returning"
    """Part of the share that comes back gradually, or still spills meanwhile."""
    STATEFUL = "stateful"
    """Would have spilled, but belongs to a conversation, or cannot go elsewhere."""
    BURST_FULL = "burst_full"
    BURST_DOWN = "burst_down"
    """Would have spilled, but the burst lane failed lately."""
    BURST_FAILED = "burst_failed"
    """Did spill, and came back before the first byte."""
    WAITED = "waited"
    """Waited for a place in the baseline lane, in vain."""
    NO_BURST = "no_burst"
    """Would have spilled, but there is no burst lane."""


@dataclass(frozen=True, kw_only=True)
class LoadSample:
    """How the baseline lane was doing at one moment."""

    depth: int
    """Requests in the baseline lane, in flight and waiting."""
    burst_in_flight: int
    cpu_share: float
    latency_seconds: float | None
    """p95 until the head of an answer; None where there are too few answers to tell."""


@dataclass(kw_only=True, slots=True)
class Occupancy:
    """How full the lanes are as a request arrives."""

    in_flight: int
    waiting: int
    max_in_flight: int
    max_waiting: int
    burst_free: int | None
    """None: there is no burst lane."""

    @property
    def depth(self) -> int:
        return self.in_flight + self.waiting

    @property
    def is_full(self) -> bool:
        """Whether a request would have to wait for a place in the baseline lane."""
        return self.in_flight >= self.max_in_flight

    @property
    def has_waiting_room(self) -> bool:
        return not self.is_full or self.waiting < self.max_waiting


@dataclass(frozen=True, slots=True)
class Decision:
    """A lane and the reason for it."""

    lane: Lane
    reason: Reason


_NORMAL: Final = Decision(Lane.BASELINE, Reason.NORMAL)


class LaneRouter:
    """The mode, and the decisions made in it. Times are monotonic seconds."""

    def __init__(self, settings: LaneSettings) -> None:
        self._settings = settings
        self.mode = Mode.CALM
        self._reason = Reason.NORMAL
        self._over_since: float | None = None
        self._below_since: float | None = None
        self._returning_since = 0.0
        self._share = 0.0
        self._credit = 0.0

    def observe(self, sample: LoadSample, now: float) -> None:
        """Take a sample into account; the mode may change."""
        over = self._passed(sample)
        self._over_since = _since(self._over_since, now, holds=over is not None)
        self._below_since = _since(self._below_since, now, holds=self._is_below(sample))
        if over is not None and (self.mode is Mode.SPILLING or self._has_lasted_over(now)):
            self._spill(over)
        elif self.mode is Mode.SPILLING and self._has_lasted_below(now):
            self._return(now)
        elif self.mode is Mode.RETURNING:
            self._ramp(now)

    def decide(self, occupancy: Occupancy, *, is_eligible: Callable[[], bool], may_try: Callable[[], bool]) -> Decision:
        """Choose a lane.

        Args:
            occupancy: how full the lanes are.
            is_eligible: whether the request may leave the baseline lane; asked only where it matters.
            may_try: whether the burst lane is well; asked last, because a yes can be the one trial of a broken lane.
        """
        wanted = self._wanted(occupancy)
        if wanted is None:
            return _NORMAL if occupancy.burst_free is None else Decision(Lane.BASELINE, self._staying())
        hindrance = _hindrance(occupancy, is_eligible, may_try)
        if hindrance is None:
            return Decision(Lane.BURST, wanted)
        return self.without_burst(occupancy, hindrance)

    def without_burst(self, occupancy: Occupancy, reason: Reason) -> Decision:
        """Choose for a request that cannot go to burst, for that reason."""
        return Decision(Lane.BASELINE if occupancy.has_waiting_room else Lane.SHED, reason)

    def _spill(self, reason: Reason) -> None:
        self.mode, self._reason = Mode.SPILLING, reason

    def _return(self, now: float) -> None:
        if self._reason is Reason.QUEUE:
            # The baseline lane was filled all the time: nothing spills any more that could come back by steps.
            self.mode, self._reason = Mode.CALM, Reason.NORMAL
        else:
            self.mode, self._reason, self._returning_since = Mode.RETURNING, Reason.RETURNING, now
            self._share, self._credit = 1.0, 0.0

    def _ramp(self, now: float) -> None:
        ramp = self._settings.return_ramp_seconds
        self._share = 1 - (now - self._returning_since) / ramp if ramp else 0.0
        if self._share <= 0:
            self.mode, self._reason = Mode.CALM, Reason.NORMAL

    def _wanted(self, occupancy: Occupancy) -> Reason | None:
        """Return why a request should spill, None where it should not."""
        if occupancy.is_full:
            return Reason.BASELINE_FULL
        if self.mode is Mode.SPILLING:
            has_room = self._reason is Reason.QUEUE and occupancy.depth < self._settings.return_depth
            return None if has_room else self._reason
        if self.mode is Mode.RETURNING:
            # By turns rather than by chance: of a share of a quarter, every fourth.
            self._credit += self._share
            if self._credit >= 1:
                self._credit -= 1
                return Reason.RETURNING
        return None

    def _staying(self) -> Reason:
        return {Mode.CALM: Reason.NORMAL, Mode.SPILLING: Reason.FILLING, Mode.RETURNING: Reason.RETURNING}[self.mode]

    def _passed(self, sample: LoadSample) -> Reason | None:
        settings = self._settings
        if sample.depth >= settings.spill_depth:
            return Reason.QUEUE
        if sample.cpu_share > settings.spill_cpu_share:
            return Reason.CPU
        if sample.latency_seconds is not None and sample.latency_seconds > settings.latency_slo_seconds:
            return Reason.LATENCY
        return None

    def _is_below(self, sample: LoadSample) -> bool:
        settings = self._settings
        return (
            sample.depth + sample.burst_in_flight <= settings.return_depth
            and sample.cpu_share <= settings.return_cpu_share
            and (sample.latency_seconds is None or sample.latency_seconds <= settings.return_latency_seconds)
        )

    def _has_lasted_over(self, now: float) -> bool:
        since = self._over_since
        return since is not None and now - since >= self._settings.spill_after_seconds

    def _has_lasted_below(self, now: float) -> bool:
        since = self._below_since
        return since is not None and now - since >= self._settings.return_after_seconds


def _since(before: float | None, now: float, *, holds: bool) -> float | None:
    if not holds:
        return None
    return now if before is None else before


def _hindrance(occupancy: Occupancy, is_eligible: Callable[[], bool], may_try: Callable[[], bool]) -> Reason | None:
    """Return what keeps a request from burst."""
    if occupancy.burst_free is None:
        return Reason.NO_BURST
    if not is_eligible():
        return Reason.STATEFUL
    if occupancy.burst_free <= 0:
        return Reason.BURST_FULL
    if not may_try():
        return Reason.BURST_DOWN
    return None
