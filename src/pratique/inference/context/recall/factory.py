"""The recall that the settings ask for."""

from __future__ import annotations

from collections.abc import Callable

from pratique.core.clock import Clock
from pratique.core.metrics import Metrics
from pratique.inference.context.recall.relevance import RelevanceRecall
from pratique.inference.context.recall.summary import SummaryRecall
from pratique.inference.engines.interface import Engine
from pratique.inference.settings import BudgetSettings

__all__ = ["make_recall"]


def make_recall(
    policy: BudgetSettings,
    engine: Engine,
    *,
    clock: Clock,
    metrics: Metrics,
    may_run: Callable[[], bool] | None = None,
) -> RelevanceRecall | SummaryRecall | None:
    """Return the recall of these settings, None where they ask for none. Its owner starts and closes it.

    `may_run` says when a summary may be made; by default whenever the engine lives and has nothing to do.
    """
    if policy.recall == "relevance":
        return RelevanceRecall(engine.count, max_tokens=policy.recall_tokens)
    if policy.recall == "summary":
        return SummaryRecall(engine, max_tokens=policy.recall_tokens, clock=clock, metrics=metrics, may_run=may_run)
    return None
