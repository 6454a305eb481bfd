"""What a number may be."""

from __future__ import annotations

import math

import pytest

from pratique.testkit.choreography import at_least, at_most, between
from pratique.testkit.choreography.ranges import as_range
from pratique.testkit.errors import TestkitUsageError

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("ends", [(2, 1), (-1, 1), (math.nan, 1), (0, math.nan)])
def test_a_range_with_nothing_in_it_is_refused(ends: tuple[float, float]) -> None:
    with pytest.raises(TestkitUsageError):
        between(*ends)


def test_both_ends_belong_to_it() -> None:
    assert [number in between(1, 3) for number in (0.9, 1, 3, 3.1)] == [False, True, True, False]


def test_it_is_told_in_words() -> None:
    told = [str(one) for one in (as_range(3), between(0.1, 2), at_least(1), at_most(0.5))]
    assert told == ["3", "0.1 to 2", "at least 1", "at most 0.5"]
    assert as_range(at_least(1)) == at_least(1)
