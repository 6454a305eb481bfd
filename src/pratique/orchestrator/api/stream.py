"""Sends events to one client, in order, bounded: the common half of every streaming transport.

What waits to be sent is bounded in bytes. A client that is caught up and then reads too slowly is cut, and resumes from
the log; one that is still being sent what it missed sets the pace instead, as long as it takes anything at all.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from pratique.core.errors import RefusedError
from pratique.orchestrator.protocol.encode import encode_event
from pratique.orchestrator.protocol.events import GoingAway, Heartbeat

if TYPE_CHECKING:
    from pratique.core.ids import GenerationId
    from pratique.orchestrator.api.runtime import Runtime
    from pratique.orchestrator.protocol.events import ServerEvent
    from pratique.orchestrator.sessions.feed import Feed

__all__ = ["CloseConnectionError", "EventStream", "Outbox", "Outgoing"]

GOING_AWAY = 1001
TRY_AGAIN_LATER = 1013
CREDENTIAL_EXPIRED = 4401
_RECONNECT_AFTER_SECONDS = 0.1
_LOOK_AGAIN_SECONDS = 60.0


class CloseConnectionError(RefusedError):
    """This connection ends now, with a WebSocket close code and a reason; also carries "the client left" (1000)."""

    code = "connection_closed"

    def __init__(self, close_code: int, reason: str) -> None:
        super().__init__(reason)
        self.close_code = close_code


@dataclass(frozen=True)
class Outgoing:
    """One event on its way: its JSON and, where it is numbered, its cursor."""

    data: bytes
    cursor: str | None = None


Write: TypeAlias = Callable[[Sequence[Outgoing]], Awaitable[None]]


class Outbox:
    """What waits to be sent, bounded in bytes."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._waiting: deque[Outgoing] = deque()
        self._num_bytes = 0
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()
        self._emptied.set()

    def offer(self, item: Outgoing) -> None:
        """Add without waiting.

        Raises:
            CloseConnectionError: the client reads too slowly.
        """
        if self._num_bytes and self._num_bytes + len(item.data) > self._max_bytes:
            raise CloseConnectionError(TRY_AGAIN_LATER, "slow_reader")
        self._add(item)

    async def put(self, item: Outgoing) -> None:
        """Add as soon as there is room."""
        while self._num_bytes and self._num_bytes + len(item.data) > self._max_bytes:
            await self._emptied.wait()
        self._add(item)

    async def take(self) -> list[Outgoing]:
        """Return all that waits, once anything does."""
        await self._filled.wait()
        taken = list(self._waiting)
        self._waiting.clear()
        self._filled.clear()
        return taken

    def sent(self, items: Sequence[Outgoing]) -> None:
        """These have left; only now their room is free again."""
        self._num_bytes -= sum(len(item.data) for item in items)
        if not self._num_bytes:
            self._emptied.set()

    async def flushed(self) -> None:
        """Return when nothing waits or is being sent."""
        await self._emptied.wait()

    def _add(self, item: Outgoing) -> None:
        self._waiting.append(item)
        self._num_bytes += len(item.data)
        self._emptied.clear()
        self._filled.set()


class EventStream:
    """One client's connection, seen from the side that sends."""

    def __init__(self, runtime: Runtime, write: Write, *, transport: str) -> None:
        self._runtime = runtime
        self._write = write
        self._outbox = Outbox(runtime.settings.slow_reader_bytes)
        self._stall_seconds = 2 * runtime.settings.heartbeat_seconds
        self._sent = runtime.instruments.events_sent.labels(transport=transport)

    def say(self, event: ServerEvent) -> None:
        """Send an event of the connection itself.

        Raises:
            CloseConnectionError: the client reads too slowly.
        """
        self._outbox.offer(Outgoing(encode_event(event)))

    async def follow(self, generation_id: GenerationId, feed: Feed, after_seq: int) -> None:
        """Send a reply's events after `after_seq`, up to its end.

        Raises:
            FeedLostError, CloseConnectionError.
        """
        is_caught_up = False
        async for batch in feed.follow(after_seq):
            for entry in batch:
                item = Outgoing(entry.data, cursor=f"{generation_id}:{entry.seq}")
                if is_caught_up:
                    self._outbox.offer(item)
                else:
                    await self._outbox.put(item)
            is_caught_up = is_caught_up or batch[-1].seq == feed.last_seq

    async def flush(self) -> None:
        """Return when all that was said has been sent."""
        await self._outbox.flushed()

    async def send_all(self) -> None:
        """Send until cancelled.

        Raises:
            CloseConnectionError: the client takes nothing for two heartbeats.
        """
        while True:
            batch = await self._outbox.take()
            try:
                async with asyncio.timeout(self._stall_seconds):
                    await self._write(batch)
            except TimeoutError as error:
                raise CloseConnectionError(TRY_AGAIN_LATER, "slow_reader") from error
            self._sent.inc(len(batch))
            self._outbox.sent(batch)

    async def beat(self) -> None:
        """Show that the connection lives, until cancelled."""
        while True:
            await self._runtime.clock.sleep(self._runtime.settings.heartbeat_seconds)
            self.say(Heartbeat())

    async def watch_model(self) -> None:
        """Say the model's state now and on every change, until cancelled."""
        state = self._runtime.poller.state
        self.say(state)
        while True:
            state = await self._runtime.poller.wait_for_change(state)
            self.say(state)

    async def watch_drain(self) -> None:
        """Send the client elsewhere when this replica drains.

        Raises:
            CloseConnectionError: then.
        """
        await self._runtime.drain.begun.wait()
        self.say(GoingAway(reconnect_after_seconds=_RECONNECT_AFTER_SECONDS))
        await self.flush()
        raise CloseConnectionError(GOING_AWAY, "draining")

    async def watch_credential(self, expires_at: float | None) -> None:
        """End the connection when the credential that opened it ends (seconds since 1970; None: never).

        Raises:
            CloseConnectionError: then.
        """
        if expires_at is None:
            return
        clock = self._runtime.clock
        while (left := expires_at - clock.epoch()) > 0:
            # In steps: the system's clock may be set meanwhile.
            await clock.sleep(min(left, _LOOK_AGAIN_SECONDS))
        raise CloseConnectionError(CREDENTIAL_EXPIRED, "credential_expired")
