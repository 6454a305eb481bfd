"""A model server out of a script: what each attempt sends, in order. For tests, and for a look without a model.

Without a script it echoes: numbered words that are a function of the query, continued exactly after the prefix, so
that a lost or doubled piece shows.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, TypeAlias

from pratique.orchestrator.upstream.interface import (
    UpstreamEnd,
    UpstreamEvent,
    UpstreamInterruptedError,
    UpstreamStart,
    UpstreamToken,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import TracebackType

    from pratique.orchestrator.upstream.interface import UpstreamRequest, UpstreamStream

__all__ = ["Hang", "Pause", "ScriptedUpstream", "Step", "echo_script", "echo_text"]


@dataclass(frozen=True)
class Pause:
    """Wait before the next step."""

    seconds: float


@dataclass(frozen=True)
class Hang:
    """Say nothing for ever."""


Step: TypeAlias = UpstreamEvent | Exception | Pause | Hang | asyncio.Event
"""An event to send, an error to raise, a pause, silence, or a gate that the test opens."""


def echo_text(query: str, *, words: int = 20) -> str:
    """Return the whole text that the echo says to `query`."""
    said = query.split()[:5] or ["nothing"]
    return " ".join(f"{said[index % len(said)]}-{index}" for index in range(words))


def echo_script(
    request: UpstreamRequest, *, words: int = 20, pause_seconds: float = 0.0, model: str = "echo"
) -> list[Step]:
    """Return the steps that say what is left of the echo after the request's prefix, a word at a time."""
    rest = echo_text(request.query, words=words).removeprefix(request.prefix)
    pieces = [piece for piece in rest.replace(" ", "\0 ").split("\0") if piece]
    is_cut = len(pieces) > request.max_tokens
    pieces = pieces[: request.max_tokens]
    steps: list[Step] = [UpstreamStart(model=model, prompt_tokens=len(request.query.split()))]
    for piece in pieces:
        if pause_seconds:
            steps.append(Pause(pause_seconds))
        steps.append(UpstreamToken(piece))
    steps.append(
        UpstreamEnd(
            finish_reason="length" if is_cut else "stop",
            prompt_tokens=len(request.query.split()),
            completion_tokens=len(pieces),
        )
    )
    return steps


class ScriptedUpstream:
    """Plays one script per attempt, then echoes. Remembers what was asked, and which attempts were aborted."""

    def __init__(self, scripts: Iterable[Sequence[Step]] = (), *, words: int = 20, pause_seconds: float = 0.0) -> None:
        self._scripts = deque(scripts)
        self._words = words
        self._pause_seconds = pause_seconds
        self.requests: list[UpstreamRequest] = []
        self.aborted: list[str] = []
        self.was_aborted = asyncio.Event()

    def open(self, request: UpstreamRequest) -> UpstreamStream:
        self.requests.append(request)
        if self._scripts:
            return _ScriptedStream(self, request, self._scripts.popleft())
        return _ScriptedStream(
            self, request, echo_script(request, words=self._words, pause_seconds=self._pause_seconds)
        )

    async def aclose(self) -> None:
        self._scripts.clear()


class _ScriptedStream:
    def __init__(self, owner: ScriptedUpstream, request: UpstreamRequest, steps: Sequence[Step]) -> None:
        self._owner = owner
        self._request = request
        self._steps = deque(steps)
        self._is_over = False
        self._take_text: Callable[[str], bool] | None = None

    async def __aenter__(self) -> Self:
        # An error before the first event is one that the request itself is answered with.
        if self._steps and isinstance(self._steps[0], Exception):
            self._is_over = True
            raise self._steps[0]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._is_over:
            self._owner.aborted.append(self._request.request_id)
            self._owner.was_aborted.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> UpstreamEvent:
        while self._steps:
            event = await self._take(self._steps.popleft())
            if isinstance(event, UpstreamToken) and self._take_text is not None and self._take_text(event.text):
                continue
            if event is not None:
                self._take_text = None
                self._is_over = isinstance(event, UpstreamEnd)
                return event
        if self._is_over:
            raise StopAsyncIteration
        self._is_over = True
        raise UpstreamInterruptedError("The script ends here, without an end of the reply.")

    def hand_on(self, take: Callable[[str], bool]) -> None:
        self._take_text = take

    async def _take(self, step: Step) -> UpstreamEvent | None:
        if isinstance(step, Exception):
            self._is_over = True
            raise step
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
        elif isinstance(step, Hang):
            await asyncio.Event().wait()
        elif isinstance(step, asyncio.Event):
            await step.wait()
        else:
            return step
        return None
