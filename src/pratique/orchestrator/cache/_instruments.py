"""The read path's metrics, in the words of what happened.

What L1 does is counted in plain numbers and told to the instruments when they are read, because an instrument's own
lock costs more than L1's whole answer. For the same reason only one hit in `SAMPLE` is timed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pratique.core.catalogue.cache import (
    CACHE_FLIGHTS_JOINED,
    CACHE_INVALIDATIONS,
    CACHE_L1_BYTES,
    CACHE_L1_ENTRIES,
    CACHE_L1_EVICTIONS,
    CACHE_L1_FLUSHES,
    CACHE_L2_ERRORS,
    CACHE_L2_REPAIRS_WAITING,
    CACHE_LAYER_SECONDS,
    DB_READ,
    L1_HIT,
    L1_MISS,
    L2_HIT,
    L2_MISS,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from pratique.core.metrics import Metrics

__all__ = ["SAMPLE", "Instruments"]

SAMPLE: Final = 256
"""A power of two."""


class Instruments:
    """Made once per reader. `size` says how many entries and bytes L1 holds."""

    def __init__(self, metrics: Metrics, *, size: Callable[[], tuple[int, int]]) -> None:
        self.l1_hits = metrics.total(metrics.counter(L1_HIT))
        self.l1_misses = metrics.total(metrics.counter(L1_MISS))
        self.flights_joined = metrics.total(metrics.counter(CACHE_FLIGHTS_JOINED))
        self._l2 = {True: metrics.counter(L2_HIT), False: metrics.counter(L2_MISS)}
        self._db_read = metrics.counter(DB_READ)
        seconds = metrics.histogram(CACHE_LAYER_SECONDS)
        self.timed_l1 = seconds.labels("l1").observe
        self._l2_seconds, self._l3_seconds = seconds.labels("l2"), seconds.labels("l3")
        self._evictions = metrics.counter(CACHE_L1_EVICTIONS)
        self.invalidated = metrics.counter(CACHE_INVALIDATIONS).inc
        self.failed_l2 = metrics.counter(CACHE_L2_ERRORS).inc
        self.waiting_repairs = metrics.gauge(CACHE_L2_REPAIRS_WAITING).set
        self.flushed = metrics.counter(CACHE_L1_FLUSHES).inc
        self._entries = metrics.gauge(CACHE_L1_ENTRIES)
        self._bytes = metrics.gauge(CACHE_L1_BYTES)
        self._size = size
        metrics.before_scrape(self._tell)

    def asked_l2(self, seconds: float, *, is_hit: bool) -> None:
        self._l2[is_hit].inc()
        self._l2_seconds.observe(seconds)

    def skipped_l2(self) -> None:
        self._l2[False].inc()

    def asked_l3(self, seconds: float) -> None:
        self._db_read.inc()
        self._l3_seconds.observe(seconds)

    def evicted(self, reason: str) -> None:
        self._evictions.labels(reason).inc()

    def _tell(self) -> None:
        num_entries, num_bytes = self._size()
        self._entries.set(num_entries)
        self._bytes.set(num_bytes)
