"""How often a canary's verdict is wrong: false alarms, and what of real harm is found. A simulation with a fixed seed.

Each canary has one or four requests each second, 5 % of the traffic; latencies are log-normal with a median of 80 ms
(sigma 0.5: the 99th percentile is 256 ms) and 0.5 % of the requests fail. It is looked at as often as in production,
every 15 seconds for 15 minutes (60 looks) or 5 minutes (20 looks), and ends at the first look that fails.

What is shown for each kind of harm: how many of the canaries failed, passed and were inconclusive, and the median
second of those that failed. Run by `make bench ARGS="canary [--canaries 100] [--json]"`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from pratique.fleet.targets.interface import Window
from pratique.release.promotion.canary import Look, assess
from pratique.release.promotion.settings import CanarySettings

__all__ = ["main"]

_SEED = 20_261_126
_SHARE = 0.05
_LOOK_SECONDS = 15.0
_LATENCY, _SIGMA = 0.08, 0.5
_ERRORS = 0.005
_MAX_FALSE_ALARMS = 0.05
"""What identical releases may show here, for a setting of 1 %: the number of canaries is small."""


@dataclass(frozen=True)
class Harm:
    """What the new release does to its requests."""

    name: str
    slower: float = 1.0
    errors: float = _ERRORS
    outliers: float = 0.0
    """The part of the requests that takes ten times as long."""


_HARMS = (
    Harm("identical"),
    Harm("5 % slower (allowed)", slower=1.05),
    Harm("10 % slower (just allowed)", slower=1.1),
    Harm("20 % slower", slower=1.2),
    Harm("30 % slower", slower=1.3),
    Harm("twice as slow", slower=2.0),
    Harm("ten times as slow", slower=10.0),
    Harm("0.75 % errors (allowed)", errors=0.0075),
    Harm("1 % errors (just allowed)", errors=0.01),
    Harm("2 % errors", errors=0.02),
    Harm("3 % errors", errors=0.03),
    Harm("10 % errors", errors=0.10),
    Harm("2 % take ten times as long", outliers=0.02),
    Harm("5 % take ten times as long", outliers=0.05),
)


def main() -> int:
    """Print the table; exit code 1 where identical releases fail too often."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--canaries", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    flags = parser.parse_args()
    rows = []
    for requests, seconds in ((1.0, 900.0), (1.0, 300.0), (4.0, 300.0)):
        for harm in _HARMS:
            row = _simulate(harm, requests, seconds, flags.canaries)
            rows.append(row)
            if not flags.json:
                print(_line(row), flush=True)
    rows.append({"harm": "one assessment, 1000 new and 19000 old samples", "milliseconds": _milliseconds()})
    print(json.dumps(rows) if flags.json else f"{rows[-1]['harm']}: {rows[-1]['milliseconds']} ms")
    return int(any(row["harm"] == "identical" and float(str(row["fail"])) > _MAX_FALSE_ALARMS for row in rows))


def _simulate(harm: Harm, requests: float, seconds: float, canaries: int) -> dict[str, object]:
    random = np.random.default_rng(_SEED)
    ends = [_one(random, harm, requests, seconds) for _ in range(canaries)]
    counts = Counter(verdict for verdict, _ in ends)
    failed_at = [second for verdict, second in ends if verdict == "fail"]
    return {
        "harm": harm.name,
        "new_requests_each_second": requests,
        "seconds": seconds,
        **{verdict: counts[verdict] / canaries for verdict in ("fail", "inconclusive", "pass")},
        "median_failed_at_second": statistics.median(failed_at) if failed_at else None,
    }


def _one(random: np.random.Generator, harm: Harm, requests: float, seconds: float) -> tuple[str, float]:
    num_new = int(requests * seconds)
    num_old = int(num_new * (1 - _SHARE) / _SHARE)
    old = _latencies(random, num_old)
    new = _latencies(random, num_new) * harm.slower * np.where(random.random(num_new) < harm.outliers, 10.0, 1.0)
    failed_old, failed_new = random.random(num_old) < _ERRORS, random.random(num_new) < harm.errors
    planned = int(seconds / _LOOK_SECONDS)
    verdict = "inconclusive"
    for number in range(1, planned + 1):
        part = number / planned
        until_old, until_new = int(num_old * part), int(num_new * part)
        window = Window(
            _measured(failed_old[:until_old], old[:until_old]), _measured(failed_new[:until_new], new[:until_new])
        )
        verdict = assess(window, CanarySettings(), Look(number, planned)).verdict
        if verdict == "fail":
            return verdict, number * _LOOK_SECONDS
    return verdict, seconds


def _measured(failed: NDArray[Any], latencies: NDArray[np.float64]) -> dict[str, Sequence[float]]:
    # Arrays are read as they are; as lists, the simulation would take ten times as long.
    both = {"error": failed.astype(float), "latency_seconds": latencies}
    return cast("dict[str, Sequence[float]]", both)


def _latencies(random: np.random.Generator, count: int) -> NDArray[np.float64]:
    return random.lognormal(np.log(_LATENCY), _SIGMA, count)


def _milliseconds() -> float:
    random = np.random.default_rng(_SEED)
    window = Window(
        _measured(np.zeros(19_000), _latencies(random, 19_000)), _measured(np.zeros(1000), _latencies(random, 1000))
    )
    times = []
    for _ in range(20):
        started = time.perf_counter()
        assess(window, CanarySettings())
        times.append(time.perf_counter() - started)
    return round(statistics.median(times) * 1000, 1)


def _line(row: dict[str, object]) -> str:
    shares = "  ".join(f"{verdict} {float(str(row[verdict])):6.1%}" for verdict in ("fail", "inconclusive", "pass"))
    where = f"{row['new_requests_each_second']}/s for {row['seconds']:.0f} s"
    return f"{where:<14} {row['harm']!s:<28} {shares}  failed at {row['median_failed_at_second']}"


if __name__ == "__main__":
    sys.exit(main())
