"""Watches over one request from beside it: its client leaves, or a wait takes too long, and its task is ended.

One timer and one watching task for a whole request, however many chunks it has: a time-out around each chunk would
cost as much as sending it. A request that is over within 20 ms costs neither: one timer for all of them comes by later.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from typing import TYPE_CHECKING, Final, Self

from pratique.core.errors import EnvironmentFaultError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from starlette.types import Receive

__all__ = ["ClientLeftError", "ClientStalledError", "Rounds", "SilentModelError", "Vigil"]

_LOOK_AFTER_SECONDS: Final = 0.02
_BETWEEN_ROUNDS_SECONDS: Final = 0.01


class ClientLeftError(RefusedError):
    """The client closed its connection."""

    code = "client_left"


class ClientStalledError(RefusedError):
    """The client takes nothing."""

    code = "slow_reader"


class SilentModelError(EnvironmentFaultError):
    """The model server says nothing."""

    code = "timeout"


class Rounds:
    """Comes by each vigil once, 20 to 30 ms after it began. Belongs to the loop that it is made in."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[float, Vigil]] = deque()
        self._is_due = False

    def add(self, vigil: Vigil) -> float:
        """Come by later; return when that will be at the latest."""
        due = self.loop.time() + _LOOK_AFTER_SECONDS
        self._waiting.append((due, vigil))
        if not self._is_due:
            self._is_due = True
            self.loop.call_at(due, self._come_by)
        return due + _BETWEEN_ROUNDS_SECONDS

    def _come_by(self) -> None:
        now = self.loop.time()
        while self._waiting and self._waiting[0][0] <= now:
            self._waiting.popleft()[1].look()
        self._is_due = bool(self._waiting)
        if self._is_due:
            self.loop.call_later(_BETWEEN_ROUNDS_SECONDS, self._come_by)


class Vigil:
    """A context around the work of the current task; ends it by raising one of the errors above in its place."""

    def __init__(self, rounds: Rounds | None = None) -> None:
        """Begin; `rounds` are those of other requests, by default its own."""
        rounds = rounds or Rounds()
        self._loop = rounds.loop
        self._task = asyncio.current_task(self._loop)
        self._timer_at = rounds.add(self)
        self._timer: asyncio.TimerHandle | None = None
        self._receive: Receive | None = None
        self._due = math.inf
        self._pending: Callable[[], Exception] | None = None
        self._cause: Exception | None = None
        self._watching: asyncio.Task[None] | None = None
        self._is_long = False
        self._is_over = False

    def expect(self, seconds: float, otherwise: Callable[[], Exception]) -> None:
        """Give what comes next so long; this replaces what was expected before. `otherwise` makes the error."""
        self._due = self._loop.time() + seconds
        self._pending = otherwise
        if self._due < self._timer_at:
            self._arm()

    def watch(self, receive: Receive) -> None:
        """Watch whether the client leaves; its body must have been read."""
        self._receive = receive
        if self._is_long:
            self._look()

    def look(self) -> None:
        """See to it that the client is watched, and that what is expected does not take too long."""
        if self._is_over:
            return
        self._is_long = True
        self._look()
        if self._timer is None:
            self._ring()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over = True
        self._receive = None
        if self._timer is not None:
            self._timer.cancel()
        if self._watching is not None:
            self._watching.cancel()
        if self._cause is None or self._task is None:
            self._task = None
            return
        if error is None:
            # Ended in the very moment in which the work was done: the cancellation is still on its way.
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                self._task.uncancel()
            return
        if self._task.uncancel() == 0 and isinstance(error, asyncio.CancelledError):
            raise self._cause from error

    async def _client_left(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._end(ClientLeftError("The client left."))

    def _look(self) -> None:
        if self._watching is None and self._receive is not None:
            self._watching = self._loop.create_task(self._client_left(self._receive))

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = self._due
        self._timer = self._loop.call_at(self._due, self._ring) if self._due < math.inf else None

    def _ring(self) -> None:
        if self._loop.time() < self._due:
            # What was expected first has come; this is what is expected now.
            self._arm()
        elif self._pending is not None:
            self._end(self._pending())

    def _end(self, cause: Exception) -> None:
        if self._cause is None and self._task is not None:
            self._cause = cause
            self._task.cancel()
