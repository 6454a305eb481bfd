"""What the tiers took: filled from the reports of a run, in the process that sees them all. Without pytest.

Wall time is from the first start to the last end of a tier's tests, set-up and teardown included, whichever worker ran
them. The fast tests among others have no such span of their own: theirs is the time in which at least one of them ran.
What is counted is what pytest counts: a test that passes and then fails in its teardown is one passed and one error.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pratique.testkit.tiers.policy import Place, Speed, Tier, TierOptions, limit_seconds

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Ledger", "Phase", "busy_seconds", "over_limit"]

_MAX_NAMED: Final = 20
_COUNTED: Final = {"passed": "passed", "failed": "failed", "error": "errors", "skipped": "skipped"}
"""pytest's words → ours. Other words (xfailed, xpassed, those of plugins) are told where there are any."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One phase of one test, as it was reported."""

    test: str
    place: Place
    is_call: bool
    category: str
    """What pytest counts it as: passed, failed, error, skipped, xfailed …; empty: as nothing."""
    start: float
    stop: float
    seconds: float
    remark: str = ""
    """What is wrong with the place."""


@dataclass(kw_only=True)
class _Book:
    """What is known of one tier."""

    counts: Counter[str] = field(default_factory=Counter)
    first: float = float("inf")
    last: float = float("-inf")
    seconds: float = 0.0
    fast: list[tuple[float, float]] = field(default_factory=list)

    def add(self, phase: Phase) -> None:
        if phase.category:
            self.counts[phase.category] += 1
        self.first = min(self.first, phase.start)
        self.last = max(self.last, phase.stop)
        self.seconds += phase.seconds
        if phase.place.speed is Speed.FAST:
            self.fast.append((phase.start, phase.stop))

    @property
    def has_failed(self) -> bool:
        return bool(self.counts["failed"] or self.counts["error"])

    def counted(self) -> str:
        return " ".join(f"{self.counts[word]:{5 if word == 'passed' else 4}} {said}" for word, said in _COUNTED.items())

    def others(self) -> str:
        return "".join(f", {number} {word}" for word, number in self.counts.items() if word not in _COUNTED)


class Ledger:
    """The books of a run."""

    def __init__(self, options: TierOptions) -> None:
        self._options = options
        self._books: dict[Tier, _Book] = {}
        self._late: list[tuple[float, str]] = []
        self._remarks: dict[str, None] = {}
        self._crashed: list[str] = []

    def add(self, phase: Phase) -> None:
        """Take in what was reported."""
        if phase.place.tier is not None:
            self._books.setdefault(phase.place.tier, _Book()).add(phase)
        if phase.remark:
            self._remarks[f"{phase.test}: {phase.remark}"] = None
        if phase.is_call and (problem := over_limit(phase.place, phase.seconds, self._options)):
            self._late.append((phase.seconds, f"{phase.test}: {problem}"))

    def note_crash(self, test: str) -> None:
        """Take in a test that took its worker with it before anybody said of what tier it is."""
        self._crashed.append(f"{test}: failed: its worker crashed before it told the tier")

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
        told = [tier for tier in Tier if tier in self._books and self._books[tier].counts.total()]
        rows = [line for tier in told for line in self._rows(tier)]
        return (
            rows
            + self._cut_lines(told)
            + _some(list(self._remarks), "with marks that are not true")
            + _some(self._crashed, "whose worker crashed")
            + self._late_lines()
        )

    def _rows(self, tier: Tier) -> list[str]:
        book = self._books[tier]
        whole, *parts = self._spent(tier)
        rows = [f"{tier:16} {book.counted()}  {_of(*whole[1:])}, tests add up to {book.seconds:.1f} s{book.others()}"]
        return rows + [f"{name:16} {'':45}  {_of(spent, budget)}" for name, spent, budget in parts]

    def _spent(self, tier: Tier) -> list[tuple[str, float, float | None]]:
        """Return what each budget is held against: the tier's, and that of its fast tests where there is one."""
        book, budgets = self._books[tier], self._options.budgets
        spent: list[tuple[str, float, float | None]] = [(tier, max(0.0, book.last - book.first), budgets.get(tier))]
        part = f"{tier}.{Speed.FAST}"
        return [*spent, (part, busy_seconds(book.fast), budgets[part])] if book.fast and part in budgets else spent

    def _cut_lines(self, told: list[Tier]) -> list[str]:
        """Say why later tests were skipped."""
        failed = next((tier for tier in told if tier in self._options.fail_fast and self._books[tier].has_failed), None)
        if failed is None or failed is told[-1]:
            return []
        return [f"the {failed} tier failed: tests of later tiers were skipped from then on (pratique_fail_fast)"]

    def _late_lines(self) -> list[str]:
        late = sorted(self._late, key=lambda one: -one[0])
        return _some([text for _, text in late], "that took longer than they may")


def _some(lines: list[str], what: str) -> list[str]:
    """Return as many as can be read, and how many more there are."""
    more = len(lines) - _MAX_NAMED
    return lines[:_MAX_NAMED] + ([f"and {more} more {what}"] if more > 0 else [])


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
