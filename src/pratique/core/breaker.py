"""Whether to ask a peer, decided from how it answered lately: a circuit breaker. Pure but for its clock.

closed → (failures in a row, or too large a share of them in a window) open → (the pause is over) half-open → (the
trial succeeds) closed | (it fails) open, with the pause doubled up to its bound.

Closed: everybody asks. Open: nobody does, so that no caller waits for what fails anyway. Half-open: one caller asks.
Only what says something about the peer is reported: neither a request that the peer refused for good reasons nor one
whose caller left is a failure. A call from before the opening that ends while the trial is out may be taken for the
trial: it says as much about the peer. Source of the pattern: M. Nygard, "Release It!", 2007.

Owned by one event loop: no call here awaits.
"""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pratique.core.clock import Clock

__all__ = ["Breaker", "BreakerState", "FailureShare"]

_SLICES: Final = 10
"""Of a window: what is older than it is forgotten a tenth at a time."""


class BreakerState(enum.Enum):
    """Who may ask. The values are what metrics show."""

    CLOSED = 0
    HALF_OPEN = 1
    """The pause is over: the next caller is the trial, or it is out already."""
    OPEN = 2


@dataclass(frozen=True, kw_only=True)
class FailureShare:
    """Opens the breaker where this share of at least `min_calls` calls failed within the window."""

    share: float = 0.5
    min_calls: int = 20
    window_seconds: float = 10.0


class Breaker:
    """Counts failures in a row, and in a window where a `share` is given."""

    def __init__(
        self,
        *,
        clock: Clock,
        failures: int,
        pause_seconds: float,
        max_pause_seconds: float,
        share: FailureShare | None = None,
        trial_seconds: float | None = None,
    ) -> None:
        """Begin closed.

        Args:
            clock: its monotonic time is read, never waited for.
            failures: so many in a row open it.
            pause_seconds: for so long nobody asks; doubled with each trial that fails.
            max_pause_seconds: the longest pause.
            share: also opens it, where given.
            trial_seconds: a trial that was not heard of for so long is followed by another. By default one pause.
        """
        self._clock = clock
        self._failures = failures
        self._first_pause_seconds = pause_seconds
        self._max_pause_seconds = max_pause_seconds
        self._pause_seconds = pause_seconds
        self._trial_seconds = trial_seconds
        self._in_a_row = 0
        self._window = _Window(share) if share is not None else None
        self._open_until: float | None = None
        self._has_trial = False

    @property
    def is_open(self) -> bool:
        """Whether the peer counts as down, the one trial included."""
        return self._open_until is not None

    @property
    def state(self) -> BreakerState:
        if self._open_until is None:
            return BreakerState.CLOSED
        is_due = self._has_trial or self._clock.monotonic() >= self._open_until
        return BreakerState.HALF_OPEN if is_due else BreakerState.OPEN

    @property
    def retry_after_seconds(self) -> float:
        """Until it is worth asking again; 0 where that is now."""
        if self._open_until is None:
            return 0.0
        # While the trial is out: it is likely back long before another one is due.
        return min(max(0.0, self._open_until - self._clock.monotonic()), self._pause_seconds)

    def may_ask(self) -> bool:
        """Whether this caller may ask now. A yes while open makes this caller the trial."""
        if self._open_until is None:
            return True
        now = self._clock.monotonic()
        if now < self._open_until:
            return False
        # A trial that never reports back must not leave it open for ever.
        self._open_until = now + (self._trial_seconds or self._pause_seconds)
        self._has_trial = True
        return True

    def succeeded(self) -> None:
        """The peer answered."""
        self._in_a_row = 0
        self._has_trial = False
        self._pause_seconds = self._first_pause_seconds
        if self._open_until is not None and self._window is not None:
            # What was counted before it was down says nothing about it now.
            self._window.clear()
        self._open_until = None
        if self._window is not None:
            self._window.count(self._clock.monotonic(), is_failure=False)

    def failed(self) -> None:
        """The peer did not answer as it should."""
        now = self._clock.monotonic()
        self._in_a_row += 1
        if self._window is not None:
            self._window.count(now, is_failure=True)
        if self._open_until is not None:
            if not self._has_trial:
                # Begun before it opened: old news, which must not make the pause longer.
                return
            self._has_trial = False
            self._pause_seconds = min(self._pause_seconds * 2, self._max_pause_seconds)
            self._open_until = now + self._pause_seconds
        elif self._in_a_row >= self._failures or (self._window is not None and self._window.is_bad(now)):
            self._open_until = now + self._pause_seconds

    def abandoned(self) -> None:
        """A call ended without a word about the peer; where it was the trial, the next caller is."""
        if self._has_trial:
            self._has_trial = False
            self._open_until = self._clock.monotonic()


class _Window:
    """Calls and failures of the last seconds, in slices."""

    def __init__(self, share: FailureShare) -> None:
        self._share = share
        self._slice_seconds = share.window_seconds / _SLICES
        self._slices: deque[list[int]] = deque()
        """Number of the slice, calls, failures."""

    def count(self, now: float, *, is_failure: bool) -> None:
        number = self._forget(now)
        if not self._slices or self._slices[-1][0] != number:
            self._slices.append([number, 0, 0])
        self._slices[-1][1] += 1
        self._slices[-1][2] += is_failure

    def is_bad(self, now: float) -> bool:
        self._forget(now)
        num_calls = sum(entry[1] for entry in self._slices)
        num_failures = sum(entry[2] for entry in self._slices)
        return num_calls >= self._share.min_calls and num_failures >= self._share.share * num_calls

    def clear(self) -> None:
        self._slices.clear()

    def _forget(self, now: float) -> int:
        number = int(now / self._slice_seconds)
        while self._slices and self._slices[0][0] <= number - _SLICES:
            self._slices.popleft()
        return number
