"""The verdict on a canary: measurements of old and new under the same load, in; pass, fail or inconclusive, out. Pure.

Three questions for each metric, each a one-sided test that supposes no distribution:

- is the new one worse than allowed in general? Of levels: Mann and Whitney's U; of rates: Fisher's exact test;
- is it worse at the tail? The quantile test: how many of the largest 2 % of all samples are the new one's;
- does it keep its limit? How many of its samples are above the limit, against the binomial distribution.

The first two compare with the old one's samples raised to what is allowed, so a difference that is significant and
irrelevant does not fail.

Invariants: a canary passes only at the last look, with enough samples of every required metric on both sides; what is
not measured, or too seldom, is inconclusive. Looks before the last can only fail or go on. The probability of a false
alarm over all looks and questions is at most `false_alarms`: half of it is for the last look, half is shared among the
looks before (union bound), and Holm's procedure shares a look's part among its questions.

Source: docs/adr/0046; Holm (1979); Mann and Whitney (1947); Johnson, Verrill and Moore (1987), quantile test.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal

from pratique.core.errors import CallerError
from pratique.fleet.targets.interface import Window
from pratique.release.errors import EvidenceError
from pratique.release.predicates import Canary, MetricVerdict
from pratique.release.promotion.settings import CanarySettings, MetricRule
from pratique.release.values import Digest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    _Samples = NDArray[np.float64]

__all__ = ["Assessment", "Look", "MeasurementError", "Span", "assess"]

MAX_SAMPLES: Final = 5_000_000
"""Of one metric on one side; more is no measurement of one canary."""
_TAIL: Final = 0.02
_MIN_FOR_RANKS: Final = 20
"""On each side: below, the normal approximation of U says little."""

_Verdict = Literal["pass", "fail", "inconclusive"]


class MeasurementError(EvidenceError):
    """What was measured cannot have been: not a number, infinite, negative, or a rate that is neither 0 nor 1."""

    code = "impossible_measurement"


@dataclass(frozen=True, slots=True)
class Look:
    """Which look at a canary this is, of how many that were planned before it began."""

    number: int = 1
    planned: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.planned:
            raise CallerError(f"a canary's look is from 1 to the planned {self.planned}, got {self.number}")

    @property
    def is_last(self) -> bool:
        return self.number == self.planned

    def part_of(self, probability: float) -> float:
        """Return this look's part of a probability of false alarms; the parts of all looks add up to the whole."""
        if self.planned == 1:
            return probability
        return probability / 2 if self.is_last else probability / 2 / (self.planned - 1)


@dataclass(frozen=True, slots=True)
class Span:
    """What a canary was held against, how, and when."""

    baseline: Digest
    share: float
    started_at: datetime
    ended_at: datetime


@dataclass(frozen=True, slots=True)
class Assessment:
    """What the measurements say."""

    verdict: _Verdict
    metrics: tuple[MetricVerdict, ...]

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is not a pass; empty where it is one."""
        return tuple(f"{one.metric}: {one.reason}" for one in self.metrics if one.verdict != "pass")

    def over(self, span: Span) -> Canary:
        """Return the predicate that says so of a canary."""
        return Canary(
            baseline=span.baseline,
            verdict=self.verdict,
            metrics=self.metrics,
            share=span.share,
            started_at=span.started_at,
            ended_at=span.ended_at,
        )


def assess(window: Window, settings: CanarySettings, look: Look | None = None) -> Assessment:
    """Judge a canary by what was measured since its beginning.

    Args:
        window: the measurements, of old and new over the same time.
        settings: what is judged, and how strictly.
        look: which look this is; left out, the only one.

    Raises:
        MeasurementError: a measurement is impossible.
    """
    look = look or Look()
    examined = [_examine(rule, window) for rule in settings.metrics]
    adjusted = iter(_holm([test.p_value for one in examined for test in one.tests]))
    level = _Level(fails=look.part_of(settings.false_alarms), doubts=settings.doubt, is_last=look.is_last)
    verdicts = [_judge(one, level, adjusted) for one in examined if one.counts]
    if not verdicts:
        return Assessment("inconclusive", ())
    return Assessment(_worst(one.verdict for one in verdicts), tuple(verdicts))


@dataclass(frozen=True, slots=True)
class _Test:
    """One question's answer."""

    question: str
    p_value: float


@dataclass(frozen=True, slots=True)
class _Examined:
    rule: MetricRule
    num_old: int
    num_new: int
    tests: tuple[_Test, ...]

    @property
    def counts(self) -> bool:
        return self.rule.is_required or self.num_old + self.num_new > 0


@dataclass(frozen=True, slots=True)
class _Level:
    fails: float
    doubts: float
    is_last: bool


def _examine(rule: MetricRule, window: Window) -> _Examined:
    old = _samples(rule, window.stable, "stable")
    new = _samples(rule, window.candidate, "candidate")
    tests = _rate_tests(rule, old, new) if rule.kind == "rate" else _level_tests(rule, old, new)
    return _Examined(rule, len(old), len(new), tuple(tests))


