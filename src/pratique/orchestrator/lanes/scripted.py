"""A burst lane out of a script, in memory: for tests of what spills, under the same contract as the real ones."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pratique.orchestrator.forward.interface import ForwardUnavailableError
from pratique.orchestrator.lanes.interface import BURST, BurstFullError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from pratique.orchestrator.forward.interface import ForwardRequest

__all__ = ["ScriptedAnswer", "ScriptedBurstLane"]


@dataclass(kw_only=True)
class ScriptedAnswer:
    """What one request gets: a head after `head_seconds`, pieces, and where it breaks off."""

    status: int = 200
    headers: Sequence[tuple[bytes, bytes]] = ((b"content-type", b"text/event-stream"),)
    pieces: Sequence[bytes] = (b"data: one\n\n", b"data: two\n\n")
    head_seconds: float = 0.0
    piece_seconds: float = 0.0
    fails_before_head: bool = False
    breaks_after: int | None = None
    lane: str = BURST
    has_ended: bool = False

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the pieces."""
        for number, piece in enumerate(self.pieces):
            if number == self.breaks_after:
                raise ForwardUnavailableError("The script breaks the answer off.")
            await asyncio.sleep(self.piece_seconds)
            yield piece
        self.has_ended = True


@dataclass(kw_only=True)
class ScriptedBurstLane:
    """Answers requests by its script, the same for each."""

    capacity: int = 4
    max_body_bytes: int = 2**20
    script: ScriptedAnswer = field(default_factory=ScriptedAnswer)
    requests: list[ForwardRequest] = field(default_factory=list)
    num_open: int = 0
    num_aborted: int = 0

    @property
    def num_free(self) -> int:
        """How many more it takes."""
        return self.capacity - self.num_open

    @asynccontextmanager
    async def open(self, request: ForwardRequest) -> AsyncIterator[ScriptedAnswer]:
        """Play the script."""
        if self.num_free <= 0:
            raise BurstFullError("The scripted lane is full.")
        self.requests.append(request)
        self.num_open += 1
        answer = ScriptedAnswer(**{**vars(self.script), "has_ended": False})
        try:
            await self._head(answer, request.timeout_seconds)
            yield answer
        finally:
            self.num_open -= 1
            self.num_aborted += not answer.has_ended

    async def _head(self, answer: ScriptedAnswer, timeout_seconds: float) -> None:
        try:
            async with asyncio.timeout(timeout_seconds):
                await asyncio.sleep(answer.head_seconds)
        except TimeoutError as error:
            raise ForwardUnavailableError("No head came in time.") from error
        if answer.fails_before_head:
            raise ForwardUnavailableError("The script fails before the head.")
