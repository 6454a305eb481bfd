"""The time-outs of one attempt: first token, between tokens, and the whole. They hold for every kind of upstream.

A server that says it took the prompt has not answered yet: only text, or the end, counts as a first token.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from pratique.orchestrator.upstream.interface import (
    TimeoutPhase,
    UpstreamEvent,
    UpstreamStart,
    UpstreamTimeoutError,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from pratique.orchestrator.upstream.interface import Upstream, UpstreamRequest, UpstreamStream

__all__ = ["Deadlines", "UpstreamWithDeadlines"]


@dataclass(frozen=True, kw_only=True)
class Deadlines:
    """In seconds, of the event loop's clock."""

    first_token_seconds: float = 10.0
    """From sending the request to its first text; a request may say less, never more."""
    inter_token_seconds: float = 10.0


class UpstreamWithDeadlines:
    """Any upstream, with UpstreamTimeoutError where it takes too long."""

    def __init__(self, upstream: Upstream, deadlines: Deadlines) -> None:
        self._upstream = upstream
        self._deadlines = deadlines

    def open(self, request: UpstreamRequest) -> UpstreamStream:
        first_text = self._deadlines.first_token_seconds
        if request.first_text_seconds is not None:
            first_text = min(first_text, request.first_text_seconds)
        deadlines = replace(self._deadlines, first_token_seconds=first_text)
        return _TimedStream(self._upstream.open(request), deadlines, request.timeout_seconds)

    async def aclose(self) -> None:
        await self._upstream.aclose()


class _TimedStream:
    def __init__(self, stream: UpstreamStream, deadlines: Deadlines, reply_seconds: float) -> None:
        self._stream = stream
        self._deadlines = deadlines
        self._reply_seconds = reply_seconds
        self._reply_until = 0.0
        self._phase_until = 0.0
        self._phase = TimeoutPhase.FIRST_TOKEN
        self._loop = asyncio.get_running_loop()
        self._watch = _Watch(self._loop)

    async def __aenter__(self) -> Self:
        now = self._loop.time()
        self._reply_until = now + self._reply_seconds
        self._begin_wait(now + self._deadlines.first_token_seconds)
        try:
            with self._watch:
                await self._stream.__aenter__()
        except BaseException as error:
            self._watch.stop()
            if isinstance(error, _LateError):
                raise self._timed_out() from error
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watch.stop()
        await self._stream.__aexit__(kind, error, trace)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> UpstreamEvent:
        try:
            with self._watch:
                event = await self._stream.__anext__()
        except _LateError as error:
            raise self._timed_out() from error
        if not isinstance(event, UpstreamStart):
            self._phase = TimeoutPhase.INTER_TOKEN
            self._begin_wait(self._loop.time() + self._deadlines.inter_token_seconds)
        return event

    def hand_on(self, take: Callable[[str], bool]) -> None:
        seconds, now = self._deadlines.inter_token_seconds, self._loop.time

        def take_in_time(text: str) -> bool:
            if not take(text):
                return False
            self._begin_wait(now() + seconds)
            return True

        self._stream.hand_on(take_in_time)

    def _begin_wait(self, until: float) -> None:
        self._phase_until = until
        self._watch.until(min(self._reply_until, until))

    def _timed_out(self) -> UpstreamTimeoutError:
        phase = TimeoutPhase.REPLY if self._reply_until <= self._phase_until else self._phase
        return UpstreamTimeoutError(f"The model server took too long ({phase.value}).", phase=phase)


class _LateError(Exception):
    """The step that was guarded did not end in time."""


class _Watch:
    """A context that ends the step within it at its deadline, by cancelling it as `asyncio.timeout` does.

    One timer for the whole stream: a token moves the deadline on, and the timer looks only when it fires whether it was
    moved. A timer set and cancelled for each token was most of what a token cost; so are coroutines around each step.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._until = 0.0
        self._armed_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._running: asyncio.Task[Any] | None = None
        self._num_cancels = 0
        self._has_fired = False

    def until(self, when: float) -> None:
        """Move the deadline, in the loop's time."""
        self._until = when
        if self._timer is None or when < self._armed_at:
            self._arm()

    def stop(self) -> None:
        """Watch no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def __enter__(self) -> None:
        task = self._running = asyncio.current_task(self._loop)
        assert task is not None  # noqa: S101 - narrows the type: a coroutine runs in a task
        self._num_cancels = task.cancelling()
        if self._timer is None:
            # It fired while nothing ran that it could end.
            self._arm()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the step. Raises _LateError where the deadline came first."""
        task, self._running = self._running, None
        if not self._has_fired or task is None:
            return
        self._has_fired = False
        # Ours is taken back; who else cancelled is obeyed.
        if task.uncancel() <= self._num_cancels and isinstance(error, asyncio.CancelledError):
            raise _LateError from error

    def _arm(self) -> None:
        self.stop()
        self._armed_at = self._until
        self._timer = self._loop.call_at(self._until, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._loop.time() < self._until:
            self._arm()
        elif self._running is not None and not self._has_fired:
            self._has_fired = True
            self._running.cancel()
