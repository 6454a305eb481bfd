"""Metrics of the calls to the model servers, by pool: attempts, retries, breakers, hedges, routes."""

from __future__ import annotations

from typing import Final

from pratique.core.metrics import Kind, MetricSpec, define_metric

__all__ = [
    "ATTEMPTS",
    "BREAKER_OPENED",
    "BREAKER_STATE",
    "FIRST_TEXT_SECONDS",
    "HEDGES",
    "RETRIES",
    "RETRY_BUDGET",
    "ROUTES",
    "ROUTING_FAILURES",
]

ATTEMPTS: Final = define_metric(
    MetricSpec(
        name="pratique_downstream_attempts_total",
        kind=Kind.COUNTER,
        help="Attempts at a pool, by how they ended: answered, refused, unavailable, busy, interrupted, "
        "no_first_token, no_inter_token, reply_too_long, left, breaker_open, retry_refused.",
        labels=("pool", "outcome"),
    )
)
FIRST_TEXT_SECONDS: Final = define_metric(
    MetricSpec(
        name="pratique_downstream_first_text_seconds",
        kind=Kind.HISTOGRAM,
        help="Seconds from sending one attempt to its first text.",
        labels=("pool",),
        buckets=(0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0),
    )
)
RETRIES: Final = define_metric(
    MetricSpec(
        name="pratique_downstream_retries_total",
        kind=Kind.COUNTER,
        help="Retries that count against a pool's budget, by verdict (allowed, refused).",
        labels=("pool", "verdict"),
    )
)
RETRY_BUDGET: Final = define_metric(
    MetricSpec(
        name="pratique_downstream_retry_budget",
        kind=Kind.GAUGE,
        help="Retries that a pool's budget allows now.",
        labels=("pool",),
    )
)
BREAKER_STATE: Final = define_metric(
    MetricSpec(
        name="pratique_downstream_breaker_state",
        kind=Kind.GAUGE,
        help="State of a pool's circuit breaker: 0 closed, 1 half-open, 2 open.",
        labels=("pool",),
    )
)
BREAKER_OPENED: Final = define_metric(
    MetricSpec(
        name="pratique_downstream_breaker_opened_total",
        kind=Kind.COUNTER,
        help="Times a pool's circuit breaker opened.",
        labels=("pool",),
    )
)
HEDGES: Final = define_metric(
    MetricSpec(
        name="pratique_downstream_hedges_total",
        kind=Kind.COUNTER,
        help="Second attempts beside a late one, by result (won, lost, failed, refused).",
        labels=("pool", "result"),
    )
)
ROUTES: Final = define_metric(
    MetricSpec(
        name="pratique_models_routes_total",
        kind=Kind.COUNTER,
        help="Attempts sent to a pool, by the rule that chose it.",
        labels=("pool", "policy"),
    )
)
ROUTING_FAILURES: Final = define_metric(
    MetricSpec(
        name="pratique_models_routing_failures_total",
        kind=Kind.COUNTER,
        help="Choices of the routing policy that could not be used; the default pool answered.",
    )
)
