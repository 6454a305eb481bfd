"""Precision and recall of every rule, on texts made up from a seed."""

from __future__ import annotations

import pytest

from pratique.core.secrets.rules import RULES
from pratique.core.secrets.text import find_hits
from pratique.testkit.guard.scan.corpus import assess, false_cases, table, true_cases

pytestmark = pytest.mark.unit

MIN_PRECISION = 0.99
MIN_RECALL = 0.95
MIN_GENERIC_RECALL = 0.90
"""A name and something random: what reads as an identifier is given up, for the sake of precision."""


def test_every_rule_keeps_its_precision_and_recall() -> None:
    true, false = true_cases(seed=1, per_rule=60), false_cases(seed=2, per_kind=42)
    assert len(true) >= 1000
    assert len(false) >= 1000
    scores = assess([*true, *false])
    assert {one.rule for one in scores} == {rule.id for rule in RULES}
    weak = [
        one
        for one in scores
        if one.precision < MIN_PRECISION
        or one.recall < (MIN_GENERIC_RECALL if one.rule == "generic-secret" else MIN_RECALL)
    ]
    assert not weak, table(scores)


def test_a_scan_of_what_has_no_secret_says_nothing_of_any_kind() -> None:
    wrong = [case.kind for case in false_cases(seed=3, per_kind=8) if find_hits(case.text)]
    assert not wrong


def test_the_table_names_every_rule() -> None:
    scores = assess(true_cases(seed=4, per_rule=1))
    assert all(one.rule in table(scores) for one in scores)
    assert "precision" in table(scores)
