"""Metrics of the conversation store."""

from __future__ import annotations

from pratique.core.metrics import Kind, MetricSpec, define_metric

__all__ = ["STORE_BATCH_WRITES", "STORE_COMMIT_SECONDS", "STORE_FAILURES", "STORE_QUEUE_WRITES", "STORE_RETRIES"]

STORE_COMMIT_SECONDS = define_metric(
    MetricSpec(
        name="pratique_store_commit_seconds",
        kind=Kind.HISTOGRAM,
        help="Seconds from the beginning of a transaction of the conversation store until it was durable.",
        buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
    )
)
STORE_BATCH_WRITES = define_metric(
    MetricSpec(
        name="pratique_store_batch_writes",
        kind=Kind.HISTOGRAM,
        help="Writes that were committed together in one transaction.",
        buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
    )
)
STORE_QUEUE_WRITES = define_metric(
    MetricSpec(
        name="pratique_store_queue_writes",
        kind=Kind.GAUGE,
        help="Writes that wait for the next transaction.",
    )
)
STORE_FAILURES = define_metric(
    MetricSpec(
        name="pratique_store_failures",
        kind=Kind.COUNTER,
        help="Transactions of SQLite that failed as a whole; calls of DynamoDB, reads too, that failed.",
    )
)
STORE_RETRIES = define_metric(
    MetricSpec(
        name="pratique_store_retries",
        kind=Kind.COUNTER,
        help="Requests to the conversation table that were sent again, by the reason.",
        labels=("reason",),
    )
)
