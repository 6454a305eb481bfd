"""The places of the baseline lane: so many requests at a time, and a short line before it, first come first served."""

from __future__ import annotations

import asyncio
from collections import deque

__all__ = ["Places"]


class Places:
    """Call `enter`, and `leave` once for each time that it returned."""

    def __init__(self, *, max_in_flight: int, max_wait_seconds: float) -> None:
        self.in_flight = 0
        self._max_in_flight = max_in_flight
        self._max_wait_seconds = max_wait_seconds
        self._line: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        """How many stand in line. The caller keeps this bounded: whoever should not wait does not enter."""
        return len(self._line)

    async def enter(self) -> None:
        """Take a place; waits for one.

        Raises:
            TimeoutError: none became free in time.
        """
        if self.in_flight < self._max_in_flight:
            self.in_flight += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        try:
            async with asyncio.timeout(self._max_wait_seconds):
                await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self.leave()  # the place was handed over just as the wait ended
            elif turn in self._line:
                self._line.remove(turn)
            raise

    def leave(self) -> None:
        """Give the place back: to the first in line, where there is one."""
        while self._line:
            turn = self._line.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.in_flight -= 1
