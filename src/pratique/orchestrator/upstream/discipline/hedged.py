"""A second attempt beside one that is late; the first to speak answers, the other is aborted. Off by default.

Only before any text of a reply was seen, only once what "late" means is known, and only on the retry budget: a pool
that is slow because it has too much to do is not given twice as much.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from pratique.orchestrator.upstream.interface import (
    RetryRefusedError,
    UpstreamEvent,
    UpstreamInterruptedError,
    UpstreamStart,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from pratique.core.clock import Clock
    from pratique.orchestrator.upstream.discipline.instruments import DownstreamInstruments
    from pratique.orchestrator.upstream.discipline.latency import LatePoint
    from pratique.orchestrator.upstream.discipline.upstream import DisciplinedUpstream
    from pratique.orchestrator.upstream.interface import Upstream, UpstreamRequest, UpstreamStream

__all__ = ["HedgedUpstream"]


class HedgedUpstream:
    """A disciplined pool, asked twice where it is late."""

    def __init__(
        self, upstream: DisciplinedUpstream, late: LatePoint, *, clock: Clock, instruments: DownstreamInstruments
    ) -> None:
        self._upstream = upstream
        self._late = late
        self._clock = clock
        self._instruments = instruments
        upstream.on_first_text(late.observe)

    def open(self, request: UpstreamRequest) -> UpstreamStream:
        late_seconds = self._late.seconds
        if late_seconds is None or request.prefix or request.is_retry:
            return self._upstream.open(request)
        return _HedgedStream(self, request, late_seconds)

    async def aclose(self) -> None:
        await self._upstream.aclose()

    def contend(self, request: UpstreamRequest) -> _Contender:
        return _Contender(self._upstream, request)

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)

    def count(self, result: str) -> None:
        self._instruments.hedges.labels(pool=self._upstream.pool, result=result).inc()


class _Contender:
    """One of the two attempts: runs until it speaks, keeping what it said."""

    def __init__(self, upstream: Upstream, request: UpstreamRequest) -> None:
        self.events: deque[UpstreamEvent] = deque()
        self.stream = upstream.open(request)
        self.speaking = asyncio.ensure_future(self._speak())
        self._is_entered = False

    async def _speak(self) -> None:
        await self.stream.__aenter__()
        self._is_entered = True
        while True:
            event = await self.stream.__anext__()
            self.events.append(event)
            if not isinstance(event, UpstreamStart):
                return

    async def abort(self) -> None:
        self.speaking.cancel()
        try:
            await asyncio.gather(self.speaking, return_exceptions=True)
        finally:
            if self._is_entered:
                self._is_entered = False
                await self.stream.__aexit__(None, None, None)


class _HedgedStream:
    def __init__(self, owner: HedgedUpstream, request: UpstreamRequest, late_seconds: float) -> None:
        self._owner = owner
        self._request = request
        self._late_seconds = late_seconds
        self._contenders: list[_Contender] = []
        self._winner: _Contender | None = None

    async def __aenter__(self) -> Self:
        try:
            self._winner = await self._race()
            await self._abort_all(but=self._winner)
        except BaseException:
            # Nobody leaves what was not entered: the winner too, where this ends while the other is being aborted.
            await self._abort_all(but=None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._abort_all(but=None)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> UpstreamEvent:
        if self._winner is None:
            raise UpstreamInterruptedError("The stream was not opened.")
        if self._winner.events:
            return self._winner.events.popleft()
        return await self._winner.stream.__anext__()

    def hand_on(self, take: Callable[[str], bool]) -> None:
        if self._winner is not None and not self._winner.events:
            self._winner.stream.hand_on(take)

    async def _race(self) -> _Contender:
        """Return who spoke first; raise the first attempt's error where nobody did."""
        first = self._begin(self._request)
        late = asyncio.ensure_future(self._owner.sleep(self._late_seconds))
        try:
            await asyncio.wait({first.speaking, late}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            late.cancel()
        if first.speaking.done():
            first.speaking.result()
            return first
        second = self._begin(self._second_request())
        running = {first.speaking, second.speaking}
        while running:
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for contender in (first, second):
                if contender.speaking in done and contender.speaking.exception() is None:
                    self._owner.count("won" if contender is second else "lost")
                    return contender
        self._owner.count(_result_of(second.speaking.exception()))
        raise first.speaking.exception() or UpstreamInterruptedError("Neither attempt spoke.")

    def _begin(self, request: UpstreamRequest) -> _Contender:
        contender = self._owner.contend(request)
        self._contenders.append(contender)
        return contender

    def _second_request(self) -> UpstreamRequest:
        request = self._request
        left = request.first_text_seconds
        return replace(
            request,
            # Another place on the ring: the late one is likely late for this conversation again.
            affinity=f"{request.affinity or request.conversation_id}-hedge",
            request_id=f"{request.request_id}-hedge",
            is_retry=True,
            timeout_seconds=max(0.001, request.timeout_seconds - self._late_seconds),
            first_text_seconds=None if left is None else max(0.001, left - self._late_seconds),
        )

    async def _abort_all(self, *, but: _Contender | None) -> None:
        aborted = [contender for contender in self._contenders if contender is not but]
        self._contenders = [contender for contender in self._contenders if contender is but]
        async with AsyncExitStack() as stack:
            # All of them, whatever happens to one on the way.
            for contender in aborted:
                stack.push_async_callback(contender.abort)


def _result_of(error: BaseException | None) -> str:
    return "refused" if isinstance(error, RetryRefusedError) else "failed"