def _samples(rule: MetricRule, measured: Mapping[str, Sequence[float]], side: str) -> _Samples:
    import numpy as np

    found = measured.get(rule.name, ())
    where = f"'{rule.name}' of the {side} side"
    if len(found) > MAX_SAMPLES:
        raise MeasurementError(f"{where} has {len(found)} samples, at most {MAX_SAMPLES} are read")
    samples: _Samples = np.asarray(found, dtype=np.float64)
    if bad := list(samples[~(np.isfinite(samples) & (samples >= 0))][:1]):
        raise MeasurementError(f"{where} must be finite and at least 0, got {bad[0]:g}")
    if rule.kind == "rate" and (bad := list(samples[(samples != 0) & (samples != 1)][:1])):
        raise MeasurementError(f"{where} is a rate: 0 or 1 for each sample, got {bad[0]:g}")
    return samples


def _rate_tests(rule: MetricRule, old: _Samples, new: _Samples) -> Iterator[_Test]:
    if not (len(old) and len(new)):
        return
    seen_old, seen_new = int(old.sum()), int(new.sum())
    allowed = min(len(old), seen_old + math.ceil(rule.max_increase * len(old)))
    yield _Test(
        question=f"{seen_new / len(new):.2%} of the new ones against {seen_old / len(old):.2%} of the old ones",
        p_value=_share_of_new(seen_new, of=allowed + seen_new, num_new=len(new), num_all=len(old) + len(new)),
    )


def _level_tests(rule: MetricRule, old: _Samples, new: _Samples) -> Iterator[_Test]:
    import numpy as np

    if rule.limit is not None and len(new):
        yield _limit_test(rule, rule.limit, new)
    if min(len(old), len(new)) < _MIN_FOR_RANKS:
        return
    allowed: _Samples = np.maximum(old * rule.max_ratio, old + rule.max_increase)
    from scipy.stats import mannwhitneyu

    ranks = mannwhitneyu(new, allowed, alternative="greater", method="asymptotic")
    medians = f"median {np.median(new):.4g} against {np.median(old):.4g}"
    p_value = float(ranks.pvalue)
    # All values the same: nothing is larger than anything.
    yield _Test(medians, 1.0 if math.isnan(p_value) else p_value)
    yield _tail_test(old, new, allowed)


def _limit_test(rule: MetricRule, limit: float, new: _Samples) -> _Test:
    from scipy.stats import binom

    above = int((new > limit).sum())
    return _Test(
        question=f"{above} of {len(new)} samples of the new one above the limit {limit:g}"
        f" that {rule.limit_quantile:.4g} of all must keep",
        p_value=float(binom.sf(above - 1, len(new), 1 - rule.limit_quantile)),
    )


def _tail_test(old: _Samples, new: _Samples, allowed: _Samples) -> _Test:
    import numpy as np

    together = np.concatenate([new, allowed])
    largest = math.ceil(len(together) * _TAIL)
    bound = np.partition(together, -largest)[-largest]
    top = [np.quantile(side, 1 - _TAIL) for side in (new, old)]
    return _Test(
        question=f"{1 - _TAIL:.0%} quantile {top[0]:.4g} against {top[1]:.4g}",
        p_value=_share_of_new(
            int((new >= bound).sum()),
            of=int((together >= bound).sum()),
            num_new=len(new),
            num_all=len(together),
        ),
    )


def _share_of_new(seen_new: int, *, of: int, num_new: int, num_all: int) -> float:
    """Return how likely at least so many of some samples are new ones, were old and new the same."""
    from scipy.stats import hypergeom

    return float(hypergeom.sf(seen_new - 1, num_all, of, num_new))


def _holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for their number: Holm's step-down procedure."""
    adjusted = [1.0] * len(p_values)
    largest = 0.0
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, p_values[index] * (len(p_values) - rank)))
        adjusted[index] = largest
    return adjusted


def _judge(examined: _Examined, level: _Level, adjusted: Iterator[float]) -> MetricVerdict:
    found = [(next(adjusted), test.question) for test in examined.tests]
    verdict, reason = _verdict(examined, level, found)
    return MetricVerdict(
        metric=examined.rule.name,
        verdict=verdict,
        num_old=examined.num_old,
        num_new=examined.num_new,
        p_value=min((p_value for p_value, _ in found), default=None),
        reason=reason,
    )


def _verdict(examined: _Examined, level: _Level, found: Sequence[tuple[float, str]]) -> tuple[_Verdict, str]:
    p_value, worst = min(found, key=lambda one: one[0], default=(1.0, ""))
    if p_value <= level.fails:
        return "fail", f"worse than allowed: {worst} (p {p_value:.2g}, a failure from {level.fails:.2g} down)"
    fewest = min(examined.num_old, examined.num_new)
    if fewest < examined.rule.min_samples:
        return "inconclusive", (
            f"{examined.num_old} old and {examined.num_new} new samples, {examined.rule.min_samples} of each are needed"
        )
    if not level.is_last:
        return "inconclusive", "not worse so far"
    if p_value <= level.doubts:
        return "inconclusive", f"perhaps worse than allowed: {worst} (p {p_value:.2g}); measure longer"
    return "pass", "; ".join(question for _, question in found)


def _worst(verdicts: Iterable[_Verdict]) -> _Verdict:
    found = set(verdicts)
    return "fail" if "fail" in found else "inconclusive" if "inconclusive" in found else "pass"
