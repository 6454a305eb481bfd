"""The instruments of this room, made once per process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pratique.core.catalogue import downstream as catalogue

if TYPE_CHECKING:
    from pratique.core.metrics import Metrics

__all__ = ["DownstreamInstruments"]


class DownstreamInstruments:
    """What calls to the pools count."""

    def __init__(self, metrics: Metrics) -> None:
        self.attempts = metrics.counter(catalogue.ATTEMPTS)
        self.first_text_seconds = metrics.histogram(catalogue.FIRST_TEXT_SECONDS)
        self.retries = metrics.counter(catalogue.RETRIES)
        self.retry_budget = metrics.gauge(catalogue.RETRY_BUDGET)
        self.breaker_state = metrics.gauge(catalogue.BREAKER_STATE)
        self.breaker_opened = metrics.counter(catalogue.BREAKER_OPENED)
        self.hedges = metrics.counter(catalogue.HEDGES)
