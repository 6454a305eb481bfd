"""Sends events to one client, in order, bounded: the common half of every streaming transport.

What waits to be sent is bounded in bytes. A client that is caught up and then reads too slowly is cut, and resumes from
the log; one that is still being sent what it missed sets the pace instead, as long as it takes anything at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from pratique.core.errors import RefusedError
from pratique.orchestrator.access import KeysUnavailableError, UnauthenticatedError
from pratique.orchestrator.protocol.encode import encode_event
from pratique.orchestrator.protocol.events import GoingAway, Heartbeat
from pratique.orchestrator.sessions.feed import FeedLostError

if TYPE_CHECKING:
    from pratique.core.ids import GenerationId
    from pratique.orchestrator.access import Principal
    from pratique.orchestrator.api.runtime import Runtime
    from pratique.orchestrator.protocol.events import ServerEvent
    from pratique.orchestrator.sessions.feed import Feed
    from pratique.orchestrator.sessions.log.interface import LogEntry

__all__ = ["CloseConnectionError", "EventStream", "Outbox", "Outgoing"]

GOING_AWAY = 1001
TRY_AGAIN_LATER = 1013
CREDENTIAL_EXPIRED = 4401
_RECONNECT_AFTER_SECONDS = 0.1
_MIN_BEAT_SECONDS = 0.01


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
SendNow: TypeAlias = Callable[[Sequence[bytes]], bool]
"""Sends where that needs no wait; else it returns False, having sent nothing."""


class Outbox:
    """What waits to be sent, bounded in bytes. An idle one holds a list and two numbers: there are thousands."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._waiting: list[Outgoing] = []
        self._num_bytes = 0
        self._error: CloseConnectionError | None = None
        self._is_cut = False
        self._taker: asyncio.Future[None] | None = None
        self._emptied: asyncio.Event | None = None
        """Only while somebody waits for it."""

    @property
    def is_clear(self) -> bool:
        """Whether nothing waits or is being sent, and nothing stands against sending more."""
        return not self._num_bytes and self._error is None

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
            await self.flushed()
        self._add(item)

    def end(self, error: CloseConnectionError) -> None:
        """Let `take` raise once it has given out what waits; the first error counts."""
        self._error = self._error or error
        self._wake()

    def cut(self, error: CloseConnectionError) -> None:
        """Let `take` raise this from now on; what waits is not given out any more."""
        self._error, self._is_cut = error, True
        self._wake()

    async def take(self) -> list[Outgoing]:
        """Return all that waits, once anything does; raise what it was ended with."""
        while self._is_cut or not self._waiting:
            if self._error is not None:
                raise self._error
            self._taker = asyncio.get_running_loop().create_future()
            try:
                await self._taker
            finally:
                self._taker = None
        taken, self._waiting = self._waiting, []
        return taken

    def sent(self, items: Sequence[Outgoing]) -> None:
        """These have left; only now their room is free again."""
        for item in items:
            self._num_bytes -= len(item.data)
        if not self._num_bytes and self._emptied is not None:
            self._emptied.set()
            self._emptied = None

    async def flushed(self) -> None:
        """Return when nothing waits or is being sent, or nothing did at some moment meanwhile."""
        if self._num_bytes:
            if self._emptied is None:
                self._emptied = asyncio.Event()
            await self._emptied.wait()

    def _add(self, item: Outgoing) -> None:
        self._waiting.append(item)
        self._num_bytes += len(item.data)
        self._wake()

    def _wake(self) -> None:
        if self._taker is not None and not self._taker.done():
            self._taker.set_result(None)


