"""What a test expects of attempts, and what they show of it. Pure.

Nothing is right for want of attempts to show it: gaps and waits need two, a body needs one, unless none was to come.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from pratique.testkit.choreography.ranges import Range, as_range, at_least
from pratique.testkit.choreography.stubs import Route, make_route
from pratique.testkit.choreography.timeline import Attempt, gaps_of
from pratique.testkit.choreography.waits import wrong_waits
from pratique.testkit.errors import TestkitUsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

__all__ = ["ANYTHING", "Expected", "Which", "is_same_json", "make_which"]

ANYTHING: Final = object()
"""No JSON value is expected. None is one."""
_SHOWN_BYTES: Final = 200


@dataclass(frozen=True)
class Which:
    """Some of the attempts, told as scripts are: by method and path, and by client."""

    route: Route
    client: str | None

    def select(self, attempts: Iterable[Attempt]) -> list[Attempt]:
        """Return those that it means."""
        return [
            one for one in attempts if self.route.covers(one.method, one.path) and self.client in (None, one.client)
        ]


def make_which(method: str | None, path: str | None, client: str | None, known: Collection[str]) -> Which:
    """Return which attempts are meant.

    Raises:
        TestkitUsageError: it can be none.
    """
    if client is not None and client not in known:
        raise TestkitUsageError(
            f"There is no client '{client}'.", hint=f"Known: {', '.join(known)}. `upstream.client(name)` makes one."
        )
    return Which(make_route("ANY" if method is None else method, path or ""), client)


@dataclass(frozen=True, kw_only=True)
class Expected:
    """All that one call of `verify` asks."""

    count: float | Range | None = None
    gaps: float | Range | None = None
    waits: float | Range | None = None
    json: Any = ANYTHING

    def is_enough(self, attempts: Sequence[Attempt]) -> bool:
        """Whether no more attempts have to come."""
        counts = at_least(self._least()) if self.count is None else as_range(self.count)
        return len(attempts) in counts

    def wrong(self, attempts: Sequence[Attempt]) -> list[str]:
        """Return what is not as expected."""
        wrong = []
        if self.count is not None and len(attempts) not in as_range(self.count):
            wrong.append(f"expected {as_range(self.count)} attempts, got {len(attempts)}")
        elif len(attempts) < self._least():
            wrong.append(f"expected at least {self._least()} attempts, to look at what was asked; got {len(attempts)}")
        wrong += [] if self.gaps is None else _wrong_gaps(attempts, as_range(self.gaps))
        wrong += [] if self.waits is None else wrong_waits(attempts, as_range(self.waits))
        if self.json is not ANYTHING:
            wrong += [f"attempt {one.number}: {said}" for one in attempts if (said := _compare(one, self.json))]
        return wrong

    def _least(self) -> int:
        if self.count is not None and as_range(self.count).high == 0:
            return 0
        if self.gaps is not None or self.waits is not None:
            return 2
        return int(self.json is not ANYTHING)


def is_same_json(one: Any, other: Any) -> bool:  # noqa: ANN401 - any JSON values
    """Whether two values are written alike in JSON: `true` is not 1, and 1 is not 1.0, as they are in Python."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(is_same_json(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(is_same_json, one, other))
    return _kind_of(one) is _kind_of(other) and bool(one == other)


def _kind_of(value: Any) -> type:  # noqa: ANN401 - as above
    # An enum's member that is a text or a number is written as that.
    return next((kind for kind in (bool, int, float, str) if isinstance(value, kind)), type(value))


def _wrong_gaps(attempts: Sequence[Attempt], allowed: Range) -> list[str]:
    return [
        f"expected gaps of {allowed} s, got {gap:g} s before attempt {after.number}"
        for gap, (_, after) in zip(gaps_of(attempts), pairwise(attempts), strict=True)
        if gap not in allowed
    ]


def _compare(attempt: Attempt, expected: Any) -> str:  # noqa: ANN401 - as above
    try:
        got = attempt.json
    except ValueError as error:
        return f"expected JSON, got {attempt.body[:_SHOWN_BYTES]!r}: {error}"
    return "" if is_same_json(got, expected) else f"expected {expected!r}, got {got!r}"
