"""Metrics of retrieval: searches of the index of passages."""

from __future__ import annotations

from typing import Final

from pratique.core.metrics import Kind, MetricSpec, define_metric

__all__ = [
    "RETRIEVAL_BREAKER_STATE",
    "RETRIEVAL_FAILURES",
    "RETRIEVAL_PASSAGES",
    "RETRIEVAL_SEARCHES",
    "RETRIEVAL_SECONDS",
]

RETRIEVAL_SEARCHES: Final = define_metric(
    MetricSpec(
        name="pratique_retrieval_searches_total",
        kind=Kind.COUNTER,
        help="Questions that passages were looked for, by result (found, nothing, not_asked, failed).",
        labels=("result",),
    )
)
RETRIEVAL_SECONDS: Final = define_metric(
    MetricSpec(
        name="pratique_retrieval_seconds",
        kind=Kind.HISTOGRAM,
        help="Seconds that one search took, failed ones included.",
        buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5),
    )
)
RETRIEVAL_FAILURES: Final = define_metric(
    MetricSpec(
        name="pratique_retrieval_failures_total",
        kind=Kind.COUNTER,
        help="Searches that failed, by reason (timeout, unavailable, fault, overloaded, breaker_open); replies went on "
        "without passages.",
        labels=("reason",),
    )
)
RETRIEVAL_BREAKER_STATE: Final = define_metric(
    MetricSpec(
        name="pratique_retrieval_breaker_state",
        kind=Kind.GAUGE,
        help="State of the circuit breaker before the index: 0 closed, 1 half-open, 2 open.",
    )
)
RETRIEVAL_PASSAGES: Final = define_metric(
    MetricSpec(
        name="pratique_retrieval_passages_total", kind=Kind.COUNTER, help="Passages that searches gave to replies."
    )
)
