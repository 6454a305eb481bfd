"""Reads the container's memory at short intervals, and acts before the kernel does: sheds load, then asks for relief.

What a reading means is decided in `containment.memory`. The first trip drops what the engines run; where a second one
finds the memory still short, they are restarted.
"""

from __future__ import annotations

from typing import Final, Protocol

from pratique.core.catalogue.containment import MEMORY_HEADROOM
from pratique.core.clock import Clock
from pratique.core.events import get_logger
from pratique.core.metrics import Metrics
from pratique.inference.containment.cgroup import MemoryCgroup
from pratique.inference.containment.memory import MemoryReading, MemoryVerdict, MemoryWatch
from pratique.inference.settings import ContainmentSettings

__all__ = ["MemoryWatchdog", "Relieve"]

_LOG = get_logger("watchdog")
_INTERVAL_SECONDS: Final = 0.2


class Relieve(Protocol):
    """Has the engines give memory back."""

    def __call__(self, *, needs_restart: bool) -> None: ...


class MemoryWatchdog:
    """The watchdog of one process."""

    def __init__(
        self, clock: Clock, settings: ContainmentSettings, *, cgroup: MemoryCgroup, metrics: Metrics, relieve: Relieve
    ) -> None:
        self._clock = clock
        self._cgroup = cgroup
        self._metrics = metrics
        self._relieve = relieve
        self._watch = MemoryWatch(clock, settings)
        self._reading = MemoryReading()
        self._verdict = MemoryVerdict.OK
        self._trips_in_a_row = 0

    @property
    def is_shedding(self) -> bool:
        """Whether new requests are to be refused."""
        return self._watch.is_shedding

    def snapshot(self) -> dict[str, object]:
        """Return what /status shows."""
        return {**self._reading.snapshot(), "verdict": self._verdict.value}

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            self.look()
            await self._clock.sleep(_INTERVAL_SECONDS)

    def look(self) -> None:
        """Read once, and act. A few small files of the kernel's, about a millisecond."""
        self._reading = reading = self._cgroup.read()
        before, self._verdict = self._verdict, self._watch.assess(reading)
        if reading.headroom_bytes is not None:
            self._metrics.gauge(MEMORY_HEADROOM).set(reading.headroom_bytes)
        if self._verdict is not before:
            _LOG.warning("memory", verdict=self._verdict.value, **reading.snapshot())
        if self._verdict is MemoryVerdict.TRIP:
            self._relieve(needs_restart=self._trips_in_a_row > 0)
            self._trips_in_a_row += 1
        elif self._verdict is MemoryVerdict.OK:
            self._trips_in_a_row = 0
