"""What answers and log-probabilities say, and what is never a pass."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pratique.release.evaluation.errors import IncompleteEvaluationError, OtherModelError
from pratique.release.evaluation.golden import Case, Header, Position
from pratique.release.evaluation.scoring import (
    Answer,
    Comparison,
    Limit,
    Measure,
    compare,
    decide,
    measure,
    wilson_low,
)

pytestmark = pytest.mark.unit

HEADER = Header(golden_set=1, name="x", tolerance=0.25, margin=0.5)
SURE = Position("yes", math.log(0.8), {"yes": math.log(0.8), "no": math.log(0.1)})
RIGHT, WRONG = Answer("a", True, False), Answer("b", False, False)


def of_text(*reference: Position, **members: Any) -> Case:
    return Case(id="t", text="x", reference=(Position("<s>", None), *reference), **members)


def of_answer(*reference: Position) -> Case:
    return Case(id="a", completion="x", reference=reference)


def compared(expected: Position, got: Position, header: Header = HEADER) -> Comparison:
    [found] = compare(of_text(expected), (Position("<s>", None), got), header)
    return found


def place(token: str, shares: dict[str, float], own: float | None = None) -> Position:
    top = {name: math.log(share) for name, share in shares.items()}
    return Position(token, math.log(own) if own is not None else top[token], top)


def test_nothing_measured_is_never_a_pass() -> None:
    assert measure((), ()) == {}
    for limits in ({}, {"answers": Limit(0.0)}):
        with pytest.raises(IncompleteEvaluationError, match="nothing was measured"):
            decide({}, limits)


def test_a_measure_with_a_limit_and_no_sample_is_undecided() -> None:
    with pytest.raises(IncompleteEvaluationError, match="nothing was measured of: agreement, divergence"):
        decide(measure((RIGHT,), ()), {"answers": Limit(0.5), "agreement": Limit(0.9), "divergence": Limit(1)})


@pytest.mark.parametrize("now", [math.nan, -math.inf, math.inf, -9999.0, -12000.0, 0.5])
def test_a_log_probability_that_is_no_number_never_passes(now: float) -> None:
    found = compared(SURE, Position("yes", now, {"yes": now, "no": -1.0}))
    assert not found.is_usable
    measures = measure((), (found,))
    assert measures == {"unusable": Measure(1, 1)}
    verdict = decide(measures, {"logprob-mean": Limit(1e9), "unusable": Limit(0.0)})
    assert not verdict.passed
    assert [(one.name, one.value, one.passed) for one in verdict.checks] == [("unusable", 1.0, False)]
    assert verdict.problems == ("unusable is 1, at most 0 is required",)


@pytest.mark.parametrize(
    "top",
    [
        {"yes": -0.2, "no": math.nan},
        {"yes": -0.2, "no": 14.0},
        {"yes": -0.2, "no": -math.inf},
        {"yes": -0.2, "no": -0.5},
    ],
)
def test_alternatives_that_are_no_log_probabilities_never_pass(top: dict[str, float]) -> None:
    assert not compared(SURE, Position("yes", -0.2, top)).is_usable
    assert not compared(SURE, Position("yes", None, {"yes": -0.2, "no": -2.0})).is_usable
    [other] = compare(of_answer(SURE), (Position("what", -9999.0, {"no": -0.1}),), HEADER)
    assert not other.is_usable


def test_one_broken_number_among_good_ones_never_passes() -> None:
    good, broken = compared(SURE, SURE), compared(SURE, Position("yes", math.nan, {"no": -1.0}))
    measures = measure((), (good,) * 99 + (broken,))
    assert measures["logprob-max"] == Measure(0.0, 99)
    assert not decide(measures, {"logprob-max": Limit(1e9)}).passed


def test_a_truncated_answer_never_passes_whatever_the_threshold() -> None:
    measures = measure((RIGHT,) * 99 + (Answer("c", False, True),), ())
    verdict = decide(measures, {"answers": Limit(0.1)})
    assert not verdict.passed
    assert verdict.problems == ("truncated is 1, at most 0 is required",)
    assert decide(measure((RIGHT,), ()), {"answers": Limit(1.0)}).passed


@pytest.mark.parametrize(
    "observed",
    [
        (),
        (Position("<s>", None),),
        (Position("<s>", None), SURE, SURE),
        (Position("<s>", None), Position("no", -1.0, {"no": -1.0})),
        (Position("other", None), SURE),
    ],
)
def test_a_text_in_other_tokens_is_of_another_model(observed: tuple[Position, ...]) -> None:
    with pytest.raises(OtherModelError, match="another tokenizer") as caught:
        compare(of_text(SURE), observed, HEADER)
    assert "the reference has 2" in str(caught.value)


def test_the_same_distribution_is_no_distance_away() -> None:
    found = compared(SURE, SURE)
    assert (found.deviation, found.divergence, found.agrees, found.is_within_tolerance) == (0, 0, True, True)
    assert (found.token, found.case, found.is_of_text, found.is_usable) == ("yes", "t", True, True)


def test_a_token_may_be_certain_by_rounding() -> None:
    assert compared(SURE, Position("yes", 1e-9, {"yes": 1e-9})).is_usable


def test_the_distance_is_in_nats_and_held_to_the_cases_tolerance() -> None:
    got = place("yes", {"yes": 0.8 / math.e, "no": 0.1})
    assert compared(SURE, got).deviation == pytest.approx(1)
    assert not compared(SURE, got).is_within_tolerance
    [lenient] = compare(of_text(SURE, tolerance=1.5), (Position("<s>", None), got), HEADER)
    assert lenient.is_within_tolerance


def test_the_divergence_of_what_is_wholly_known_is_kullbacks_and_leiblers() -> None:
    expected, got = {"a": 0.5, "b": 0.3, "c": 0.2}, {"a": 0.2, "b": 0.3, "c": 0.5}
    exact = sum(share * math.log(share / got[name]) for name, share in expected.items())
    assert compared(place("a", expected), place("a", got)).divergence == pytest.approx(exact, abs=1e-4)


def test_a_token_that_was_likely_and_is_gone_counts_as_far_away() -> None:
    expected, got = place("b", {"a": 0.9, "b": 0.1}), place("b", {"b": 0.9, "c": 0.001})
    assert compared(expected, got).divergence > 0.9 * math.log(0.9 / 0.001) - 0.5


def test_distributions_without_a_common_token_are_apart() -> None:
    case = of_answer(place("a", {"a": 0.9, "b": 0.05}))
    [found] = compare(case, (place("x", {"x": 0.9, "y": 0.001}),), HEADER)
    assert found.divergence > 1
    assert (found.agrees, found.is_of_text) == (False, False)
    assert found.logprob == pytest.approx(math.log(0.001))
    assert compare(case, (place("x", {"x": 0.04, "y": 0.95}),), HEADER)[0].deviation == 0  # it may be so


_SHARES = st.lists(st.floats(0.001, 1), min_size=8, max_size=8).map(lambda some: [one / sum(some) for one in some])


@settings(max_examples=20)
@given(_SHARES, _SHARES, st.integers(0, 7))
def test_the_divergence_is_never_more_than_the_true_one(expected: list[float], got: list[float], token: int) -> None:
    def cut(shares: list[float]) -> Position:
        named = {str(number): share for number, share in enumerate(shares)}
        most = sorted(named, key=lambda name: named[name], reverse=True)[:4]
        return place(str(token), {name: named[name] for name in most}, named[str(token)])

    exact = sum(one * math.log(one / other) for one, other in zip(expected, got, strict=True))
    found = compared(cut(expected), cut(got)).divergence
    assert 0 <= found <= exact + 1e-3


def test_only_tokens_that_were_far_ahead_must_be_ahead_again() -> None:
    near, flipped = place("a", {"a": 0.45, "b": 0.44}), place("a", {"a": 0.44, "b": 0.45})
    assert compared(near, flipped).agrees is None
    assert compared(place("a", {"a": 0.8, "b": 0.1}), flipped).agrees is False
    assert compared(place("a", {"b": 0.8, "a": 0.1}), flipped).agrees is True
    assert compared(Position("a", -1.0, {"a": -1.0}), flipped).agrees is None


def test_an_answer_is_compared_until_it_parts_from_the_reference() -> None:
    reference = (SURE, place("b", {"b": 0.6, "c": 0.4}), SURE)
    observed = (SURE, place("c", {"c": 0.5, "b": 0.45}), SURE)
    found = compare(of_answer(*reference), observed, HEADER)
    assert [one.token for one in found] == ["yes", "b"]
    assert found[1].logprob == pytest.approx(math.log(0.45))
    assert found[1].agrees is None
    assert len(compare(of_answer(*reference), reference, HEADER)) == 3
    assert len(compare(of_answer(*reference), reference[:1], HEADER)) == 1
    assert compare(Case(id="a", completion="x"), observed, HEADER) == ()


def test_every_measure_has_its_samples() -> None:
    text = compared(SURE, place("yes", {"yes": 0.4, "no": 0.5}))
    [answer] = compare(of_answer(place("a", {"a": 0.5, "b": 0.49})), (place("a", {"a": 0.5, "b": 0.49}),), HEADER)
    found = measure((RIGHT, RIGHT, RIGHT, WRONG), (text, answer))
    assert found["answers"] == Measure(0.75, 4)
    assert found["answers-low"] == Measure(wilson_low(3, 4), 4)
    assert found["truncated"] == Measure(0, 4)
    assert found["unusable"] == Measure(0, 2)
    assert found["logprob-mean"].value == pytest.approx(math.log(2) / 2)
    assert found["logprob-max"].value == pytest.approx(math.log(2))
    assert found["perplexity"].value == pytest.approx(2.5)
    assert [found[name].num_samples for name in ("logprob-mean", "logprob-max", "perplexity")] == [2, 2, 1]
    assert found["within-tolerance"] == Measure(0.5, 2)
    assert found["divergence"].num_samples == 2
    assert found["agreement"] == Measure(0.0, 1)


def test_a_perplexity_beyond_numbers_stays_one() -> None:
    found = compared(SURE, Position("yes", -9000.0, {"yes": -9000.0, "no": -0.1}))
    assert math.isfinite(measure((), (found,))["perplexity"].value)


@pytest.mark.parametrize(
    ("num_right", "num_samples", "low"), [(0, 10, 0.0), (10, 10, 0.7225), (8, 10, 0.4902), (1, 1, 0.2065)]
)
def test_few_samples_show_little(num_right: int, num_samples: int, low: float) -> None:
    assert wilson_low(num_right, num_samples) == pytest.approx(low, abs=1e-4)


def test_a_verdict_names_each_check_and_what_does_not_hold() -> None:
    measures = measure((RIGHT, RIGHT, WRONG), (compared(SURE, SURE),))
    held = decide(measures, {"logprob-max": Limit(0.0), "answers": Limit(0.6, 3)})
    assert held.passed
    assert [(one.name, one.at, one.passed, one.num_samples) for one in held.checks] == [
        ("answers", "least", True, 3),
        ("truncated", "most", True, 3),
        ("unusable", "most", True, 1),
        ("logprob-max", "most", True, 1),
    ]
    short = decide(measures, {"answers": Limit(0.9, 50), "truncated": Limit(0.0, 4)})
    assert short.problems == (
        "answers is 0.666667, at least 0.9 is required",
        "answers has 3 samples, at least 50 are required",
        "truncated has 3 samples, at least 4 are required",
    )
