"""Which candidates are good enough."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pratique.orchestrator.retrieval.relevance import Candidate, Cutoffs, coverage, select, weight

pytestmark = pytest.mark.unit


def test_a_rare_word_weighs_more_and_an_unknown_one_half_as_much_as_the_rarest() -> None:
    assert weight(100, 1) > weight(100, 50) > weight(100, 100) > 0
    assert weight(100, 0) == weight(100, 1) / 2
    assert weight(0, 0) > 0


def test_coverage_is_the_share_of_the_weight_that_is_held() -> None:
    weights = {"lighthouse": 3.0, "manga": 1.0}
    assert coverage(weights, {"lighthouse"}) == 0.75
    assert coverage(weights, {"manga", "cat"}) == 0.25
    assert coverage(weights, set()) == 0.0
    assert coverage({}, {"manga"}) == 0.0


def test_a_passage_that_holds_too_little_is_left_out_however_well_it_scores() -> None:
    found = [Candidate(value="a", score=9.0, coverage=0.2), Candidate(value="b", score=2.0, coverage=0.6)]
    assert [each.value for each in select(found, Cutoffs(min_coverage=0.5), limit=4)] == ["b"]


def test_what_scores_far_below_the_best_is_left_out() -> None:
    found = [Candidate(value=name, score=score) for name, score in (("c", 3.9), ("a", 10.0), ("b", 4.0))]
    assert [each.value for each in select(found, Cutoffs(relative_score=0.4), limit=4)] == ["a", "b"]


def test_nothing_fits_where_nothing_was_found() -> None:
    assert select([], Cutoffs(), limit=4) == ()


@given(
    scores=st.lists(st.floats(0.1, 100), max_size=12),
    limit=st.integers(1, 6),
    relative=st.floats(0, 1),
)
@settings(max_examples=50, deadline=None)
def test_the_chosen_are_the_best_in_order_and_no_more_than_asked(
    scores: list[float], limit: int, relative: float
) -> None:
    found = [Candidate(value=number, score=score) for number, score in enumerate(scores)]
    chosen = [each.score for each in select(found, Cutoffs(relative_score=relative), limit=limit)]
    assert chosen == sorted(scores, reverse=True)[: len(chosen)]
    assert len(chosen) <= limit
    assert bool(chosen) == bool(scores)
