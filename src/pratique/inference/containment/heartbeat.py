"""Is the engine's loop alive? Decided from what is observed of it at regular intervals. Pure but for its clock.

Silence is summed up between observations, not taken from two points in time, so that the observer's own trouble is
not laid at the engine's door: where it was itself stopped (SIGSTOP, a suspended machine, a blocked loop) the gap counts
for a tenth of `hang_seconds` at most. An observer that is always late is slow to find a hang, and not blind.

An iteration is the only proof of progress. Processor time tells a busy engine (one long iteration) from a hung one, but
only for so long: an engine that computes without end is stuck. An engine with nothing to do is alive.
"""

from __future__ import annotations

import enum
from typing import Final

from pratique.core.clock import Clock
from pratique.inference.engines.interface import Pulse
from pratique.inference.settings import ContainmentSettings

__all__ = ["Beat", "Heartbeat"]

_GAP_SHARE: Final = 0.1
"""Of `hang_seconds`: what one gap counts at most (or one interval, where that is longer)."""
_NOISE_SECONDS: Final = 0.015
"""Linux counts processor time in ticks of 10 ms: one tick may be the end of one that began before, two are work."""


class Beat(enum.Enum):
    """What the observations say."""

    ALIVE = "alive"
    HUNG = "hung"
    """No iteration and no processor time while work waits."""
    STUCK = "stuck"
    """No iteration while work waits, for so long that what it computes does not matter."""


class Heartbeat:
    """Watches one engine. `settings` give `hang_seconds` and `stuck_seconds`; `interval_seconds` is the observer's."""

    def __init__(self, clock: Clock, settings: ContainmentSettings, *, interval_seconds: float) -> None:
        self._clock = clock
        self._settings = settings
        self._most_seconds = max(interval_seconds, _GAP_SHARE * settings.hang_seconds)
        self.restarted()

    def restarted(self) -> None:
        """Forget everything: what is observed from here on is a new engine."""
        self._last: Pulse | None = None
        self._last_at = 0.0
        self._cpu_seconds = 0.0
        self.silent_seconds = 0.0
        """Without an iteration or processor time while work waited."""
        self.stuck_seconds = 0.0
        """Without an iteration while work waited."""

    def observe(self, pulse: Pulse) -> Beat:
        """Take in what is known of the loop now, and say whether it lives."""
        last, elapsed = self._last, self._elapsed_seconds()
        self._last = pulse
        if last is None or _has_moved(last, pulse):
            self._cpu_seconds = pulse.cpu_seconds
            self.silent_seconds = self.stuck_seconds = 0.0
            return Beat.ALIVE
        self.stuck_seconds += elapsed
        if pulse.cpu_seconds - self._cpu_seconds > _NOISE_SECONDS:
            self._cpu_seconds = pulse.cpu_seconds
            self.silent_seconds = 0.0
        else:
            self.silent_seconds += elapsed
        return self._judge()

    def _judge(self) -> Beat:
        if self.silent_seconds >= self._settings.hang_seconds:
            return Beat.HUNG
        return Beat.STUCK if self.stuck_seconds >= self._settings.stuck_seconds else Beat.ALIVE

    def _elapsed_seconds(self) -> float:
        now = self._clock.monotonic()
        elapsed, self._last_at = now - self._last_at, now
        return min(elapsed, self._most_seconds)


def _has_moved(last: Pulse, pulse: Pulse) -> bool:
    """Whether silence begins anew: an iteration, work for an idle engine, none left, another engine (counts fell)."""
    return (
        pulse.num_iterations != last.num_iterations
        or pulse.cpu_seconds < last.cpu_seconds
        or pulse.num_unfinished == 0
        or last.num_unfinished == 0
    )
