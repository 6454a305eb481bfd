"""One writer of a tag at a time: in turn within this process, by leases among processes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final

from pratique.release.registry.front.answers import Refusal
from pratique.release.registry.front.state import FrontState

__all__ = ["Hold", "TagLocks"]

_POLL_SECONDS: Final = 0.02


@dataclass
class _Turn:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    num_waiting: int = 0


@dataclass
class Hold:
    """A tag that is held."""

    until: float
    """Seconds (monotonic); what begins must be able to end before."""
    is_in_doubt: bool = False
    """Set while the registry may or may not have written."""

    def require_left(self, seconds: float) -> None:
        """Refuse to begin what could end too late."""
        if time.monotonic() + seconds > self.until:
            raise Refusal(503, "UNAVAILABLE", "the registry is too slow to write safely", headers={"Retry-After": "5"})


class TagLocks:
    """The locks of one front."""

    def __init__(self, state: FrontState, *, wait_seconds: float) -> None:
        self._state = state
        self._wait_seconds = wait_seconds
        self._turns: dict[str, _Turn] = {}

    @contextlib.asynccontextmanager
    async def hold(self, repository: str, tag: str) -> AsyncIterator[Hold]:
        """Hold a tag.

        Raises:
            Refusal: others hold it for too long, or it is not known whether a write of before arrived.
        """
        name = f"{repository}:{tag}"
        turn = self._turns.setdefault(name, _Turn())
        turn.num_waiting += 1
        try:
            async with contextlib.AsyncExitStack() as stack:
                hold = await self._entered(stack, turn, name)
                try:
                    yield hold
                finally:
                    end = self._state.keep_closed if hold.is_in_doubt else self._state.give_back
                    await asyncio.shield(asyncio.to_thread(end, name))
        finally:
            turn.num_waiting -= 1
            if not turn.num_waiting:
                self._turns.pop(name, None)

    async def _entered(self, stack: contextlib.AsyncExitStack, turn: _Turn, name: str) -> Hold:
        try:
            async with asyncio.timeout(self._wait_seconds):
                await stack.enter_async_context(turn.lock)
                return Hold(await self._lease(name))
        except TimeoutError as error:
            message = f"'{name}' is being written, or it is in doubt whether a write of it arrived"
            raise Refusal(503, "UNAVAILABLE", message, headers={"Retry-After": "5"}) from error

    async def _lease(self, name: str) -> float:
        while True:
            # Shielded: a lease that is taken while the wait ends must be known to somebody.
            taking = asyncio.ensure_future(asyncio.to_thread(self._state.take, name))
            try:
                until = await asyncio.shield(taking)
            except asyncio.CancelledError:
                if await taking is not None:
                    await asyncio.to_thread(self._state.give_back, name)
                raise
            if until is not None:
                return until
            await asyncio.sleep(_POLL_SECONDS)
