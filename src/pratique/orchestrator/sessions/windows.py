"""The windows in which a replica's replies are written: the same for all of them, by one timer.

What is written in one window is asked for at one moment, so the log can take all of it in one round trip; and a timer
and a task for each reply, forty times a second, were more work than what they were for.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Windows"]


class Windows:
    """Calls back at the end of the window that runs. Windows begin at multiples of their length, in the loop's time."""

    def __init__(self, seconds: float) -> None:
        """Make windows of `seconds`; with 0 each ends at once."""
        self._seconds = seconds
        self._waiting: list[Callable[[], None]] = []
        self._end = 0.0

    def at_end(self, callback: Callable[[], None]) -> None:
        """Call back when the window that runs is over; the callback must not raise."""
        self._waiting.append(callback)
        if len(self._waiting) == 1:
            self._arm()

    def _arm(self) -> None:
        loop = asyncio.get_running_loop()
        if self._seconds <= 0:
            loop.call_soon(self._over)
            return
        # A loop's timer may fire a little early: the window that it was for is over all the same.
        self._end = (max(loop.time(), self._end) // self._seconds + 1) * self._seconds
        loop.call_at(self._end, self._over)

    def _over(self) -> None:
        waiting, self._waiting = self._waiting, []
        for callback in waiting:
            callback()
