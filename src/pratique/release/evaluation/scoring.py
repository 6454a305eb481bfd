"""Decides what answers and log-probabilities say about a model. Pure.

Answers alone do not show a build whose numbers are slightly wrong: it still talks. So the log-probabilities of given
tokens are compared with a reference. Near-ties flip between kernels and number formats, so nothing here asks for the
same words: distances are held to tolerances, and only tokens that were far ahead must be ahead again.

Never a pass, whatever the thresholds: nothing measured, a truncated answer, a log-probability that is no number.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from pratique.release.evaluation.errors import IncompleteEvaluationError, OtherModelError
from pratique.release.evaluation.golden import MIN_LOGPROB, Case, Header, Position
from pratique.release.predicates import Check

__all__ = [
    "GUARDS",
    "MEASURES",
    "Answer",
    "Comparison",
    "Limit",
    "Measure",
    "Verdict",
    "compare",
    "decide",
    "measure",
    "wilson_low",
]

MEASURES: Final[Mapping[str, Literal["least", "most"]]] = {
    "answers": "least",
    "answers-low": "least",
    "truncated": "most",
    "unusable": "most",
    "logprob-mean": "most",
    "logprob-max": "most",
    "within-tolerance": "least",
    "divergence": "most",
    "agreement": "least",
    "perplexity": "most",
}
"""What is measured, and whether a threshold is the least or the most that its value may be."""
GUARDS: Final = frozenset({"truncated", "unusable"})
"""Counts that must be 0, always."""

_Z: Final = 1.959964
"""Of the normal distribution, for 95 % between both ends."""
_FLOOR: Final = 1e-6
"""A share of probability that is smaller is rounding: servers and golden sets give a few digits."""
_WHOLE: Final = 1.01
"""What all tokens may have together; more than 1 is rounding."""
_MAX_MEAN_NATS: Final = 700.0
"""exp() of more is no number any more."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How a case was answered."""

    case: str
    is_right: bool
    is_truncated: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """One token beside its reference; all distances are in nats."""

    case: str
    token: str
    logprob: float
    """As the server says now; where it chose another token, at most so much."""
    is_usable: bool
    """Whether that is a log-probability at all; where it is none, the rest means nothing."""
    is_of_text: bool
    """Of a text that was given, not of an answer."""
    deviation: float
    is_within_tolerance: bool
    divergence: float
    agrees: bool | None
    """Whether the most probable token is the reference's. None: it was not far enough ahead there."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A value, and how many answers or tokens it was measured on."""

    value: float
    num_samples: int


@dataclass(frozen=True, slots=True)
class Limit:
    """What a measure is held to."""

    threshold: float
    min_samples: int = 1


