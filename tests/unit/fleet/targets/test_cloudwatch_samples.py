"""What CloudWatch's counts and percentiles become."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from pratique.core.errors import CallerError
from pratique.fleet.targets import _cloudwatch
from pratique.fleet.targets._cloudwatch import Metrics, MetricSource, ask
from pratique.fleet.targets.interface import TargetError

pytestmark = pytest.mark.unit

MINUTE = datetime(2026, 1, 1, 12, tzinfo=UTC)
WINDOW = Metrics(MINUTE, MINUTE + timedelta(minutes=15))
RATE = MetricSource(name="error", namespace="N", dimensions={"D": "{slot}"}, total="All", bad=("Bad", "Lost"))
LEVEL = MetricSource(name="latency_seconds", namespace="N", dimensions={"D": "x-{slot}"}, level="Time", scale=0.001)


class CloudWatch:
    """Answers from scripted minutes, a page at a time."""

    def __init__(self, values: dict[str, dict[datetime, Any]], *, status: str = "Complete", pages: int = 1) -> None:
        self.values, self.status, self.pages = values, status, pages
        self.asked: list[dict[str, Any]] = []

    def get_metric_data(self, **asked: Any) -> dict[str, Any]:
        self.asked.append(asked)
        results = []
        for query in asked["MetricDataQueries"]:
            metric = query["MetricStat"]["Metric"]["MetricName"]
            found = {
                minute: statistic(query["MetricStat"]["Stat"], value)
                for minute, value in self.values.get(metric, {}).items()
            }
            found = {minute: value for minute, value in found.items() if value is not None}
            results.append(
                {
                    "Id": query["Id"],
                    "StatusCode": self.status,
                    "Timestamps": list(found),
                    "Values": list(found.values()),
                }
            )
        answer: dict[str, Any] = {"MetricDataResults": results}
        if len(self.asked) < self.pages:
            answer["NextToken"] = str(len(self.asked))
        return answer


def statistic(name: str, values: Any) -> float | None:
    if name == "Sum":
        return float(sum(values))
    if name == "SampleCount":
        return float(len(values))
    return float(np.quantile(values, float(name[1:]) / 100)) if np.isfinite(values).all() else None


def samples(values: dict[str, dict[datetime, Any]], source: MetricSource) -> list[float]:
    return ask(CloudWatch(values), WINDOW, [source], {"slot": "a"})[source.name]


def test_no_data_is_no_samples() -> None:
    assert samples({}, RATE) == []
    assert samples({}, LEVEL) == []


def test_a_rate_is_exact_over_all_minutes() -> None:
    later = MINUTE + timedelta(minutes=1)
    found = samples({"All": {MINUTE: [100], later: [50]}, "Bad": {MINUTE: [2]}, "Lost": {later: [1]}}, RATE)
    assert (len(found), sum(found)) == (150, 3)


def test_bad_ones_that_were_not_counted_are_requests_too() -> None:
    assert samples({"Lost": {MINUTE: [3]}}, RATE) == [1.0, 1.0, 1.0]


def test_few_samples_come_back_as_they_were() -> None:
    assert samples({"Time": {MINUTE: [5.0, 5.0, 5.0]}}, LEVEL) == pytest.approx([0.005] * 3)


def test_a_level_comes_back_to_within_a_step_of_its_percentiles() -> None:
    measured = np.random.default_rng(1).lognormal(size=4000)
    found = np.array(samples({"Time": {MINUTE: measured}}, LEVEL)) * 1000
    assert len(found) == len(measured)
    for part in (0.1, 0.5, 0.9, 0.94):
        low, high = np.quantile(measured, [part - 0.01, part + 0.01])
        assert low <= np.quantile(found, part) <= high
    for part in (0.96, 0.98, 0.99, 0.995):
        low, high = np.quantile(measured, [part - 0.001, part + 0.001])
        assert low <= np.quantile(found, part) <= high


def test_very_many_samples_are_thinned_and_bad_ones_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_cloudwatch, "MAX_SAMPLES", 100)
    found = samples({"All": {MINUTE: [1000]}, "Bad": {MINUTE: [1]}}, RATE)
    assert (len(found), sum(found)) == (100, 1)
    assert len(samples({"Time": {MINUTE: list(range(1000))}}, LEVEL)) == 100


def test_samples_without_their_percentiles_are_no_measurement() -> None:
    with pytest.raises(TargetError, match="3 samples of 12:00 and not all their percentiles"):
        samples({"Time": {MINUTE: [1.0, float("inf"), 2.0]}}, LEVEL)


@pytest.mark.parametrize("status", ["InternalError", "Forbidden"])
def test_an_answer_that_is_none_is_an_error(status: str) -> None:
    with pytest.raises(TargetError, match=status):
        ask(CloudWatch({}, status=status), WINDOW, [RATE], {})


def test_pages_are_followed_and_not_for_ever() -> None:
    cloudwatch = CloudWatch({"All": {MINUTE: [4]}}, status="PartialData", pages=3)
    assert len(ask(cloudwatch, WINDOW, [RATE], {})["error"]) == 4
    assert [one.get("NextToken") for one in cloudwatch.asked] == [None, "1", "2"]
    with pytest.raises(TargetError, match="more than 50 pages"):
        ask(CloudWatch({}, pages=1000), WINDOW, [RATE], {})


def test_at_most_500_queries_go_into_a_call_and_dimensions_are_filled_in() -> None:
    cloudwatch = CloudWatch({})
    sources = [LEVEL, *(MetricSource(name=f"m{n}", namespace="N", dimensions={}, level="Time") for n in range(4))]
    ask(cloudwatch, WINDOW, sources, {"slot": "b"})
    assert [len(one["MetricDataQueries"]) for one in cloudwatch.asked] == [500, 230]
    first = cloudwatch.asked[0]["MetricDataQueries"][0]
    assert first["MetricStat"]["Metric"]["Dimensions"] == [{"Name": "D", "Value": "x-b"}]
    identifiers = [query["Id"] for one in cloudwatch.asked for query in one["MetricDataQueries"]]
    assert len(set(identifiers)) == len(identifiers)


def test_only_whole_minutes_that_are_old_enough_are_asked_for() -> None:
    now = MINUTE.timestamp() + 30
    assert Metrics.during(300, now=now, lag_seconds=120) == Metrics(
        MINUTE - timedelta(minutes=4), MINUTE - timedelta(minutes=2)
    )
    assert Metrics.during(120, now=now, lag_seconds=120) is None


@pytest.mark.parametrize(
    "wrong",
    [{}, {"level": "L", "total": "T", "bad": ("B",)}, {"total": "T"}, {"bad": ("B",)}, {"level": "L", "total": "T"}],
)
def test_a_source_is_a_level_or_a_rate(wrong: dict[str, Any]) -> None:
    with pytest.raises(CallerError, match="either 'level', or 'total' and 'bad'"):
        MetricSource(name="m", namespace="N", dimensions={}, **wrong)
