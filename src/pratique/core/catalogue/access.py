"""The metrics of access: limits, token issuers, the audit log."""

from __future__ import annotations

from typing import Final

from pratique.core.metrics import Kind, MetricSpec, define_metric

__all__ = ["AUDIT_DROPPED", "ISSUER_FETCHES", "LIMITS_DEGRADED", "LIMITS_REACHED"]

LIMITS_DEGRADED: Final = define_metric(
    MetricSpec(
        name="pratique_access_limits_degraded",
        kind=Kind.GAUGE,
        help="1 while the shared store of the limits is away and this replica does what on_store_loss says.",
    )
)
LIMITS_REACHED: Final = define_metric(
    MetricSpec(
        name="pratique_access_limits_reached_total",
        kind=Kind.COUNTER,
        help="Requests refused by a limit: requests, concurrency, tokens, connections, frames or sessions.",
        labels=("limit",),
    )
)
ISSUER_FETCHES: Final = define_metric(
    MetricSpec(
        name="pratique_access_issuer_fetches_total",
        kind=Kind.COUNTER,
        help="Times that a token issuer's keys were asked for, by outcome (ok, failed).",
        labels=("outcome",),
    )
)
AUDIT_DROPPED: Final = define_metric(
    MetricSpec(
        name="pratique_access_audit_dropped_total",
        kind=Kind.COUNTER,
        help="Audit records that could not be kept, by reason (full, failed).",
        labels=("reason",),
    )
)
