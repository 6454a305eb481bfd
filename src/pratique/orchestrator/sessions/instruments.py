"""The instruments of this room, made once per process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pratique.core.catalogue import orchestrator as catalogue

if TYPE_CHECKING:
    from pratique.core.metrics import Metrics

__all__ = ["Instruments"]


class Instruments:
    """What sessions count."""

    def __init__(self, metrics: Metrics) -> None:
        self.running = metrics.gauge(catalogue.GENERATIONS_RUNNING)
        self.ended = metrics.counter(catalogue.GENERATIONS_ENDED)
        self.first_token_seconds = metrics.histogram(catalogue.FIRST_TOKEN_SECONDS)
        self.losses = metrics.counter(catalogue.UPSTREAM_LOSSES)
        self.takeovers = metrics.counter(catalogue.TAKEOVERS)
        self.log_writes = metrics.total(metrics.counter(catalogue.LOG_WRITES))
        self.log_failures = metrics.counter(catalogue.LOG_FAILURES)
