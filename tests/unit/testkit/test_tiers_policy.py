"""What the tiers are, and what they allow."""

from __future__ import annotations

import math
from typing import Any

import pytest

from pratique.testkit.errors import TestkitUsageError
from pratique.testkit.tiers.policy import (
    BUDGETS,
    LIMITS,
    Order,
    Place,
    Speed,
    Tier,
    TierOptions,
    limit_seconds,
    place_of,
    rank,
    read_seconds,
    read_sla,
    read_tiers,
    tiers_before,
)

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("unit", "'unit'"),
        ("unit=", "unit="),
        ("unit=fast", "unit=fast"),
        ("unit=0", "above zero"),
        ("unit=-1", "above zero"),
        ("unit=nan", "above zero"),
        ("unit=inf", "above zero"),
        ("smoke=3", "one of: unit, integration, integration.fast, staging, e2e"),
        ("unit=1,=2", "'=2'"),
    ],
)
def test_a_budget_that_means_nothing_is_refused_with_where_it_stands(text: str, said: str) -> None:
    with pytest.raises(TestkitUsageError, match=rf"the flag says .*{said}|the flag says '{text}'.*{said}"):
        read_seconds(text, BUDGETS, "the flag")


def test_budgets_are_read_over_the_defaults() -> None:
    read = read_seconds("unit=12.5, e2e = none\n\n integration.fast=60,", BUDGETS, "the flag")
    assert read == {**BUDGETS, "unit": 12.5, "e2e": None, "integration.fast": 60.0}
    assert read_seconds("", BUDGETS, "the flag") == BUDGETS


def test_a_tier_that_does_not_exist_names_those_that_do() -> None:
    with pytest.raises(TestkitUsageError, match=r"'smoke, load'.*unit, integration, staging, e2e"):
        read_tiers("unit,smoke,load", "the flag")


def test_tiers_are_read() -> None:
    assert read_tiers(" unit, e2e,", "the flag") == {Tier.UNIT, Tier.E2E}
    assert read_tiers("", "the flag") == frozenset()


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ((), {}),
        ((2,), {}),
        ((2,), {"seconds": 2}),
        ((), {"second": 2}),
        ((), {"seconds": 2, "ms": 1}),
        *(((), {"seconds": value}) for value in (0, -1, "2", None, True, math.nan, math.inf)),
    ],
)
def test_an_sla_that_means_nothing_is_refused_with_the_test(
    arguments: tuple[Any, ...], options: dict[str, Any]
) -> None:
    with pytest.raises(TestkitUsageError, match=r"a\.py::test is marked sla\("):
        read_sla(arguments, options, "a.py::test")


def test_an_sla_is_read() -> None:
    assert read_sla((), {"seconds": 2}, "a.py::test") == 2.0


def place(*levels: list[str], services: tuple[str, ...] = (), default: Tier | None = None) -> Place:
    return place_of(levels, TierOptions(default=default), services=services, where="a.py::test")


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ([], Place(tier=None)),
        ([["other"], ["unit"]], Place(tier=Tier.UNIT)),
        ([["integration"], ["unit"]], Place(tier=Tier.INTEGRATION)),
        ([["slow", "e2e", "fast"]], Place(tier=Tier.E2E, speed=Speed.SLOW)),
        ([["fast"], ["slow", "unit", "unit"]], Place(tier=Tier.UNIT, speed=Speed.FAST)),
        ([["unit"], ["unit", "e2e"]], Place(tier=Tier.UNIT)),
    ],
)
def test_the_nearest_mark_decides(levels: list[list[str]], expected: Place) -> None:
    assert place(*levels) == expected


@pytest.mark.parametrize("levels", [[["integration", "unit"]], [["fast"], ["unit", "slow", "integration"], ["e2e"]]])
def test_two_tiers_in_one_place_are_refused_with_the_test(levels: list[list[str]]) -> None:
    with pytest.raises(TestkitUsageError, match=r"a\.py::test is marked unit and integration in one place"):
        place(*levels)


def test_the_default_is_for_tests_without_a_mark() -> None:
    assert place(["fast"], default=Tier.UNIT) == Place(tier=Tier.UNIT, speed=Speed.FAST)
    assert place(["e2e"], default=Tier.UNIT) == Place(tier=Tier.E2E)


def test_a_test_without_a_mark_that_uses_a_service_is_an_integration_test() -> None:
    assert place(services=("valkey",)).tier is Tier.INTEGRATION
    assert place(services=("valkey",), default=Tier.UNIT).tier is Tier.INTEGRATION
    assert place(["unit"], services=("valkey",)).tier is Tier.UNIT


def test_cheaper_tiers_come_before() -> None:
    assert tiers_before(Tier.STAGING) == (Tier.UNIT, Tier.INTEGRATION)
    assert tiers_before(Tier.UNIT) == tiers_before(None) == ()


def test_tiers_run_from_the_cheapest_and_what_has_none_first() -> None:
    places = [Place(tier=tier) for tier in (Tier.E2E, Tier.STAGING, Tier.INTEGRATION, Tier.UNIT, None)]
    assert sorted(places, key=lambda one: rank(one, Order.TIERS)) == places[::-1]


def test_speed_sorts_only_where_asked_and_only_within_a_tier() -> None:
    slow, plain, fast = (Place(tier=Tier.UNIT, speed=speed) for speed in (Speed.SLOW, None, Speed.FAST))
    dear = Place(tier=Tier.E2E, speed=Speed.FAST)
    assert sorted([dear, slow, plain, fast], key=lambda one: rank(one, Order.SPEED)) == [fast, plain, slow, dear]
    assert sorted([slow, plain, fast], key=lambda one: rank(one, Order.TIERS)) == [slow, plain, fast]


@pytest.mark.parametrize(
    ("where", "limit"),
    [
        (Place(tier=None), None),
        (Place(tier=Tier.UNIT), 1.0),
        (Place(tier=None, speed=Speed.FAST), 1.0),
        (Place(tier=Tier.INTEGRATION, speed=Speed.FAST), 1.0),
        (Place(tier=Tier.UNIT, speed=Speed.SLOW), 60.0),
        (Place(tier=None, speed=Speed.SLOW), 60.0),
    ],
)
def test_a_mark_of_speed_stands_above_the_tiers_limit(where: Place, limit: float | None) -> None:
    assert limit_seconds(where, LIMITS) == limit


def test_a_slow_test_is_never_allowed_less_than_others_of_its_tier() -> None:
    slow = Place(tier=Tier.E2E, speed=Speed.SLOW)
    assert limit_seconds(slow, {**LIMITS, "e2e": 90.0}) == 90.0
    assert limit_seconds(slow, {**LIMITS, "slow": None}) is None
    assert limit_seconds(slow, {**LIMITS, "e2e": None}) == 60.0
