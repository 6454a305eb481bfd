"""The metrics of the orchestrator's runtime: replies, the generation log, connections, requests."""

from __future__ import annotations

from typing import Final

from pratique.core.metrics import Kind, MetricSpec, define_metric

__all__ = [
    "CONNECTIONS",
    "CONNECTIONS_CUT",
    "EVENTS_SENT",
    "FIRST_TOKEN_SECONDS",
    "FRAMES_REFUSED",
    "GENERATIONS_ENDED",
    "GENERATIONS_RUNNING",
    "HTTP_REQUESTS",
    "LOG_FAILURES",
    "LOG_WRITES",
    "MODEL_READY",
    "TAKEOVERS",
    "UPSTREAM_LOSSES",
]

_LATENCY_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)

GENERATIONS_RUNNING: Final = define_metric(
    MetricSpec(
        name="pratique_orchestrator_generations_running",
        kind=Kind.GAUGE,
        help="Replies that this replica produces now.",
    )
)
GENERATIONS_ENDED: Final = define_metric(
    MetricSpec(
        name="pratique_orchestrator_generations_ended_total",
        kind=Kind.COUNTER,
        help="Replies that this replica ended, by finish reason.",
        labels=("finish_reason",),
    )
)
FIRST_TOKEN_SECONDS: Final = define_metric(
    MetricSpec(
        name="pratique_orchestrator_first_token_seconds",
        kind=Kind.HISTOGRAM,
        help="Seconds from the start of a reply's producer to its first text.",
        buckets=_LATENCY_BUCKETS,
    )
)
UPSTREAM_LOSSES: Final = define_metric(
    MetricSpec(
        name="pratique_orchestrator_upstream_losses_total",
        kind=Kind.COUNTER,
        help="Attempts at a reply that failed, by kind of loss.",
        labels=("loss",),
    )
)
TAKEOVERS: Final = define_metric(
    MetricSpec(
        name="pratique_orchestrator_takeovers_total",
        kind=Kind.COUNTER,
        help="Replies taken over from another producer, by how they were found (lease, store).",
        labels=("found_by",),
    )
)
LOG_WRITES: Final = define_metric(
    MetricSpec(
        name="pratique_orchestrator_generation_log_writes_total",
        kind=Kind.COUNTER,
        help="Writes of one reply to the generation log, its lease's renewals included; many share a round trip.",
    )
)
LOG_FAILURES: Final = define_metric(
    MetricSpec(
        name="pratique_orchestrator_generation_log_failures_total",
        kind=Kind.COUNTER,
        help="Writes to the generation log that failed because its server was away.",
    )
)
CONNECTIONS: Final = define_metric(
    MetricSpec(
        name="pratique_orchestrator_connections",
        kind=Kind.GAUGE,
        help="Open client connections, by transport (websocket, sse).",
        labels=("transport",),
    )
)
CONNECTIONS_CUT: Final = define_metric(
    MetricSpec(
        name="pratique_orchestrator_connections_cut_total",
        kind=Kind.COUNTER,
        help="Connections that the service ended, by reason.",
        labels=("reason",),
    )
)
EVENTS_SENT: Final = define_metric(
    MetricSpec(
        name="pratique_orchestrator_events_sent_total",
        kind=Kind.COUNTER,
        help="Events sent to clients, by transport.",
        labels=("transport",),
    )
)
FRAMES_REFUSED: Final = define_metric(
    MetricSpec(
        name="pratique_orchestrator_frames_refused_total",
        kind=Kind.COUNTER,
        help="Frames and bodies answered with an error, by its code.",
        labels=("code",),
    )
)
HTTP_REQUESTS: Final = define_metric(
    MetricSpec(
        name="pratique_orchestrator_http_requests_total",
        kind=Kind.COUNTER,
        help="HTTP requests answered, by method and status.",
        labels=("method", "status"),
    )
)
MODEL_READY: Final = define_metric(
    MetricSpec(
        name="pratique_orchestrator_model_ready",
        kind=Kind.GAUGE,
        help="1 where at least one model server takes traffic, as far as this replica knows.",
    )
)
