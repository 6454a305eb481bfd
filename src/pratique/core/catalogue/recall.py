"""Metrics of the summaries that a model server makes of turns it left out of prompts."""

from __future__ import annotations

from typing import Final

from pratique.core.metrics import Kind, MetricSpec, define_metric

__all__ = ["SUMMARIES", "SUMMARY_LOOKUPS"]

SUMMARIES: Final = define_metric(
    MetricSpec(
        name="pratique_inference_summaries",
        kind=Kind.COUNTER,
        help="Summaries of left-out turns that were made in the background, by outcome: made, empty, failed, timeout, "
        "superseded (a longer one was asked for) or crowded_out (the queue was full).",
        labels=("model", "outcome"),
    )
)
SUMMARY_LOOKUPS: Final = define_metric(
    MetricSpec(
        name="pratique_inference_summary_lookups",
        kind=Kind.COUNTER,
        help="Prompts that could have held a summary, by what there was: whole, part (older turns only) or none yet.",
        labels=("model", "found"),
    )
)
