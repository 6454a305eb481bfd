"""Metrics of the model server's containment: breaker, restarts, memory. They survive the engine, whose own do not."""

from __future__ import annotations

from typing import Final

from pratique.core.metrics import Kind, MetricSpec, define_metric

__all__ = [
    "BREAKER_STATE",
    "ENGINE_RESETS",
    "ENGINE_RESET_SECONDS",
    "MEMORY_HEADROOM",
    "OOM_ESCALATIONS",
    "OOM_RECOVERIES",
    "OOM_REDUCED",
    "OOM_TRIPS",
]

BREAKER_STATE: Final = define_metric(
    MetricSpec(
        name="pratique_inference_breaker_state",
        kind=Kind.GAUGE,
        help="1 for the state of a model's memory breaker (closed, open, half_open), 0 for the others.",
        labels=("model", "state"),
    )
)
OOM_TRIPS: Final = define_metric(
    MetricSpec(
        name="pratique_inference_oom_trips",
        kind=Kind.COUNTER,
        help="Times the breaker opened, by cause: out_of_memory, kv_exhausted, killed, hung, crashed.",
        labels=("model", "cause"),
    )
)
OOM_REDUCED: Final = define_metric(
    MetricSpec(
        name="pratique_inference_oom_reduced",
        kind=Kind.COUNTER,
        help="Requests whose context was cut because the breaker was not closed.",
        labels=("model",),
    )
)
OOM_RECOVERIES: Final = define_metric(
    MetricSpec(
        name="pratique_inference_oom_recoveries",
        kind=Kind.COUNTER,
        help="Times the breaker closed again after a full request went well.",
        labels=("model",),
    )
)
OOM_ESCALATIONS: Final = define_metric(
    MetricSpec(
        name="pratique_inference_oom_escalation",
        kind=Kind.COUNTER,
        help="Trips that were too many in too short a time: more machines, or smaller prompts, are needed.",
        labels=("model",),
    )
)
ENGINE_RESETS: Final = define_metric(
    MetricSpec(
        name="pratique_inference_engine_resets",
        kind=Kind.COUNTER,
        help="Times the engine was reset inside the running server, by kind (flush, restart) and outcome (ok, failed).",
        labels=("model", "kind", "outcome"),
    )
)
ENGINE_RESET_SECONDS: Final = define_metric(
    MetricSpec(
        name="pratique_inference_engine_reset_seconds",
        kind=Kind.HISTOGRAM,
        help="Seconds from a death or trip to traffic ready again, by kind.",
        labels=("model", "kind"),
        buckets=(0.1, 0.5, 1, 2, 5, 10, 20, 40, 80, 160, 320),
    )
)
MEMORY_HEADROOM: Final = define_metric(
    MetricSpec(
        name="pratique_inference_memory_headroom_bytes",
        kind=Kind.GAUGE,
        help="Bytes left below the memory limit of this container (cgroup); of the machine where there is no limit.",
    )
)
