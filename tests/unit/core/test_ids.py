from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pratique.core.clock import ManualClock
from pratique.core.ids import RandomIds, SequentialIds

pytestmark = pytest.mark.unit


def test_an_id_says_what_it_names_and_passes_the_protocol() -> None:
    made = RandomIds().new("cnv")
    assert re.fullmatch(r"cnv_[0-9a-hjkmnp-tv-z]{26}", made)


@given(earlier=st.floats(0, 2**40), later=st.floats(0.001, 2**20))
def test_ids_sort_by_their_time(earlier: float, later: float) -> None:
    first = RandomIds(ManualClock(epoch_seconds=earlier)).new("x")
    second = RandomIds(ManualClock(epoch_seconds=earlier + later + 0.001)).new("x")
    assert first < second


def test_ids_of_one_moment_differ() -> None:
    ids = RandomIds(ManualClock())
    assert len({ids.new("x") for _ in range(1000)}) == 1000


def test_sequential_ids_are_the_same_in_every_run() -> None:
    ids = SequentialIds()
    assert [ids.new("turn"), ids.new("gen")] == ["turn_" + "1".zfill(26), "gen_" + "2".zfill(26)]
