"""Metrics of the lanes: what was decided and why, how full they are, what the decisions rest on."""

from __future__ import annotations

from typing import Final

from pratique.core.metrics import Kind, MetricSpec, define_metric

__all__ = [
    "BURST_FAILURES",
    "COLD_START_SECONDS",
    "CPU_SHARE",
    "HEAD_SECONDS",
    "LANE_DECISIONS",
    "LANE_IN_FLIGHT",
    "LANE_MODE",
    "LANE_WAITING",
    "LATENCY_SECONDS",
    "LOOP_LAG_SECONDS",
    "WORKERS",
    "WORKERS_ENDED",
]

LANE_DECISIONS: Final = define_metric(
    MetricSpec(
        name="pratique_lanes_decisions_total",
        kind=Kind.COUNTER,
        help="Stateless requests, by the lane that they were given (baseline, burst, shed) and the reason.",
        labels=("lane", "reason"),
    )
)
LANE_IN_FLIGHT: Final = define_metric(
    MetricSpec(
        name="pratique_lanes_in_flight",
        kind=Kind.GAUGE,
        help="Stateless requests that are being answered now, by lane.",
        labels=("lane",),
    )
)
LANE_WAITING: Final = define_metric(
    MetricSpec(
        name="pratique_lanes_waiting",
        kind=Kind.GAUGE,
        help="Requests that wait for a place in the baseline lane.",
    )
)
LANE_MODE: Final = define_metric(
    MetricSpec(
        name="pratique_lanes_mode",
        kind=Kind.GAUGE,
        help="What is done with new stateless work: 0 calm, 1 spilling, 2 returning.",
    )
)
CPU_SHARE: Final = define_metric(
    MetricSpec(
        name="pratique_lanes_cpu_share",
        kind=Kind.GAUGE,
        help="Share of the processor time that this replica may use and does, in the last sample.",
    )
)
LOOP_LAG_SECONDS: Final = define_metric(
    MetricSpec(
        name="pratique_lanes_loop_lag_seconds",
        kind=Kind.GAUGE,
        help="Seconds by which the event loop woke the sampler too late, in the last sample.",
    )
)
LATENCY_SECONDS: Final = define_metric(
    MetricSpec(
        name="pratique_lanes_latency_seconds",
        kind=Kind.GAUGE,
        help="p95 of the seconds until an answer's head in the baseline lane, lately; 0 where too few came.",
    )
)
HEAD_SECONDS: Final = define_metric(
    MetricSpec(
        name="pratique_lanes_head_seconds",
        kind=Kind.HISTOGRAM,
        help="Seconds from a request's arrival to its answer's head, by lane.",
        labels=("lane",),
        buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
    )
)
BURST_FAILURES: Final = define_metric(
    MetricSpec(
        name="pratique_lanes_burst_failures_total",
        kind=Kind.COUNTER,
        help="Spilled requests that the burst lane did not answer, by kind (full, before_head, after_head).",
        labels=("kind",),
    )
)
COLD_START_SECONDS: Final = define_metric(
    MetricSpec(
        name="pratique_lanes_worker_cold_start_seconds",
        kind=Kind.HISTOGRAM,
        help="Seconds from the start of a burst worker's process until it asks for its first invocation.",
        buckets=(0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 10.0),
    )
)
WORKERS: Final = define_metric(
    MetricSpec(name="pratique_lanes_workers", kind=Kind.GAUGE, help="Processes in the pool of burst workers.")
)
WORKERS_ENDED: Final = define_metric(
    MetricSpec(
        name="pratique_lanes_workers_ended_total",
        kind=Kind.COUNTER,
        help="Burst workers that ended, by reason (idle, old, used_up, abandoned, start_failed, exited, closed).",
        labels=("reason",),
    )
)
