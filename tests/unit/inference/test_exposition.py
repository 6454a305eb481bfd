from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from pratique.inference.exposition import merge_expositions

pytestmark = pytest.mark.unit


def engine(model: str, *, requests: int) -> bytes:
    registry = CollectorRegistry()
    Gauge("vllm:running", "Running { } requests.", ["model"], registry=registry).labels(model).set(requests)
    Counter("http_requests", "Of any model.", registry=registry).inc(requests)
    Histogram("vllm:seconds", "Seconds.", ["model"], buckets=(1, 2), registry=registry).labels(model).observe(1.5)
    return generate_latest(registry)


def read(text: bytes) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            if not sample.name.endswith("_created"):
                found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def test_families_stand_once_and_unlabelled_samples_are_added_up() -> None:
    merged = merge_expositions([engine("small", requests=2), engine('la"r ge', requests=3)])
    lines = merged.decode().splitlines()
    assert sum(line.startswith("# TYPE vllm:running ") for line in lines) == 1
    found = read(merged)
    assert found["vllm:running"] == {(("model", "small"),): 2.0, (("model", 'la"r ge'),): 3.0}
    assert found["http_requests_total"] == {(): 5.0}
    assert found["vllm:seconds_count"] == {(("model", "small"),): 1.0, (("model", 'la"r ge'),): 1.0}


def test_one_alone_passes_as_it_is() -> None:
    text = engine("small", requests=1)
    assert merge_expositions([text]) == text
    assert merge_expositions([b"", text]) == text
    assert merge_expositions([]) == b""
