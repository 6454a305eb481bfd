"""How long clients waited for answers, as far as a timeline shows it. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pratique.testkit.choreography.ranges import Range
    from pratique.testkit.choreography.timeline import Attempt

__all__ = ["gap_between", "is_before_answer", "wrong_waits"]


def wrong_waits(attempts: Iterable[Attempt], allowed: Range) -> list[str]:
    """Return where a client did not wait for a slow answer as long as it should: no longer than, no shorter than.

    All that shows is whether the next attempt of the same client came before the answer was due: then it had waited
    no longer than until that. That nothing was slow enough to show a time-out is wrong too.
    """
    pairs = list(_pairs(attempts))
    slow = [one for one in pairs if one[0].delay_seconds > allowed.high]
    if allowed.high < math.inf and not slow:
        return [f"no attempt shows waits of {allowed} s: none with another after it was answered more slowly"]
    return [_late(one, after) for one, after in slow if not is_before_answer(one, after)] + [
        f"expected waits of {allowed} s, but attempt {one.number} was given up within {gap_between(one, after):.3f} s"
        for one, after in pairs
        if is_before_answer(one, after) and gap_between(one, after) < allowed.low
    ]


def _pairs(attempts: Iterable[Attempt]) -> Iterator[tuple[Attempt, Attempt]]:
    latest: dict[str, Attempt] = {}
    for one in attempts:
        if one.client in latest:
            yield latest[one.client], one
        latest[one.client] = one


def gap_between(one: Attempt, after: Attempt) -> float:
    """Return the seconds from one's coming to the next one's."""
    return after.came_seconds - one.came_seconds


def is_before_answer(one: Attempt, after: Attempt) -> bool:
    """Whether the next came before the answer to one was due: that was given up, or overtaken."""
    return after.came_seconds < one.came_seconds + one.delay_seconds


def _late(one: Attempt, after: Attempt) -> str:
    return (
        f"attempt {one.number} was not given up before its answer, which took {one.delay_seconds:g} s: "
        f"the next came {gap_between(one, after):.3f} s after it"
    )
