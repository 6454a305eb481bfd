"""What CloudWatch has of a slot, as samples for the canary's tests. Pure, but for `ask`.

CloudWatch keeps no single requests. A rate is exact all the same: so many bad ones of so many. Of a level it keeps how
many samples a minute had, and their percentiles: 145 of them, finer towards the slow end, so that the sample with the
rank k of n is taken for the percentile nearest to (k - 1/2) / n. What a test sees differs from what was measured by at
most one of those steps: 1 % of the requests below the 95th percentile, 0.1 % above.

Only minutes that lie whole in the window and are old enough to be complete count. Where a metric has no data there are
no samples, and the canary is inconclusive where it is required.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from pratique.core.errors import CallerError
from pratique.core.settings import Settings
from pratique.fleet.targets._aws import asking
from pratique.fleet.targets.interface import TargetError

__all__ = ["MAX_SAMPLES", "MetricSource", "Metrics", "ask"]

_MINUTE: Final = 60
_BATCH: Final = 500
"""Queries in one call: CloudWatch's own limit."""
_MAX_PAGES: Final = 50
MAX_SAMPLES: Final = 500_000
"""Of one metric on one side; of more, only each second, third, … is taken."""
_PERCENTILES: Final = tuple(round(0.5 + n, 2) for n in range(95)) + tuple(round(95.05 + n / 10, 2) for n in range(50))
_BREAK: Final = 0.95

_Minutes = dict[datetime, float]


class MetricSource(Settings, frozen=True, kw_only=True):
    """Where CloudWatch has one of the canary's metrics: a level, or the bad ones of a total."""

    name: str
    """As the canary's rules call it."""
    namespace: str
    dimensions: dict[str, str]
    """By name. What the target knows of a slot is put in: docs/release/targets.md says what."""
    level: str | None = None
    """A metric whose values are the samples."""
    scale: float = 1.0
    """What a level's values are multiplied by, for example 0.000001 where they are microseconds."""
    total: str | None = None
    """A metric that counts requests."""
    bad: tuple[str, ...] = ()
    """Metrics that count the bad ones among them."""

    def __post_init__(self) -> None:
        """Refuse what is neither a level nor a rate."""
        is_rate = self.total is not None and bool(self.bad)
        if (self.level is not None) == is_rate or (self.level is not None and bool(self.total or self.bad)):
            raise CallerError(f"the metric '{self.name}' has either 'level', or 'total' and 'bad'")


@dataclass(frozen=True, slots=True)
class Metrics:
    """The whole minutes that are asked for."""

    start: datetime
    end: datetime

    @classmethod
    def during(cls, seconds: float, *, now: float, lag_seconds: float) -> Metrics | None:
        """Return the whole minutes in the last seconds that are older than the lag; None where there is none."""
        start = math.ceil((now - seconds) / _MINUTE) * _MINUTE
        end = math.floor((now - lag_seconds) / _MINUTE) * _MINUTE
        if end <= start:
            return None
        return cls(datetime.fromtimestamp(start, UTC), datetime.fromtimestamp(end, UTC))


def ask(
    client: Any,  # noqa: ANN401 - boto3 makes its clients at run time
    metrics: Metrics,
    sources: Iterable[MetricSource],
    known: Mapping[str, str],
) -> dict[str, list[float]]:
    """Return the samples of each source.

    Raises:
        TargetError: CloudWatch does not answer, or not with all that it has.
    """
    chosen = tuple(sources)
    queries = [query for number, source in enumerate(chosen) for query in _queries(source, number, known)]
    found: dict[str, _Minutes] = {}
    for first in range(0, len(queries), _BATCH):
        for identifier, minutes in _batch(client, metrics, queries[first : first + _BATCH]):
            found.setdefault(identifier, {}).update(minutes)
    return {source.name: _samples(source, number, found) for number, source in enumerate(chosen)}


def _batch(client: Any, metrics: Metrics, queries: list[dict[str, Any]]) -> Iterator[tuple[str, _Minutes]]:  # noqa: ANN401 - boto3's client
    token: dict[str, str] = {}
    for _ in range(_MAX_PAGES):
        with asking("GetMetricData"):
            answer = client.get_metric_data(
                MetricDataQueries=queries, StartTime=metrics.start, EndTime=metrics.end, **token
            )
        for result in answer["MetricDataResults"]:
            if result["StatusCode"] not in {"Complete", "PartialData"}:
                raise TargetError(f"CloudWatch answers with {result['StatusCode']} for {result.get('Label')}")
            yield result["Id"], dict(zip(result["Timestamps"], result["Values"], strict=True))
        if not answer.get("NextToken"):
            return
        token = {"NextToken": answer["NextToken"]}
    raise TargetError(f"CloudWatch has more than {_MAX_PAGES} pages of a canary's metrics")


def _queries(source: MetricSource, number: int, known: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    dimensions = [{"Name": name, "Value": _filled(value, known)} for name, value in source.dimensions.items()]

    def query(identifier: str, metric: str, statistic: str) -> dict[str, Any]:
        return {
            "Id": f"m{number}_{identifier}",
            "MetricStat": {
                "Metric": {"Namespace": source.namespace, "MetricName": metric, "Dimensions": dimensions},
                "Period": _MINUTE,
                "Stat": statistic,
            },
        }

    if source.level is None:
        yield query("total", str(source.total), "Sum")
        yield from (query(f"bad{index}", metric, "Sum") for index, metric in enumerate(source.bad))
        return
    yield query("count", source.level, "SampleCount")
    for index, percentile in enumerate(_PERCENTILES):
        yield query(f"p{index}", source.level, f"p{percentile:g}")


def _filled(value: str, known: Mapping[str, str]) -> str:
    for name, text in known.items():
        value = value.replace(f"{{{name}}}", text)
    return value


def _samples(source: MetricSource, number: int, found: Mapping[str, _Minutes]) -> list[float]:
    def minutes(identifier: str) -> _Minutes:
        return found.get(f"m{number}_{identifier}", {})

    if source.level is None:
        return _rate(minutes("total"), [minutes(f"bad{index}") for index in range(len(source.bad))])
    values = [minutes(f"p{index}") for index in range(len(_PERCENTILES))]
    return [sample * source.scale for sample in _level(minutes("count"), values)]


def _rate(total: _Minutes, bad: list[_Minutes]) -> list[float]:
    num_bad = round(sum(sum(one.values()) for one in bad))
    num_all = max(round(sum(total.values())), num_bad)
    each = max(1, math.ceil(num_all / MAX_SAMPLES))
    num_bad, num_all = math.ceil(num_bad / each), num_all // each
    return [1.0] * num_bad + [0.0] * max(0, num_all - num_bad)


def _level(count: _Minutes, values: list[_Minutes]) -> Iterator[float]:
    each = max(1, math.ceil(sum(count.values()) / MAX_SAMPLES))
    for minute, number in sorted(count.items()):
        steps = [one.get(minute) for one in values]
        taken = round(number) // each
        for rank in range(taken):
            value = steps[_step((rank + 0.5) / taken)]
            if value is None:
                raise TargetError(f"CloudWatch has {number:g} samples of {minute:%H:%M} and not all their percentiles")
            yield value


def _step(part: float) -> int:
    """Return which percentile stands for this part of the samples."""
    if part < _BREAK:
        return int(part * 100)
    return min(95 + int((part - _BREAK) * 1000), len(_PERCENTILES) - 1)
