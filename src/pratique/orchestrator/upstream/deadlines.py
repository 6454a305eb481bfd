"""The time-outs of one attempt: first token, between tokens, and the whole. They hold for every kind of upstream.

A server that says it took the prompt has not answered yet: only text, or the end, counts as a first token.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self, TypeVar

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

    async def __aenter__(self) -> Self:
        now = asyncio.get_running_loop().time()
        self._reply_until = now + self._reply_seconds
        self._phase_until = now + self._deadlines.first_token_seconds
        await self._in_time(self._stream.__aenter__())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stream.__aexit__(kind, error, trace)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> UpstreamEvent:
        event = await self._in_time(self._stream.__anext__())
        if not isinstance(event, UpstreamStart):
            self._phase = TimeoutPhase.INTER_TOKEN
            self._phase_until = asyncio.get_running_loop().time() + self._deadlines.inter_token_seconds
        return event

    async def _in_time(self, step: Awaitable[T]) -> T:
        is_reply_first = self._reply_until <= self._phase_until
        phase = TimeoutPhase.REPLY if is_reply_first else self._phase
        scope = asyncio.timeout_at(min(self._reply_until, self._phase_until))
        try:
            async with scope:
                return await step
        except TimeoutError as error:
            if not scope.expired():
                raise
            raise UpstreamTimeoutError(f"The model server took too long ({phase.value}).", phase=phase) from error
