"""Bounded looking, whatever a test has done to the clock."""

from __future__ import annotations

import time

import pytest

from pratique.testkit.errors import UnexpectedAnswerError
from pratique.testkit.looks import looks
from pratique.testkit.services.aws.lifecycle import wait_until

pytestmark = pytest.mark.unit


def count(within_seconds: float, first: float = 0.001, longest: float = 0.002) -> int:
    return sum(1 for _ in looks(within_seconds, first=first, longest=longest))


def test_it_is_looked_once_before_any_pause() -> None:
    assert count(0.0) == 1


def test_a_stopped_clock_does_not_make_it_endless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 1.0)
    assert count(0.007) == 5  # after 0, 1, 3, 5 and 7 ms


def test_a_sleep_that_does_nothing_does_not_make_it_shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    began = time.monotonic()
    count(0.007)
    assert time.monotonic() - began >= 0.006


def test_looks_that_take_long_are_bounded_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter(range(100))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(moments)))
    assert count(3.0) == 4


def test_what_is_waited_for_under_a_stopped_clock_is_told_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 1.0)
    with pytest.raises(UnexpectedAnswerError, match=r"Expected peace within 0\.01 s"):
        wait_until(lambda: False, "peace", within_seconds=0.01)