class EventStream:
    """One client's connection, seen from the side that sends."""

    def __init__(
        self,
        runtime: Runtime,
        write: Write,
        *,
        principal: Principal,
        transport: str,
        send_now: SendNow | None = None,
    ) -> None:
        self._runtime = runtime
        self._principal = principal
        self._write = write
        self._send_now = send_now
        self._outbox = Outbox(runtime.settings.slow_reader_bytes)
        self._stall_seconds = 2 * runtime.settings.heartbeat_seconds
        self._sent = runtime.instruments.events_sent(transport)

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
        position = await self._catch_up(generation_id, feed, after_seq)
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def hear(entries: Sequence[LogEntry]) -> None:
            if over.done():
                return
            try:
                self._relay(generation_id, entries)
            except Exception as error:  # noqa: BLE001 - it ends this connection, and not the reply that is published
                over.set_exception(error)
                return
            if feed.is_lost or feed.has_ended:
                over.set_result(None)

        with feed.heard_by(hear):
            if not feed.is_lost and not (feed.has_ended and position >= feed.last_seq):
                await over
        if feed.is_lost:
            raise FeedLostError(f"The events of {generation_id} are gone.")

    async def _catch_up(self, generation_id: GenerationId, feed: Feed, position: int) -> int:
        """Send what there is already, at the client's pace; return up to where."""
        while not feed.is_lost and (batch := feed.after(position)):
            for entry in batch:
                await self._outbox.put(Outgoing(entry.data, cursor=f"{generation_id}:{entry.seq}"))
            position = batch[-1].seq
        return position

    def _relay(self, generation_id: GenerationId, entries: Sequence[LogEntry]) -> None:
        """Send events of a reply as they come: at once where the client takes them."""
        if self._send_now is not None and self._outbox.is_clear and self._send_now([entry.data for entry in entries]):
            self._sent.value += len(entries)
            return
        for entry in entries:
            self._outbox.offer(Outgoing(entry.data, cursor=f"{generation_id}:{entry.seq}"))

    async def flush(self) -> None:
        """Return when all that was said has been sent."""
        await self._outbox.flushed()

    async def send_all(self) -> None:
        """Send until cancelled.

        Raises:
            CloseConnectionError: the client takes nothing for two heartbeats, or what `attending` found.
        """
        while True:
            batch = await self._outbox.take()
            try:
                async with asyncio.timeout(self._stall_seconds):
                    await self._write(batch)
            except TimeoutError as error:
                raise CloseConnectionError(TRY_AGAIN_LATER, "slow_reader") from error
            self._sent.value += len(batch)
            self._outbox.sent(batch)

    def verify_credential(self) -> None:
        """See that the credential which opened the connection still holds; at each heartbeat this is done unasked.

        Raises:
            CloseConnectionError: it does not, or nobody can say.
        """
        try:
            self._runtime.authenticator.verify_holds(self._principal)
        except UnauthenticatedError as error:
            raise CloseConnectionError(CREDENTIAL_EXPIRED, "credential_expired") from error
        except KeysUnavailableError as error:
            raise CloseConnectionError(TRY_AGAIN_LATER, error.code) from error

    @contextmanager
    def attending(self, *, has_model_state: bool = True) -> Iterator[None]:
        """Show that the connection lives, and say the model's state and that this replica drains, meanwhile.

        By callbacks, not by tasks: three of them for each of thousands of idle connections are most of their memory.
        What stands against saying it ends the connection: `send_all` raises it.
        """
        poller, drain = self._runtime.poller, self._runtime.drain
        self._arm_heartbeat()
        if has_model_state:
            self._say_unasked(poller.state)
            poller.listeners.add(self._say_unasked)
        drain.listeners.add(self._leave)
        if drain.is_draining:
            self._leave()
        try:
            yield
        finally:
            self._heartbeat.cancel()
            poller.listeners.discard(self._say_unasked)
            drain.listeners.discard(self._leave)

    def _arm_heartbeat(self) -> None:
        seconds = self._runtime.settings.heartbeat_seconds
        if self._principal.expires_at is not None:
            # Also when it ends, if that is earlier: no task has to watch for it.
            left = self._principal.expires_at - self._runtime.clock.epoch()
            seconds = min(seconds, max(_MIN_BEAT_SECONDS, left))
        self._heartbeat = asyncio.get_running_loop().call_later(seconds, self._beat)

    def _beat(self) -> None:
        try:
            self.verify_credential()
        except CloseConnectionError as error:
            self._outbox.cut(error)
            return
        self._arm_heartbeat()
        self._say_unasked(Heartbeat())

    def _leave(self) -> None:
        """Send the client elsewhere; what was said before that is still sent."""
        self._say_unasked(GoingAway(reconnect_after_seconds=_RECONNECT_AFTER_SECONDS))
        self._outbox.end(CloseConnectionError(GOING_AWAY, "draining"))

    def _say_unasked(self, event: ServerEvent) -> None:
        try:
            self.say(event)
        except CloseConnectionError as error:
            self._outbox.end(error)
