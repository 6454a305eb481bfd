"""What a run took, added up from made-up reports."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pratique.testkit.tiers.ledger import Ledger, Phase, busy_seconds, over_limit
from pratique.testkit.tiers.policy import BUDGETS, Place, Speed, Tier, TierOptions

pytestmark = pytest.mark.unit

UNIT = Place(tier=Tier.UNIT)
FAST = Place(tier=Tier.INTEGRATION, speed=Speed.FAST)


def phase(test: str, start: float, stop: float, *, place: Place = UNIT, category: str = "passed") -> Phase:
    """A call; with no category, what stands before or behind one."""
    is_call, seconds = bool(category), stop - start
    return Phase(test=test, place=place, is_call=is_call, category=category, start=start, stop=stop, seconds=seconds)


def ledger_of(*phases: Phase, **options: float | None) -> Ledger:
    ledger = Ledger(TierOptions(budgets={**BUDGETS, **options}))
    for one in phases:
        ledger.add(one)
    return ledger


def test_nothing_is_said_of_nothing() -> None:
    assert (ledger_of().lines(), ledger_of().overruns()) == ([], [])
    untiered = ledger_of(phase("a", 0, 900, place=Place(tier=None)))
    assert (untiered.lines(), untiered.overruns()) == ([], [])


def test_a_tier_lasts_from_its_first_start_to_its_last_end_whichever_worker_ran_it() -> None:
    ledger = ledger_of(phase("b", 13, 14), phase("a", 10, 13.5), phase("c", 39, 41), unit=30)
    assert ledger.overruns() == ["unit: 31.0 s, budget 30 s"]
    assert "31.0 s of 30 s  OVER BUDGET, tests add up to 6.5 s" in ledger.lines()[0]


def test_a_budget_that_is_just_kept_is_kept() -> None:
    ledger = ledger_of(phase("a", 0, 30), unit=30)
    assert not ledger.overruns()
    assert "OVER" not in ledger.lines()[0]


def test_a_tier_without_a_budget_is_told_and_never_over() -> None:
    ledger = ledger_of(phase("a", 0, 30000), unit=None)
    assert not ledger.overruns()
    assert "30000.0 s," in ledger.lines()[0]


def test_what_pytest_counts_is_counted() -> None:
    ledger = ledger_of(
        phase("passes", 0, 0.1, category=""),
        phase("passes", 0, 0.1),
        phase("passes and leaks", 0, 0.1),
        phase("passes and leaks", 0, 0.1, category="error"),
        phase("fails", 0, 0.1, category="failed"),
        phase("skips", 0, 0, category="skipped"),
        phase("is known", 0, 0, category="xfailed"),
    )
    (line,) = ledger.lines()
    assert "    2 passed    1 failed    1 errors    1 skipped" in line
    assert line.endswith("s, 1 xfailed")


def test_a_tier_of_which_nothing_ran_is_not_told() -> None:
    assert ledger_of(phase("a", 0, 0.1, category="")).lines() == []


@pytest.mark.parametrize("category", ["failed", "error"])
def test_a_tier_that_failed_is_told_where_later_ones_were_skipped_for_it(category: str) -> None:
    failed = phase("a", 0, 0.1, category=category)
    skipped = phase("b", 0, 0, place=FAST, category="skipped")
    (said,) = [line for line in ledger_of(failed, skipped).lines() if line.startswith("the ")]
    assert said == "the unit tier failed: tests of later tiers were skipped from then on (pratique_fail_fast)"
    for ledger in (ledger_of(failed), ledger_of(phase("a", 0, 0.1), skipped)):
        assert not any(line.startswith("the ") for line in ledger.lines())


def test_a_tier_that_is_not_to_fail_fast_is_not_told() -> None:
    ledger = Ledger(TierOptions(fail_fast=frozenset()))
    ledger.add(phase("a", 0, 0.1, category="failed"))
    ledger.add(phase("b", 0, 0.1, place=FAST))
    assert not any(line.startswith("the ") for line in ledger.lines())


def test_what_is_wrong_with_a_mark_is_told_once() -> None:
    one = replace(phase("a", 0, 0.1), remark="marked unit, uses valkey")
    _, *said = ledger_of(replace(one, category="", is_call=False), one).lines()
    assert said == ["a: marked unit, uses valkey"]


def test_more_remarks_than_can_be_read_are_counted() -> None:
    ledger = ledger_of(*(replace(phase(f"t{n}", 0, 0.1), remark="marked unit, uses valkey") for n in range(23)))
    assert ledger.lines()[-1] == "and 3 more with marks that are not true"
    assert len(ledger.lines()) == 22


def test_fast_tests_have_a_budget_of_their_own_for_the_time_in_which_any_of_them_ran() -> None:
    slow = Place(tier=Tier.INTEGRATION, speed=Speed.SLOW)
    ledger = ledger_of(
        phase("a", 0, 1, place=FAST),
        phase("b", 0.5, 1.5, place=FAST),
        phase("c", 3, 103, place=slow),
        phase("d", 103, 104, place=FAST),
        **{"integration.fast": 2},
    )
    assert ledger.overruns() == ["integration.fast: 2.5 s, budget 2 s"]
    whole, fast, late = ledger.lines()
    assert "104.0 s of 300 s" in whole
    assert fast.startswith("integration.fast")
    assert "2.5 s of 2 s  OVER BUDGET" in fast
    assert late == "c: took 100.00 s, slow integration tests may take 60 s"


def test_a_tier_whose_fast_tests_have_no_budget_has_one_line() -> None:
    fast_unit = Place(tier=Tier.UNIT, speed=Speed.FAST)
    assert len(ledger_of(phase("a", 0, 0.5, place=fast_unit)).lines()) == 1


def test_tiers_are_told_in_their_order() -> None:
    ledger = ledger_of(phase("b", 5, 6, place=Place(tier=Tier.E2E)), phase("a", 0, 1, place=FAST), phase("c", 0, 1))
    assert [line.split()[0] for line in ledger.lines()] == ["unit", "integration", "integration.fast", "e2e"]


def test_the_slowest_are_named_first_and_not_more_than_can_be_read() -> None:
    ledger = ledger_of(*(phase(f"t{n}", 0, 2 + n) for n in range(25)), unit=None)
    _, first, *_, last = ledger.lines()
    assert first == "t24: took 26.00 s, unit tests may take 1 s; make it quicker or mark it slow"
    assert last == "and 5 more that took longer than they may"
    assert len(ledger.lines()) == 22


def test_set_up_counts_for_the_tier_and_not_against_the_test() -> None:
    ledger = ledger_of(phase("a", 0, 20, category=""), phase("a", 20, 20.1))
    (line,) = ledger.lines()
    assert "20.1 s of 30 s" in line


def test_a_fast_test_without_a_tier_is_named_too() -> None:
    (line,) = ledger_of(phase("a", 0, 2, place=Place(tier=None, speed=Speed.FAST))).lines()
    assert line.startswith("a: took 2.00 s, fast tests may take 1 s")


@pytest.mark.parametrize("seconds", [0.0, 0.999, 1.0])
def test_a_test_within_its_limit_is_fine(seconds: float) -> None:
    assert over_limit(UNIT, seconds, TierOptions()) is None


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 5))))
def test_busy_time_is_what_a_clock_that_looks_would_count(spans: list[tuple[int, int]]) -> None:
    intervals = [(start, start + length) for start, length in spans]
    ticks = {tick for start, stop in intervals for tick in range(start, stop)}
    assert busy_seconds(intervals) == len(ticks)


def test_a_crash_of_an_unknown_tier_is_told() -> None:
    ledger = ledger_of()
    ledger.note_crash("test_a.py::test_it")
    assert ledger.lines() == ["test_a.py::test_it: failed: its worker crashed before it told the tier"]
