"""Metrics of the model server. The engine's own (prefix `vllm:`) stand beside them in /metrics."""

from __future__ import annotations

from typing import Final

from pratique.core.metrics import Kind, MetricSpec, define_metric

__all__ = [
    "INVOCATIONS",
    "IN_FLIGHT",
    "LIFECYCLE_STATE",
    "LIFECYCLE_TRANSITIONS",
    "MODEL_LOAD_FAILURE",
    "MODEL_READY",
    "PHASE_SECONDS",
    "REFUSED",
    "REPEATED_LOAD_FAILURE",
    "TURNS_DROPPED",
    "WARMUP_TIMEOUT",
]

LIFECYCLE_STATE: Final = define_metric(
    MetricSpec(
        name="pratique_inference_lifecycle_state",
        kind=Kind.GAUGE,
        help="1 for the state the model server is in, 0 for the others.",
        labels=("state",),
    )
)
LIFECYCLE_TRANSITIONS: Final = define_metric(
    MetricSpec(
        name="pratique_inference_lifecycle_transitions",
        kind=Kind.COUNTER,
        help="Steps of the lifecycle, by the state entered.",
        labels=("state",),
    )
)
PHASE_SECONDS: Final = define_metric(
    MetricSpec(
        name="pratique_inference_phase_seconds",
        kind=Kind.GAUGE,
        help="Seconds that each phase of the start took.",
        labels=("phase",),
    )
)
IN_FLIGHT: Final = define_metric(
    MetricSpec(
        name="pratique_inference_in_flight", kind=Kind.GAUGE, help="Requests past the gate that are not answered yet."
    )
)
INVOCATIONS: Final = define_metric(
    MetricSpec(
        name="pratique_inference_requests",
        kind=Kind.COUNTER,
        help="Requests of customers that passed the gate, by API. Warmup is not counted.",
        labels=("api",),
    )
)
REFUSED: Final = define_metric(
    MetricSpec(
        name="pratique_inference_refused",
        kind=Kind.COUNTER,
        help="Requests that the gate answered with 503, by reason: the lifecycle state, overloaded, or short memory.",
        labels=("reason",),
    )
)
MODEL_LOAD_FAILURE: Final = define_metric(
    MetricSpec(
        name="pratique_inference_model_load_failure",
        kind=Kind.COUNTER,
        help="Starts that failed before the model was loaded.",
    )
)
WARMUP_TIMEOUT: Final = define_metric(
    MetricSpec(
        name="pratique_inference_warmup_timeout",
        kind=Kind.COUNTER,
        help="Starts that failed because the warmup took too long.",
    )
)
MODEL_READY: Final = define_metric(
    MetricSpec(
        name="pratique_inference_model_ready",
        kind=Kind.GAUGE,
        help="1 for a model that is warm and takes traffic, else 0.",
        labels=("model",),
    )
)
REPEATED_LOAD_FAILURE: Final = define_metric(
    MetricSpec(
        name="pratique_inference_repeated_load_failure",
        kind=Kind.GAUGE,
        help="Starts in a row that failed with these artifacts, in this and earlier processes; 3 are systemic.",
    )
)
TURNS_DROPPED: Final = define_metric(
    MetricSpec(
        name="pratique_inference_turns_dropped",
        kind=Kind.COUNTER,
        help="Turns of conversations that the context budget left out of a prompt, by API.",
        labels=("api",),
    )
)
