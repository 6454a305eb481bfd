"""One invocation of a local worker: an event out, an answer in, bounded on the way."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

import msgspec

from pratique.orchestrator.forward.interface import ForwardUnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

__all__ = ["Invocation", "failure_of"]

_MAX_PIECES: Final = 32
"""Of at most 64 KiB each: what an answer's reader may be behind before its worker has to wait."""


class _Error(msgspec.Struct, frozen=True, rename="camel"):
    error_type: str = "Error"
    error_message: str = ""


class Invocation:
    """The answer's writer calls `begin`, `put`, `finish`; its reader awaits `head` and then `pieces`."""

    def __init__(self, invocation_id: str, event: bytes, *, deadline: float, deadline_epoch: float) -> None:
        self.id = invocation_id
        self.event = event
        self.deadline_epoch = deadline_epoch
        self.is_over = False
        """The worker is done with it, one way or the other."""
        self._deadline = deadline
        self._content_type: str | None = None
        self._pieces: deque[bytes] = deque()
        self._failure = ""
        self._changed = asyncio.Event()
        self._has_room = asyncio.Event()

    def begin(self, content_type: str) -> None:
        """The answer begins."""
        self._content_type = content_type
        self._changed.set()

    async def put(self, piece: bytes) -> None:
        """Add bytes; waits while the reader is too far behind."""
        while len(self._pieces) >= _MAX_PIECES and not self.is_over:
            self._has_room.clear()
            await self._has_room.wait()
        self._pieces.append(piece)
        self._changed.set()

    def finish(self, failure: str) -> None:
        """The answer ends, well where `failure` is empty; the first end counts."""
        if not self.is_over:
            self.is_over = True
            self._failure = failure
            self._changed.set()
            self._has_room.set()

    async def head(self) -> str:
        """Return the content type when the answer begins.

        Raises:
            ForwardUnavailableError: it failed before that, or the time is up.
        """
        while self._content_type is None:
            if self.is_over:
                raise ForwardUnavailableError(f"A burst worker failed: {self._failure}")
            await self._change()
        return self._content_type

    async def pieces(self) -> AsyncGenerator[bytes]:
        """Yield the bytes as they come. Raises ForwardUnavailableError where they break off."""
        while True:
            while self._pieces:
                piece = self._pieces.popleft()
                self._has_room.set()
                yield piece
            if self.is_over:
                break
            await self._change()
        if self._failure:
            raise ForwardUnavailableError(f"The answer of a burst worker broke off: {self._failure}")

    async def _change(self) -> None:
        self._changed.clear()
        try:
            async with asyncio.timeout_at(self._deadline):
                await self._changed.wait()
        except TimeoutError as error:
            raise ForwardUnavailableError("A burst worker took too long.") from error


def failure_of(body: bytes) -> str:
    """Return what an error that a runtime posts says."""
    try:
        error = msgspec.json.decode(body, type=_Error)
    except (msgspec.DecodeError, UnicodeError):
        return "It reported an error that cannot be read."
    return f"{error.error_type}: {error.error_message}"[:500]
