"""What faults do to bytes, decided without a socket or a clock."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pratique.testkit.choreography import shaping
from pratique.testkit.choreography.shaping import MAX_CHUNK_BYTES, Direction, Faults, Shape
from pratique.testkit.errors import TestkitUsageError

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("value", [0, -0.1, math.nan, math.inf, "1", None, True])
def test_what_is_no_rate_is_refused(value: Any) -> None:
    with pytest.raises(TestkitUsageError, match="bytes_per_second is"):
        shaping.require_rate(value)


@pytest.mark.parametrize("value", [-1, 1.5, "1", None, True])
def test_what_is_no_number_of_bytes_is_refused(value: Any) -> None:
    with pytest.raises(TestkitUsageError, match="after_bytes is"):
        shaping.require_count("after_bytes", value)


def test_good_values_are_returned() -> None:
    assert (shaping.require_rate(5), shaping.require_count("x", 0)) == (5.0, 0)


def test_an_unknown_direction_names_the_known_ones() -> None:
    with pytest.raises(TestkitUsageError, match=r"'sideways'.*up, down, both"):
        shaping.read_directions("sideways")


def test_directions_are_read() -> None:
    assert shaping.read_directions("both") == (Direction.UP, Direction.DOWN)
    assert shaping.read_directions("down") == (Direction.DOWN,)


def test_a_change_touches_only_its_direction_and_fields() -> None:
    before = shaping.change(Faults(), (Direction.UP, Direction.DOWN), latency_seconds=1.0)
    after = shaping.change(before, (Direction.DOWN,), is_blackhole=True)
    assert after.shapes[Direction.UP] == Shape(latency_seconds=1.0)
    assert after.shapes[Direction.DOWN] == Shape(latency_seconds=1.0, is_blackhole=True)
    assert before.shapes[Direction.DOWN] == Shape(latency_seconds=1.0)


@pytest.mark.parametrize(("rate", "size"), [(None, MAX_CHUNK_BYTES), (1.0, 1), (5_000.0, 100), (1e12, MAX_CHUNK_BYTES)])
def test_a_slow_link_reads_in_small_slices(rate: float | None, size: int) -> None:
    assert shaping.chunk_bytes(Shape(bytes_per_second=rate)) == size


def test_a_link_is_busy_by_its_rate() -> None:
    assert shaping.sending_seconds(Shape(), 10) == 0
    assert shaping.sending_seconds(Shape(bytes_per_second=100), 10) == pytest.approx(0.1)


def test_a_delay_line_may_hold_more_than_a_plain_pipe() -> None:
    plain = shaping.buffer_bytes(Shape())
    assert shaping.buffer_bytes(Shape(latency_seconds=0.1)) > 10 * plain
    assert shaping.buffer_bytes(Shape(jitter_seconds=0.1)) > 10 * plain
    assert shaping.buffer_bytes(Shape(bytes_per_second=1)) == plain


@given(st.floats(0, 10), st.floats(0, 10), st.integers(0, 100))
def test_jitter_stays_within_its_bounds_and_never_goes_back_in_time(latency: float, jitter: float, seed: int) -> None:
    shape = Shape(latency_seconds=latency, jitter_seconds=jitter)
    delay, again = (shaping.delay_seconds(shape, random.Random(seed)) for _ in range(2))  # noqa: S311 - not a secret
    assert max(0.0, latency - jitter) <= delay <= latency + jitter
    assert delay == again


def test_what_set_out_after_the_change_keeps_its_plan() -> None:
    assert shaping.arrival(9.0, 5.0, Shape(), changed_at=5.0) == 9.0


def test_what_set_out_before_arrives_by_the_new_shape_if_that_is_sooner() -> None:
    shape = Shape(latency_seconds=1.0, jitter_seconds=0.5)
    assert shaping.arrival(9.0, 4.0, shape, changed_at=5.0) == 6.5
    assert shaping.arrival(5.5, 4.0, shape, changed_at=5.0) == 5.5
