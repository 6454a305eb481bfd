"""The instruments of this room, made once per process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pratique.core.catalogue import downstream as catalogue

if TYPE_CHECKING:
    from pratique.core.metrics import Metrics

__all__ = ["ModelInstruments"]


class ModelInstruments:
    """What routing counts."""

    def __init__(self, metrics: Metrics) -> None:
        self.routes = metrics.counter(catalogue.ROUTES)
        self.routing_failures = metrics.counter(catalogue.ROUTING_FAILURES)
