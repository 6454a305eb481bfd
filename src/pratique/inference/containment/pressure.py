"""Are the KV blocks exhausted, so that requests only push each other out? Pure but for its clock.

Few preemptions are normal under load and cost little. Many in a short time, with the blocks nearly all in use and
requests waiting for some, mean that the engine recomputes more than it gets done.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from pratique.core.clock import Clock
from pratique.inference.engines.interface import Pulse
from pratique.inference.settings import ContainmentSettings

__all__ = ["KvPressure"]

_HIGH_USAGE: Final = 0.9


class _Growth(NamedTuple):
    at_seconds: float
    num_preemptions: int
    kv_usage: float


class KvPressure:
    """Watches one engine. `settings` give `kv_preemptions` and `kv_window_seconds`."""

    def __init__(self, clock: Clock, settings: ContainmentSettings) -> None:
        self._clock = clock
        self._settings = settings
        # Each entry is one preemption at least, so that no more entries can be needed.
        self._growth: deque[_Growth] = deque(maxlen=settings.kv_preemptions)
        self._last: Pulse | None = None
        self._last_at = 0.0

    @property
    def num_recent(self) -> int:
        """Preemptions in the window that ended with the last observation, as far as they are needed."""
        return sum(growth.num_preemptions for growth in self._growth)

    def observe(self, pulse: Pulse) -> bool:
        """Take in what is known of the engine now, and say whether its blocks are exhausted.

        It is said once: after that as many preemptions are needed again, as the flush that follows does not take back
        what was counted.
        """
        now, window = self._clock.monotonic(), self._settings.kv_window_seconds
        num_new = self._count_new(pulse)
        # What happened in a gap longer than the window (a stopped observer) cannot be dated.
        if num_new and now - self._last_at < window:
            self._growth.append(_Growth(now, num_new, pulse.kv_usage))
        self._last, self._last_at = pulse, now
        while self._growth and now - self._growth[0].at_seconds >= window:
            self._growth.popleft()
        is_exhausted = self._is_exhausted(pulse)
        if is_exhausted:
            self._growth.clear()
        return is_exhausted

    def _count_new(self, pulse: Pulse) -> int:
        last = self._last
        if last is None:
            return 0
        if pulse.num_preemptions < last.num_preemptions or pulse.num_iterations < last.num_iterations:
            self._growth.clear()  # another engine, whose counts began at zero
            return pulse.num_preemptions
        return pulse.num_preemptions - last.num_preemptions

    def _is_exhausted(self, pulse: Pulse) -> bool:
        if not pulse.num_waiting or self.num_recent < self._settings.kv_preemptions:
            return False
        # The peak, not the moment: a preemption gives blocks back, so usage swings while requests push each other out.
        return max(pulse.kv_usage, *(growth.kv_usage for growth in self._growth)) >= _HIGH_USAGE
