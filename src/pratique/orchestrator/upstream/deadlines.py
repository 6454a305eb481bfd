"""The time-outs of one attempt: first token, between tokens, and the whole. They hold for every kind of upstream.

A server that says it took the prompt has not answered yet: only text, or the end, counts as a first token.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self, TypeVar

from pratique.orchestrator.upstream.interface import (
    TimeoutPhase,
    UpstreamEvent,
    UpstreamStart,
    UpstreamTimeoutError,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from types import TracebackType

    from pratique.orchestrator.upstream.interface import Upstream, UpstreamRequest, UpstreamStream

__all__ = ["Deadlines", "UpstreamWithDeadlines"]

T = TypeVar("T")


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
        self._watch = _Watch()

    async def __aenter__(self) -> Self:
        now = asyncio.get_running_loop().time()
        self._reply_until = now + self._reply_seconds
        self._begin_wait(now + self._deadlines.first_token_seconds)
        try:
            await self._in_time(self._stream.__aenter__())
        except BaseException:
            self._watch.stop()
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
        event = await self._in_time(self._stream.__anext__())
        if not isinstance(event, UpstreamStart):
            self._phase = TimeoutPhase.INTER_TOKEN
            self._begin_wait(asyncio.get_running_loop().time() + self._deadlines.inter_token_seconds)
        return event

    def _begin_wait(self, until: float) -> None:
        self._phase_until = until
        self._watch.until(min(self._reply_until, until))

    async def _in_time(self, step: Awaitable[T]) -> T:
        try:
            return await self._watch.guard(step)
        except _LateError as error:
            phase = TimeoutPhase.REPLY if self._reply_until <= self._phase_until else self._phase
            raise UpstreamTimeoutError(f"The model server took too long ({phase.value}).", phase=phase) from error


class _LateError(Exception):
    """The step that was guarded did not end in time."""


class _Watch:
    """Ends the step that runs at its deadline, by cancelling it as `asyncio.timeout` does.

    One timer for the whole stream: a token moves the deadline on, and the timer looks only when it fires whether it was
    moved. A timer set and cancelled for each token was most of what a token cost.
    """

    def __init__(self) -> None:
        self._until = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._running: asyncio.Task[Any] | None = None
        self._has_fired = False

    def until(self, when: float) -> None:
        """Move the deadline, in the loop's time."""
        self._until = when
        if self._timer is None or when < self._timer.when():
            self._arm()

    def stop(self) -> None:
        """Watch no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def guard(self, step: Awaitable[T]) -> T:
        """Await a step.

        Raises:
            _LateError: the deadline came first.
        """
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - narrows the type: a coroutine runs in a task
        num_cancels = task.cancelling()
        self._running = task
        if self._timer is None:
            # It fired while nothing ran that it could end.
            self._arm()
        try:
            return await step
        except asyncio.CancelledError as error:
            # Ours is taken back below; who else cancelled is obeyed.
            if self._has_fired and task.cancelling() - 1 <= num_cancels:
                raise _LateError from error
            raise
        finally:
            self._running = None
            if self._has_fired:
                task.uncancel()
                self._has_fired = False

    def _arm(self) -> None:
        self.stop()
        self._timer = asyncio.get_running_loop().call_at(self._until, self._look)

    def _look(self) -> None:
        self._timer = None
        if asyncio.get_running_loop().time() < self._until:
            self._arm()
        elif self._running is not None and not self._has_fired:
            self._has_fired = True
            self._running.cancel()
