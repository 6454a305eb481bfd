"""How long a client waited, told from when its attempts came."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pratique.testkit.choreography import at_least, at_most, between
from pratique.testkit.choreography.timeline import Attempt
from pratique.testkit.choreography.waits import wrong_waits

pytestmark = pytest.mark.unit

ONE = Attempt(
    number=1,
    client="main",
    method="GET",
    path="/",
    query="",
    headers={},
    body=b"",
    came_seconds=0.0,
    delay_seconds=0.0,
    status=200,
    is_matched=True,
    script=None,
)


def timeline(*came_and_delay: tuple[float, float], client: str = "main") -> list[Attempt]:
    return [
        replace(ONE, number=number, came_seconds=came, delay_seconds=delay, client=client)
        for number, (came, delay) in enumerate(came_and_delay, 1)
    ]


def test_an_attempt_that_was_given_up_before_its_slow_answer_is_right() -> None:
    assert wrong_waits(timeline((0, 0.6), (0.25, 0.6), (0.5, 0)), at_most(0.3)) == []


def test_an_attempt_whose_slow_answer_was_waited_for_is_wrong() -> None:
    wrong = wrong_waits(timeline((0, 0.6), (0.62, 0.6), (0.9, 0)), at_most(0.3))
    assert wrong == ["attempt 1 was not given up before its answer, which took 0.6 s: the next came 0.620 s after it"]


def test_the_next_at_the_very_moment_of_the_answer_came_after_it() -> None:
    assert len(wrong_waits(timeline((0, 0.5), (0.5, 0)), at_most(0.3))) == 1


@pytest.mark.parametrize(
    "attempts",
    [[], timeline((0, 0.6)), timeline((0, 0.3), (0.1, 0)), timeline((0, 0), (0.1, 0), (0.2, 5.0))],
    ids=["nothing came", "one", "none slower than the bound", "only the last is slow"],
)
def test_a_timeline_that_cannot_show_it_is_wrong_too(attempts: list[Attempt]) -> None:
    (wrong,) = wrong_waits(attempts, at_most(0.3))
    assert wrong.startswith("no attempt shows waits of at most 0.3 s")


def test_the_next_attempt_is_that_of_the_same_client() -> None:
    """Another client's, which comes before the answer, gives nothing up."""
    one, other = timeline((0, 0.6), (0.7, 0), client="a"), timeline((0.1, 0), client="b")
    assert len(wrong_waits([one[0], *other, one[1]], at_most(0.3))) == 1


def test_what_was_given_up_too_soon_is_wrong() -> None:
    (wrong,) = wrong_waits(timeline((0, 2.0), (0.1, 0)), between(0.5, 1.0))
    assert wrong == "expected waits of 0.5 to 1 s, but attempt 1 was given up within 0.100 s"
    assert wrong_waits(timeline((0, 2.0), (0.1, 0)), at_least(0.05)) == []
    assert wrong_waits(timeline((0, 0.0), (0.1, 0)), at_least(0.5)) == []
