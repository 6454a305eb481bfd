"""Whether to ask L2, decided from how it answered lately. Pure.

Closed: everybody asks. After some failures in a row it opens: nobody asks, so that no read waits for a time-out. When
the pause is over one caller asks; its success closes the breaker, its failure doubles the pause.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pratique.core.clock import Clock

__all__ = ["Breaker"]


class Breaker:
    """Counts failures in a row."""

    def __init__(self, *, clock: Clock, failures: int, pause_seconds: float, max_pause_seconds: float) -> None:
        self._clock = clock
        self._failures = failures
        self._first_pause_seconds = pause_seconds
        self._max_pause_seconds = max_pause_seconds
        self._pause_seconds = pause_seconds
        self._in_a_row = 0
        self._open_until: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether L2 counts as down, the one trial included."""
        return self._open_until is not None

    def may_ask(self) -> bool:
        """Whether this caller may ask now. A yes while open makes this caller the trial, for one pause's length."""
        if self._open_until is None:
            return True
        now = self._clock.monotonic()
        if now < self._open_until:
            return False
        # Whoever asks next waits another pause: a trial that never reports back must not leave it open for ever.
        self._open_until = now + self._pause_seconds
        return True

    def succeeded(self) -> None:
        """L2 answered."""
        self._in_a_row = 0
        self._open_until = None
        self._pause_seconds = self._first_pause_seconds

    def failed(self) -> None:
        """L2 did not answer."""
        self._in_a_row += 1
        if self._open_until is not None:
            self._pause_seconds = min(self._pause_seconds * 2, self._max_pause_seconds)
        if self._in_a_row >= self._failures:
            self._open_until = self._clock.monotonic() + self._pause_seconds
