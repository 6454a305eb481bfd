"""The verdict on a canary: what fails, what passes, and what says nothing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from pratique.core.errors import CallerError
from pratique.fleet.targets.interface import Window
from pratique.release.predicates import MetricVerdict
from pratique.release.promotion import canary
from pratique.release.promotion.canary import Assessment, Look, MeasurementError, Span, assess
from pratique.release.promotion.settings import CanarySettings, MetricRule
from pratique.release.values import digest_of

pytestmark = pytest.mark.unit

ERROR = MetricRule(name="error", kind="rate", max_increase=0.01)
LATENCY = MetricRule(name="latency_seconds", kind="level", max_ratio=1.1, max_increase=0.005, limit=0.5)
GPU = MetricRule(name="gpu_busy", kind="level", max_ratio=1.1, min_samples=20, is_required=False)
RULES = CanarySettings(metrics=(ERROR, LATENCY, GPU))
NUM_OLD, NUM_NEW = 3800, 200


def latencies(count: int, *, slower: float = 1.0, seed: int = 1) -> list[float]:
    random = np.random.default_rng(seed)
    return [float(one) for one in random.lognormal(np.log(0.08), 0.5, count) * slower]


def outcomes(count: int, failed: int) -> list[float]:
    return [1.0] * failed + [0.0] * (count - failed)


def window(
    *,
    new_latency: Sequence[float] | None = None,
    new_failed: int = 1,
    num_new: int = NUM_NEW,
    **more: tuple[Sequence[float], Sequence[float]],
) -> Window:
    new = latencies(num_new, seed=2) if new_latency is None else new_latency
    return Window(
        {
            "error": outcomes(NUM_OLD, 19),
            "latency_seconds": latencies(NUM_OLD),
            **{name: old for name, (old, _) in more.items()},
        },
        {
            "error": outcomes(num_new, new_failed),
            "latency_seconds": new,
            **{name: new for name, (_, new) in more.items()},
        },
    )


def of(assessment: Assessment, metric: str) -> MetricVerdict:
    return next(one for one in assessment.metrics if one.metric == metric)


# What cannot have been measured


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), -0.001])
@pytest.mark.parametrize("side", ["stable", "candidate"])
def test_an_impossible_measurement_is_refused_with_its_place(value: float, side: str) -> None:
    measured = window()
    sides = {"stable": dict(measured.stable), "candidate": dict(measured.candidate)}
    sides[side]["latency_seconds"] = [*sides[side]["latency_seconds"], value]
    with pytest.raises(MeasurementError, match=rf"'latency_seconds' of the {side} side must be finite and at least 0"):
        assess(Window(**sides), RULES)


def test_a_rate_that_is_neither_0_nor_1_is_refused() -> None:
    with pytest.raises(MeasurementError, match=r"0 or 1 for each sample, got 0\.5"):
        assess(Window({"error": [0.5]}, {}), RULES)


def test_more_samples_than_one_canary_can_have_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canary, "MAX_SAMPLES", 10)
    with pytest.raises(MeasurementError, match="has 3800 samples, at most 10"):
        assess(window(), RULES)


# What is missing is never good


def test_nothing_measured_is_inconclusive() -> None:
    found = assess(Window({}, {}), RULES)
    assert found.verdict == "inconclusive"
    assert [one.metric for one in found.metrics] == ["error", "latency_seconds"]
    assert of(found, "error").p_value is None


def test_rules_of_which_none_could_be_judged_are_inconclusive() -> None:
    assert assess(window(), CanarySettings(metrics=(GPU,))) == Assessment("inconclusive", ())


@pytest.mark.parametrize("missing", ["error", "latency_seconds"])
@pytest.mark.parametrize("side", ["stable", "candidate", "both"])
def test_a_required_metric_that_is_missing_on_a_side_is_inconclusive(missing: str, side: str) -> None:
    measured = window()
    stable, candidate = dict(measured.stable), dict(measured.candidate)
    for name, values in (("stable", stable), ("candidate", candidate)):
        if side in {name, "both"}:
            del values[missing]
    found = assess(Window(stable, candidate), RULES)
    assert (found.verdict, of(found, missing).verdict) == ("inconclusive", "inconclusive")


def test_an_optional_metric_counts_where_one_side_has_it() -> None:
    found = assess(window(gpu_busy=([0.5] * 900, [])), RULES)
    assert (found.verdict, of(found, "gpu_busy").verdict) == ("inconclusive", "inconclusive")
    assert "900 old and 0 new samples, 20 of each are needed" in of(found, "gpu_busy").reason


def test_an_optional_metric_that_nobody_measured_is_left_out() -> None:
    assert [one.metric for one in assess(window(), RULES).metrics] == ["error", "latency_seconds"]


@pytest.mark.parametrize("num_new", [0, 1, 19, 20, 199])
def test_one_sample_too_few_cannot_pass(num_new: int) -> None:
    found = assess(window(num_new=num_new, new_failed=0), RULES)
    assert found.verdict == "inconclusive"
    assert "samples, 200 of each are needed" in of(found, "error").reason


# Verdicts


def test_a_release_like_the_old_one_passes() -> None:
    found = assess(window(), RULES)
    assert found.verdict == "pass"
    assert found.reasons == ()
    assert (of(found, "error").num_old, of(found, "error").num_new) == (NUM_OLD, NUM_NEW)


def test_a_slower_release_fails_and_says_how() -> None:
    found = assess(window(new_latency=latencies(NUM_NEW, slower=1.5, seed=2)), RULES)
    assert (found.verdict, of(found, "error").verdict) == ("fail", "pass")
    assert "worse than allowed: median 0.1" in of(found, "latency_seconds").reason
    assert len(found.reasons) == 1
    assert found.reasons[0].startswith("latency_seconds: worse than allowed")


def test_what_is_significant_but_allowed_does_not_fail() -> None:
    old = [float(one) for one in np.linspace(0.08, 0.0801, 4000)]
    new = [float(one) for one in np.linspace(0.0802, 0.0803, 4000)]  # every one slower, and nobody would notice
    assert (
        of(assess(Window({"latency_seconds": old}, {"latency_seconds": new}), RULES), "latency_seconds").verdict
        == "pass"
    )


def test_a_significant_difference_of_rates_that_is_allowed_does_not_fail() -> None:
    measured = Window({"error": outcomes(1_000_000, 1000)}, {"error": outcomes(50_000, 200)})  # 0.1 % against 0.4 %
    assert of(assess(measured, RULES), "error").verdict == "pass"


def test_more_errors_fail() -> None:
    found = assess(window(new_failed=12), RULES)
    assert (found.verdict, of(found, "error").verdict) == ("fail", "fail")
    assert "6.00% of the new ones against 0.50% of the old ones" in of(found, "error").reason


def test_perhaps_worse_is_inconclusive() -> None:
    found = assess(window(new_failed=9), RULES)
    assert of(found, "error").verdict == "inconclusive"
    assert "perhaps worse than allowed" in of(found, "error").reason
    assert "measure longer" in of(found, "error").reason


def test_a_slow_tail_with_the_same_median_fails() -> None:
    new = latencies(1000, seed=2)
    new = [one * 5 if index % 20 == 0 else one for index, one in enumerate(new)]  # every 20th, most within the limit
    lenient = CanarySettings(metrics=(MetricRule(name="latency_seconds", kind="level", max_ratio=1.1),))
    found = assess(window(new_latency=new, num_new=1000), lenient)
    assert found.verdict == "fail"
    assert "98% quantile" in of(found, "latency_seconds").reason


def test_a_limit_holds_even_where_the_old_one_breaks_it_too() -> None:
    slow = [0.6] * 1000
    found = assess(Window({"latency_seconds": slow}, {"latency_seconds": slow}), CanarySettings(metrics=(LATENCY,)))
    assert found.verdict == "fail"
    assert "1000 of 1000 samples of the new one above the limit 0.5 that 0.99 of all must keep" in found.reasons[0]


def test_a_few_samples_far_above_the_limit_alarm_at_an_early_look() -> None:
    measured = Window({"latency_seconds": latencies(300)}, {"latency_seconds": [0.9] * 8})
    assert assess(measured, RULES, Look(3, 60)).verdict == "fail"


def test_the_limit_is_held_against_the_binomial_distribution() -> None:
    measured = Window({}, {"latency_seconds": [0.6] * 4 + [0.1] * 6})
    p_value = of(assess(measured, CanarySettings(metrics=(LATENCY,))), "latency_seconds").p_value
    assert p_value == pytest.approx(1 - binom.cdf(3, 10, 0.01))


def test_one_slow_request_is_no_alarm() -> None:
    new = [*latencies(NUM_NEW - 1, seed=2), 30.0]
    assert assess(window(new_latency=new), RULES).verdict == "pass"


def test_values_that_are_all_the_same_pass() -> None:
    same = Window({"gpu_busy": [0.0] * 500}, {"gpu_busy": [0.0] * 500})
    assert assess(same, CanarySettings(metrics=(GPU,))).verdict == "pass"


# Looks


def test_a_look_before_the_last_never_passes() -> None:
    found = assess(window(), RULES, Look(59, 60))
    assert found.verdict == "inconclusive"
    assert {one.reason for one in found.metrics} == {"not worse so far"}


def test_doubt_is_for_the_last_look_only() -> None:
    assert of(assess(window(new_failed=9), RULES, Look(59, 60)), "error").reason == "not worse so far"


@given(planned=st.integers(1, 500))
@settings(max_examples=50)
def test_the_parts_of_all_looks_make_the_whole(planned: int) -> None:
    parts = [Look(number, planned).part_of(0.01) for number in range(1, planned + 1)]
    assert sum(parts) == pytest.approx(0.01)
    assert parts[-1] >= 0.005


@pytest.mark.parametrize(("number", "planned"), [(0, 1), (2, 1), (1, 0), (-1, 3)])
def test_a_look_that_was_not_planned_is_refused(number: int, planned: int) -> None:
    with pytest.raises(CallerError, match="a canary's look is from 1"):
        Look(number, planned)


def test_false_alarms_stay_rare_over_many_looks() -> None:
    random = np.random.default_rng(7)
    planned, failed = 3, 0
    for _ in range(40):
        old = [float(one) for one in random.lognormal(-2.5, 0.5, 1200)]
        new = [float(one) for one in random.lognormal(-2.5, 0.5, 120)]
        looks = (
            assess(
                Window({"latency_seconds": old[: 400 * number]}, {"latency_seconds": new[: 40 * number]}),
                CanarySettings(metrics=(LATENCY,)),
                Look(number, planned),
            )
            for number in range(1, planned + 1)
        )
        failed += any(one.verdict == "fail" for one in looks)
    assert failed <= 1


# Properties

samples = st.lists(st.floats(0, 10), max_size=60)
bits = st.lists(st.sampled_from([0.0, 1.0]), max_size=60)
SMALL = CanarySettings(
    metrics=(
        MetricRule(name="error", kind="rate", max_increase=0.01, min_samples=20),
        MetricRule(name="latency_seconds", kind="level", max_ratio=1.1, limit=5.0, min_samples=20),
    )
)


@given(old=samples, new=samples, old_bits=bits, new_bits=bits)
@settings(max_examples=50, deadline=None)
def test_a_pass_has_enough_samples_and_no_metric_that_did_not_pass(
    old: list[float], new: list[float], old_bits: list[float], new_bits: list[float]
) -> None:
    measured = Window({"error": old_bits, "latency_seconds": old}, {"error": new_bits, "latency_seconds": new})
    found = assess(measured, SMALL)
    assert all(one.p_value is None or 0 <= one.p_value <= 1 for one in found.metrics)
    if found.verdict == "pass":
        assert len(found.metrics) == 2
        assert all(one.verdict == "pass" and min(one.num_old, one.num_new) >= 20 for one in found.metrics)
    else:
        assert found.reasons


@given(new=st.lists(st.floats(0, 10), min_size=20, max_size=60), factor=st.floats(1, 100))
@settings(max_examples=20, deadline=None)
def test_slower_is_never_judged_better(new: list[float], factor: float) -> None:
    old = latencies(200)
    rules = CanarySettings(metrics=(MetricRule(name="latency_seconds", kind="level", max_ratio=1.1, min_samples=20),))
    rank = {"pass": 0, "inconclusive": 1, "fail": 2}
    before = assess(Window({"latency_seconds": old}, {"latency_seconds": new}), rules)
    after = assess(Window({"latency_seconds": old}, {"latency_seconds": [one * factor for one in new]}), rules)
    assert rank[after.verdict] >= rank[before.verdict]


@given(order=st.randoms(use_true_random=False))
@settings(max_examples=20, deadline=None)
def test_the_order_of_samples_does_not_matter(order: object) -> None:
    measured = window(new_failed=9)
    shuffled = list(measured.candidate["error"])
    order.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis has no public name for its random
    again = Window(measured.stable, {**measured.candidate, "error": shuffled})
    assert assess(again, RULES) == assess(measured, RULES)


@given(p_values=st.lists(st.floats(0, 1), max_size=12))
@settings(max_examples=50)
def test_adjusting_keeps_the_order_and_never_makes_a_p_value_smaller(p_values: list[float]) -> None:
    adjusted = canary._holm(p_values)
    assert all(before <= after <= 1 for before, after in zip(p_values, adjusted, strict=True))
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    assert [adjusted[one] for one in order] == sorted(adjusted)


def test_adjusting_multiplies_the_smallest_by_the_number_of_questions() -> None:
    assert canary._holm([0.02, 0.01, 0.5]) == [0.04, 0.03, 0.5]


# What is said of it


def test_the_predicate_says_what_was_held_against_what() -> None:
    found = assess(window(), RULES)
    began, ended = datetime(2026, 11, 26, 2, tzinfo=UTC), datetime(2026, 11, 26, 2, 15, tzinfo=UTC)
    said = found.over(Span(baseline=digest_of(b"old"), share=0.05, started_at=began, ended_at=ended))
    assert (said.baseline, said.verdict, said.metrics) == (digest_of(b"old"), "pass", found.metrics)
    assert (said.share, said.started_at, said.ended_at) == (0.05, began, ended)


def test_settings_with_two_rules_for_a_metric_are_refused() -> None:
    with pytest.raises(CallerError, match="one rule, got error, error"):
        CanarySettings(metrics=(ERROR, ERROR))


def test_settings_whose_doubt_is_below_a_failure_are_refused() -> None:
    with pytest.raises(CallerError, match="must not be below false_alarms"):
        CanarySettings(false_alarms=0.1, doubt=0.05)
