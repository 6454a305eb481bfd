"""The read path's metrics, in the words of what happened."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    from pratique.core.metrics import Metrics

__all__ = ["Instruments"]


class Instruments:
    """Made once per reader; labels are looked up once, because L1 answers in microseconds."""

    def __init__(self, metrics: Metrics) -> None:
        self._l1 = {True: metrics.counter(L1_HIT), False: metrics.counter(L1_MISS)}
        self._l2 = {True: metrics.counter(L2_HIT), False: metrics.counter(L2_MISS)}
        self._db_read = metrics.counter(DB_READ)
        seconds = metrics.histogram(CACHE_LAYER_SECONDS)
        self._l1_seconds, self._l2_seconds, self._l3_seconds = (seconds.labels(layer) for layer in ("l1", "l2", "l3"))
        self._evictions = metrics.counter(CACHE_L1_EVICTIONS)
        self.joined = metrics.counter(CACHE_FLIGHTS_JOINED).inc
        self.invalidated = metrics.counter(CACHE_INVALIDATIONS).inc
        self.failed_l2 = metrics.counter(CACHE_L2_ERRORS).inc
        self.waiting_repairs = metrics.gauge(CACHE_L2_REPAIRS_WAITING).set
        self._flushes = metrics.counter(CACHE_L1_FLUSHES)
        self._entries = metrics.gauge(CACHE_L1_ENTRIES)
        self._bytes = metrics.gauge(CACHE_L1_BYTES)

    def asked_l1(self, seconds: float, *, is_hit: bool) -> None:
        self._l1[is_hit].inc()
        self._l1_seconds.observe(seconds)

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

    def holds(self, num_entries: int, num_bytes: int) -> None:
        self._entries.set(num_entries)
        self._bytes.set(num_bytes)

    def flushed(self) -> None:
        self._flushes.inc()
        self.holds(0, 0)
