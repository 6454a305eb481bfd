"""Metrics, named once: dashboards, alarms, documentation and tests read the same definitions.

`METRICS` is the catalogue. A process builds one `Metrics` over its own registry and asks it for instruments by their
definition; asking for one that is not in the catalogue is an error at start, not a gap on a dashboard.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.registry import Collector

from pratique.core.errors import CallerError

__all__ = ["METRICS", "Kind", "MetricSpec", "Metrics", "Total", "define_metric"]


class Kind(enum.Enum):
    """What an instrument does."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, kw_only=True)
class MetricSpec:
    """One metric: its name as scraped, its help text with the unit, its labels."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


METRICS: Final[dict[str, MetricSpec]] = {}


def define_metric(spec: MetricSpec) -> MetricSpec:
    """Add a definition to the catalogue; a name can be defined once."""
    if spec.name in METRICS:
        raise CallerError(f"The metric '{spec.name}' is defined twice; each name has one definition.")
    METRICS[spec.name] = spec
    return spec


class Total:
    """A number that only grows, and how much of it its counter knows: a counter's own lock costs more than a sum."""

    __slots__ = ("_counter", "_told", "value")

    def __init__(self, counter: Counter) -> None:
        self.value = 0
        self._told = 0
        self._counter = counter

    def tell(self) -> None:
        """Bring the counter up to date."""
        value = self.value
        self._counter.inc(value - self._told)
        self._told = value


class _Before(Collector):
    """Has no figures of its own."""

    def __init__(self) -> None:
        self.tellers: list[Callable[[], None]] = []

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        for tell in self.tellers:
            tell()
        return ()


class Metrics:
    """The instruments of one process, over a registry of its own."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self._made: dict[str, Counter | Gauge | Histogram] = {}
        self._before = _Before()
        # Collectors are asked in the order of their registration: this one before every instrument.
        self.registry.register(self._before)

    def before_scrape(self, tell: Callable[[], None]) -> None:
        """Call `tell` whenever the figures are about to be read: for what is counted where an instrument is too slow.

        It must be quick, must not raise, and may be called on whichever thread reads the figures.
        """
        self._before.tellers.append(tell)

    def counter(self, spec: MetricSpec) -> Counter:
        made = self._get(spec, Kind.COUNTER)
        assert isinstance(made, Counter)  # noqa: S101 - narrows the type; _get checked the kind
        return made

    def total(self, counter: Counter) -> Total:
        """Return what counts for this counter, which is told before the figures are read."""
        total = Total(counter)
        self.before_scrape(total.tell)
        return total

    def gauge(self, spec: MetricSpec) -> Gauge:
        made = self._get(spec, Kind.GAUGE)
        assert isinstance(made, Gauge)  # noqa: S101 - narrows the type; _get checked the kind
        return made

    def histogram(self, spec: MetricSpec) -> Histogram:
        made = self._get(spec, Kind.HISTOGRAM)
        assert isinstance(made, Histogram)  # noqa: S101 - narrows the type; _get checked the kind
        return made

    def render(self) -> bytes:
        """Return the exposition text (Prometheus text format 0.0.4)."""
        return generate_latest(self.registry)

    def _get(self, spec: MetricSpec, kind: Kind) -> Counter | Gauge | Histogram:
        if METRICS.get(spec.name) is not spec or spec.kind is not kind:
            raise CallerError(f"'{spec.name}' is not defined as a {kind.value} in the catalogue.")
        if spec.name not in self._made:
            self._made[spec.name] = self._make(spec)
        return self._made[spec.name]

    def _make(self, spec: MetricSpec) -> Counter | Gauge | Histogram:
        if spec.kind is Kind.HISTOGRAM and spec.buckets:
            return Histogram(spec.name, spec.help, spec.labels, registry=self.registry, buckets=spec.buckets)
        if spec.kind is Kind.COUNTER:
            return Counter(spec.name, spec.help, spec.labels, registry=self.registry)
        if spec.kind is Kind.GAUGE:
            return Gauge(spec.name, spec.help, spec.labels, registry=self.registry)
        return Histogram(spec.name, spec.help, spec.labels, registry=self.registry)