@dataclass(frozen=True, slots=True)
class Verdict:
    """The checks as they go into the evidence, and what of them does not hold, for people."""

    checks: tuple[Check, ...]
    problems: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether everything holds."""
        return not self.problems


def compare(case: Case, observed: Sequence[Position], header: Header) -> tuple[Comparison, ...]:
    """Compare what a server says of a case's tokens with its reference.

    An answer is compared as far as it is the reference's, and the token where it parts from it: what comes after was
    said of another text.

    Raises:
        OtherModelError: a text was cut into other tokens.
    """
    reference = case.reference or ()
    if case.text is not None:
        _require_same_tokens(case, observed)
    found = []
    for expected, got in zip(reference, observed, strict=False):
        if expected.logprob is not None:
            found.append(_compare(case, expected.logprob, (expected, got), header))
        if expected.token != got.token:
            break
    return tuple(found)


def measure(answers: Sequence[Answer], comparisons: Sequence[Comparison]) -> dict[str, Measure]:
    """Put numbers to what was answered and compared; what has no sample is left out."""
    return dict([*_of_answers(answers), *_of_comparisons(comparisons)])


def decide(measures: Mapping[str, Measure], limits: Mapping[str, Limit]) -> Verdict:
    """Hold measures to their limits, and to 0 what is always held to it.

    Raises:
        IncompleteEvaluationError: something with a limit was not measured, or nothing was.
    """
    guards = {name: Limit(0.0, limits.get(name, Limit(0.0)).min_samples) for name in GUARDS & measures.keys()}
    held = {**limits, **guards}
    is_broken = measures.get("unusable", Measure(0.0, 0)).value > 0
    missing = sorted(held.keys() - measures.keys())
    if not held or (missing and not is_broken):
        raise IncompleteEvaluationError(f"nothing was measured of: {', '.join(missing) or 'anything'}")
    checks = tuple(
        _check(name, measures[name], held[name].threshold) for name in MEASURES if name in held and name in measures
    )
    return Verdict(checks, tuple(problem for one in checks for problem in _problems(one, held[one.name])))


def wilson_low(num_right: int, num_samples: int) -> float:
    """Return the lower end of the Wilson score interval of a share (95 %): what few samples do not show, is not there.

    Source: E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", 1927.
    """
    share, square = num_right / num_samples, _Z**2 / num_samples
    spread = _Z * math.sqrt(share * (1 - share) / num_samples + square / (4 * num_samples))
    return max(0.0, (share + square / 2 - spread) / (1 + square))


def _require_same_tokens(case: Case, observed: Sequence[Position]) -> None:
    expected, got = [one.token for one in case.reference or ()], [one.token for one in observed]
    if expected != got:
        pairs = enumerate(zip(expected, got, strict=False))
        place = next((number for number, (one, other) in pairs if one != other), min(len(expected), len(got)))
        raise OtherModelError(
            f"the case '{case.id}': the server cuts the text into {len(got)} tokens, the reference has {len(expected)};"
            f" they differ from token {place} on",
            hint="This is another tokenizer. For another model on purpose, record the golden set again.",
        )


def _compare(case: Case, reference: float, places: tuple[Position, Position], header: Header) -> Comparison:
    expected, got = places
    likely = _likely(got)
    # A token that is not named has at most what the least of the others has; it may be just as the reference says.
    now = likely[expected.token] if expected.token in likely else min(reference, _least(got))
    is_usable = _is_distribution(got)
    deviation = abs(now - reference)
    return Comparison(
        case=case.id,
        token=expected.token,
        logprob=now,
        is_usable=is_usable,
        is_of_text=case.text is not None,
        deviation=deviation,
        is_within_tolerance=deviation <= (case.tolerance or header.tolerance),
        divergence=_divergence(_likely(expected), likely, _least(got)) if is_usable else math.nan,
        agrees=_agrees(expected, got, header.margin),
    )


def _is_distribution(got: Position) -> bool:
    """Whether what is said of a place are log-probabilities, and together not more than certain.

    Logits, which some servers can be told to give in their place, are not.
    """
    if got.logprob is None or not got.logprob > MIN_LOGPROB:
        return False
    likely = _likely(got).values()
    # A little above 0 is rounding of a token that is certain.
    are_logprobs = all(math.isfinite(one) and one <= _FLOOR for one in likely)
    return are_logprobs and math.fsum(map(math.exp, likely)) <= _WHOLE


def _likely(place: Position) -> dict[str, float]:
    own = {} if place.logprob is None else {place.token: place.logprob}
    return {**place.top, **own}


def _least(place: Position) -> float:
    """Return what a token that is not named has at most. The chosen one is named even where it is not likely."""
    return min((one for token, one in place.top.items() if token != place.token), default=0.0)


def _divergence(expected: Mapping[str, float], got: Mapping[str, float], least: float) -> float:
    """Return how far the distribution is from the reference's (Kullback and Leibler), at least.

    Known are the most probable tokens of both. All that is known only in part is taken together: that can only make
    the divergence smaller (data processing inequality). Of the reference's tokens that are missing now, each has at
    most `least`.
    """
    shared = expected.keys() & got.keys()
    known = sum(math.exp(expected[token]) * (expected[token] - got[token]) for token in shared)
    lost = sum(math.exp(expected[token]) for token in expected.keys() - got.keys())
    rest = max(_FLOOR, 1 - lost - sum(math.exp(expected[token]) for token in shared))
    room = max(_FLOOR, 1 - sum(math.exp(got[token]) for token in shared))
    if lost:
        most = len(expected.keys() - got.keys()) * math.exp(least)
        lost_now = max(_FLOOR / 2, min(most, room * lost / (lost + rest)))
        known += lost * math.log(lost / lost_now)
        room = max(_FLOOR, room - lost_now)
    return max(0.0, known + rest * math.log(rest / room))


def _agrees(expected: Position, got: Position, margin: float) -> bool | None:
    likely = _likely(expected)
    ranked = sorted(likely, key=lambda token: likely[token], reverse=True)
    if len(ranked) == 1 or likely[ranked[0]] - likely[ranked[1]] < margin:
        return None
    now = _likely(got)
    return max(now, key=lambda token: now[token]) == ranked[0]


def _of_answers(answers: Sequence[Answer]) -> Iterator[tuple[str, Measure]]:
    if number := len(answers):
        num_right = sum(one.is_right for one in answers)
        yield "answers", Measure(num_right / number, number)
        yield "answers-low", Measure(wilson_low(num_right, number), number)
        yield "truncated", Measure(sum(one.is_truncated for one in answers), number)


def _of_comparisons(comparisons: Sequence[Comparison]) -> Iterator[tuple[str, Measure]]:
    if not comparisons:
        return
    usable = [one for one in comparisons if one.is_usable]
    yield "unusable", Measure(len(comparisons) - len(usable), len(comparisons))
    if number := len(usable):
        yield "logprob-mean", Measure(math.fsum(one.deviation for one in usable) / number, number)
        yield "logprob-max", Measure(max(one.deviation for one in usable), number)
        yield "within-tolerance", Measure(sum(one.is_within_tolerance for one in usable) / number, number)
        yield "divergence", Measure(math.fsum(one.divergence for one in usable) / number, number)
    if ahead := [one.agrees for one in usable if one.agrees is not None]:
        yield "agreement", Measure(sum(ahead) / len(ahead), len(ahead))
    if texts := [one.logprob for one in usable if one.is_of_text]:
        mean_nats = min(_MAX_MEAN_NATS, -math.fsum(texts) / len(texts))
        yield "perplexity", Measure(math.exp(mean_nats), len(texts))


def _check(name: str, measured: Measure, threshold: float) -> Check:
    at = MEASURES[name]
    reaches = measured.value >= threshold if at == "least" else measured.value <= threshold
    return Check(
        name=name,
        value=float(measured.value),
        threshold=threshold,
        at=at,
        passed=reaches,
        num_samples=measured.num_samples,
    )


def _problems(check: Check, limit: Limit) -> Iterator[str]:
    if not check.passed:
        yield f"{check.name} is {check.value:.6g}, at {check.at} {check.threshold:g} is required"
    if check.num_samples < limit.min_samples:
        yield f"{check.name} has {check.num_samples} samples, at least {limit.min_samples} are required"
