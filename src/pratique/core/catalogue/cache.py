"""Metrics of the read path: process memory (L1), Valkey (L2), the store (L3)."""

from __future__ import annotations

from pratique.core.metrics import Kind, MetricSpec, define_metric

__all__ = [
    "CACHE_FLIGHTS_JOINED",
    "CACHE_INVALIDATIONS",
    "CACHE_L1_BYTES",
    "CACHE_L1_ENTRIES",
    "CACHE_L1_EVICTIONS",
    "CACHE_L1_FLUSHES",
    "CACHE_L2_ERRORS",
    "CACHE_L2_REPAIRS_WAITING",
    "CACHE_LAYER_SECONDS",
    "DB_READ",
    "L1_HIT",
    "L1_MISS",
    "L2_HIT",
    "L2_MISS",
]

L1_HIT = define_metric(
    MetricSpec(name="pratique_cache_l1_hit", kind=Kind.COUNTER, help="Reads answered from process memory.")
)
L1_MISS = define_metric(
    MetricSpec(name="pratique_cache_l1_miss", kind=Kind.COUNTER, help="Reads that process memory could not answer.")
)
L2_HIT = define_metric(MetricSpec(name="pratique_cache_l2_hit", kind=Kind.COUNTER, help="Reads answered by Valkey."))
L2_MISS = define_metric(
    MetricSpec(
        name="pratique_cache_l2_miss",
        kind=Kind.COUNTER,
        help="Reads that Valkey could not answer, because it had no entry, an unreadable one, or was not asked.",
    )
)
DB_READ = define_metric(
    MetricSpec(name="pratique_cache_db_read", kind=Kind.COUNTER, help="Reads that went to the store.")
)
CACHE_LAYER_SECONDS = define_metric(
    MetricSpec(
        name="pratique_cache_layer_seconds",
        kind=Kind.HISTOGRAM,
        help="Seconds that one layer took to answer; of process memory, one hit in 256 is timed.",
        labels=("layer",),
        buckets=(0.000002, 0.000005, 0.00001, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1),
    )
)
CACHE_L1_EVICTIONS = define_metric(
    MetricSpec(
        name="pratique_cache_l1_evictions",
        kind=Kind.COUNTER,
        help="Entries that left process memory early, by the bound that was reached.",
        labels=("reason",),
    )
)
CACHE_L1_FLUSHES = define_metric(
    MetricSpec(
        name="pratique_cache_l1_flushes",
        kind=Kind.COUNTER,
        help="Times process memory was emptied because invalidations may have been missed.",
    )
)
CACHE_L1_ENTRIES = define_metric(
    MetricSpec(name="pratique_cache_l1_entries", kind=Kind.GAUGE, help="Entries in process memory.")
)
CACHE_L1_BYTES = define_metric(
    MetricSpec(name="pratique_cache_l1_bytes", kind=Kind.GAUGE, help="Estimated bytes of the entries in memory.")
)
CACHE_INVALIDATIONS = define_metric(
    MetricSpec(name="pratique_cache_invalidations", kind=Kind.COUNTER, help="Invalidations pushed by other replicas.")
)
CACHE_FLIGHTS_JOINED = define_metric(
    MetricSpec(
        name="pratique_cache_flights_joined",
        kind=Kind.COUNTER,
        help="Reads that waited for another read of the same conversation instead of asking again.",
    )
)
CACHE_L2_ERRORS = define_metric(
    MetricSpec(
        name="pratique_cache_l2_errors",
        kind=Kind.COUNTER,
        help="Round trips to Valkey that failed or were too slow; reads that shared one count once.",
    )
)
CACHE_L2_REPAIRS_WAITING = define_metric(
    MetricSpec(
        name="pratique_cache_l2_repairs_waiting",
        kind=Kind.GAUGE,
        help="Conversations whose last write Valkey has not been told of yet.",
    )
)
