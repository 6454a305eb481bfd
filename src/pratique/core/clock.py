"""Time as a dependency: production reads the system's clocks, tests turn theirs by hand.

Deadlines and ages use `monotonic()` (seconds, arbitrary origin, never goes back); stored timestamps use
`epoch()` (seconds since 1970 UTC, which an operator can step).
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from typing import Protocol

__all__ = ["Clock", "ManualClock", "SystemClock"]


class Clock(Protocol):
    """Where a component gets the time from."""

    def monotonic(self) -> float: ...

    def epoch(self) -> float: ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The clocks of the operating system and the event loop."""

    def monotonic(self) -> float:
        return time.monotonic()

    def epoch(self) -> float:
        return time.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class ManualClock:
    """A clock that moves only when `advance` is called; sleepers wake in the order of their deadlines."""

    def __init__(self, *, epoch_seconds: float = 1_700_000_000.0) -> None:
        self._elapsed = 0.0
        self._epoch = epoch_seconds
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def monotonic(self) -> float:
        return self._elapsed

    def epoch(self) -> float:
        return self._epoch + self._elapsed

    async def sleep(self, seconds: float) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._elapsed + seconds, next(self._order), woken))
        await woken

    async def advance(self, seconds: float) -> None:
        """Move forward, waking each sleeper at its own deadline and letting it run before the next."""
        target = self._elapsed + seconds
        await _let_others_run()
        while self._sleepers and self._sleepers[0][0] <= target:
            deadline, _, woken = heapq.heappop(self._sleepers)
            self._elapsed = max(self._elapsed, deadline)
            if not woken.done():
                woken.set_result(None)
            await _let_others_run()
        self._elapsed = target
        await _let_others_run()


async def _let_others_run(rounds: int = 10) -> None:
    # One pass of the loop resumes a woken task; a few more let what it awaits in turn settle.
    for _ in range(rounds):
        await asyncio.sleep(0)
