from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pratique.core import metrics as module
from pratique.core.errors import CallerError
from pratique.core.metrics import Kind, Metrics, MetricSpec, define_metric

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def _own_catalogue() -> Iterator[None]:
    known = dict(module.METRICS)
    yield
    module.METRICS.clear()
    module.METRICS.update(known)


def define(name: str, kind: Kind, **fields: tuple[str, ...] | tuple[float, ...]) -> MetricSpec:
    return define_metric(MetricSpec(name=name, kind=kind, help="For this test.", **fields))  # type: ignore[arg-type]  # as the fields say


def test_instruments_are_made_once_from_their_definition_and_scraped() -> None:
    counter = define("test_things_total", Kind.COUNTER, labels=("kind",))
    gauge = define("test_level", Kind.GAUGE)
    timed = define("test_seconds", Kind.HISTOGRAM, buckets=(0.1, 1.0))
    plain = define("test_sizes", Kind.HISTOGRAM)
    metrics = Metrics()
    metrics.counter(counter).labels(kind="a").inc()
    metrics.counter(counter).labels(kind="a").inc()
    metrics.gauge(gauge).set(3)
    metrics.histogram(timed).observe(0.5)
    metrics.histogram(plain).observe(0.5)
    text = metrics.render().decode()
    assert 'test_things_total{kind="a"} 2.0' in text
    assert "test_level 3.0" in text
    assert 'test_seconds_bucket{le="0.1"} 0.0' in text
    assert "test_sizes_count 1.0" in text


def test_two_processes_count_for_themselves() -> None:
    gauge = define("test_level", Kind.GAUGE)
    one, other = Metrics(), Metrics()
    one.gauge(gauge).set(1)
    assert "test_level 0.0" in other.render().decode() or "test_level" not in other.render().decode()


def test_a_name_is_defined_once() -> None:
    define("test_level", Kind.GAUGE)
    with pytest.raises(CallerError, match="test_level"):
        define("test_level", Kind.COUNTER)


def test_what_is_not_in_the_catalogue_is_refused_at_start() -> None:
    unknown = MetricSpec(name="test_unknown", kind=Kind.GAUGE, help="Never defined.")
    with pytest.raises(CallerError, match="not defined as a gauge"):
        Metrics().gauge(unknown)
    known = define("test_level", Kind.GAUGE)
    with pytest.raises(CallerError, match="not defined as a counter"):
        Metrics().counter(known)


def test_what_is_counted_elsewhere_is_told_before_the_figures_are_read() -> None:
    level = define("test_level", Kind.GAUGE)
    metrics = Metrics()
    numbers = iter((3, 5))
    metrics.gauge(level).set(1)
    metrics.before_scrape(lambda: metrics.gauge(level).set(next(numbers)))
    assert "test_level 3.0" in metrics.render().decode()
    assert metrics.registry.get_sample_value("test_level") == 5


def test_total_is_told_to_its_counter_before_the_figures_are_read() -> None:
    metrics = Metrics()
    total = metrics.total(metrics.counter(define("test_summed_total", Kind.COUNTER)))
    for _ in range(3):
        total.value += 2
        assert metrics.registry.get_sample_value("test_summed_total") == total.value
