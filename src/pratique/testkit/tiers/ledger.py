"""What the tiers took: filled from the reports of a run, in the process that sees them all. Without pytest.

Wall time is from the first start to the last end of a tier's tests, set-up and teardown included, whichever worker ran
them. The fast tests among others have no such span of their own: theirs is the time in which at least one of them ran.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pratique.testkit.tiers.policy import Place, Speed, Tier, TierOptions, limit_seconds

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Ledger", "Phase", "busy_seconds", "over_limit"]

_MAX_NAMED: Final = 20


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One phase of one test, as it was reported."""

    test: str
    place: Place
    is_call: bool
    outcome: str
    """`passed`, `failed` or `skipped`."""
    start: float
    stop: float
    seconds: float


@dataclass(kw_only=True)
class _Book:
    """What is known of one tier."""

    tests: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    skipped: set[str] = field(default_factory=set)
    first: float = float("inf")
    last: float = float("-inf")
    seconds: float = 0.0
    fast: list[tuple[float, float]] = field(default_factory=list)

    def add(self, phase: Phase) -> None:
        self.tests.add(phase.test)
        if phase.outcome == "failed":
            self.failed.add(phase.test)
        elif phase.outcome == "skipped":
            self.skipped.add(phase.test)
        self.first = min(self.first, phase.start)
        self.last = max(self.last, phase.stop)
        self.seconds += phase.seconds
        if phase.place.speed is Speed.FAST:
            self.fast.append((phase.start, phase.stop))


class Ledger:
    """The books of a run."""

    def __init__(self, options: TierOptions) -> None:
        self._options = options
        self._books: dict[Tier, _Book] = {}
        self._late: list[tuple[float, str]] = []

    def add(self, phase: Phase) -> None:
        """Take in what was reported."""
        if phase.place.tier is not None:
            self._books.setdefault(phase.place.tier, _Book()).add(phase)
        if phase.is_call and (problem := over_limit(phase.place, phase.seconds, self._options)):
            self._late.append((phase.seconds, f"{phase.test}: {problem}"))

    def overruns(self) -> list[str]:
        """Return the budgets that were not kept."""
        return [
            f"{name}: {spent:.1f} s, budget {budget:g} s"
            for tier in self._books
            for name, spent, budget in self._spent(tier)
            if budget is not None and spent > budget
        ]

    def lines(self) -> list[str]:
        """Return the summary; nothing where no test has a tier and none was late."""
        rows = [line for tier in Tier if tier in self._books for line in self._rows(tier)]
        return rows + self._late_lines()

    def _rows(self, tier: Tier) -> list[str]:
        book = self._books[tier]
        counts = (len(book.tests - book.failed - book.skipped), len(book.failed), len(book.skipped - book.failed))
        counted = "{:5} passed {:4} failed {:4} skipped".format(*counts)
        whole, *parts = self._spent(tier)
        rows = [f"{tier:16} {counted}  {_of(*whole[1:])}, tests add up to {book.seconds:.1f} s"]
        return rows + [f"{name:16} {'':33}  {_of(spent, budget)}" for name, spent, budget in parts]

    def _spent(self, tier: Tier) -> list[tuple[str, float, float | None]]:
        """Return what each budget is held against: the tier's, and that of its fast tests where there is one."""
        book, budgets = self._books[tier], self._options.budgets
        spent: list[tuple[str, float, float | None]] = [(tier, max(0.0, book.last - book.first), budgets.get(tier))]
        part = f"{tier}.{Speed.FAST}"
        return [*spent, (part, busy_seconds(book.fast), budgets[part])] if book.fast and part in budgets else spent

    def _late_lines(self) -> list[str]:
        late = sorted(self._late, key=lambda one: -one[0])
        more = len(late) - _MAX_NAMED
        named = [text for _, text in late[:_MAX_NAMED]]
        return named + ([f"and {more} more that took longer than they may"] if more > 0 else [])


def over_limit(place: Place, seconds: float, options: TierOptions) -> str | None:
    """Return what is wrong with a test whose call took so long; None where nothing is."""
    limit = limit_seconds(place, options.limits)
    if limit is None or seconds <= limit:
        return None
    who = " ".join(filter(None, (place.speed, place.tier)))
    advice = "" if place.speed is Speed.SLOW else "; make it quicker or mark it slow"
    return f"took {seconds:.2f} s, {who} tests may take {limit:g} s{advice}"


def busy_seconds(intervals: Iterable[tuple[float, float]]) -> float:
    """Return how long at least one of them lasted."""
    busy, until = 0.0, float("-inf")
    for start, stop in sorted(intervals):
        busy += max(0.0, stop - max(start, until))
        until = max(until, stop)
    return busy


def _of(spent: float, budget: float | None) -> str:
    if budget is None:
        return f"{spent:6.1f} s"
    return f"{spent:6.1f} s of {budget:g} s" + ("  OVER BUDGET" if spent > budget else "")
