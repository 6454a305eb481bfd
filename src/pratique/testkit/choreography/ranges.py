"""What a number may be, in assertions: exactly, at least, at most, between."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pratique.testkit.errors import TestkitUsageError

__all__ = ["Range", "as_range", "at_least", "at_most", "between"]


@dataclass(frozen=True)
class Range:
    """Both ends belong to it."""

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def __str__(self) -> str:
        if self.low == self.high:
            return f"{self.low:g}"
        if self.high == math.inf:
            return f"at least {self.low:g}"
        return f"at most {self.high:g}" if self.low == 0 else f"{self.low:g} to {self.high:g}"


def between(low: float, high: float) -> Range:
    """Return what is not less than one and not more than the other: a count, or seconds."""
    if not 0 <= low <= high:
        raise TestkitUsageError(f"between({low!r}, {high!r}) has nothing in it.", hint="Expected 0 <= low <= high.")
    return Range(low, high)


def at_least(low: float) -> Range:
    """Return so many or so much, or more."""
    return between(low, math.inf)


def at_most(high: float) -> Range:
    """Return so many or so much, or less."""
    return between(0, high)


def as_range(value: float | Range) -> Range:
    """Return a plain number as the range that has only it."""
    return value if isinstance(value, Range) else between(value, value)
