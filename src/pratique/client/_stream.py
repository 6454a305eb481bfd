"""One reply as an asynchronous iterator that outlives its connections.

Pulls, and only when asked: no task runs behind the caller's back, and a caller that does not read holds back the
server, which may then cut the connection; the next read resumes. Each pull
  1. waits out the back-off, 2. connects where there is no connection, 3. receives one event within the liveness time,
  4. hands it to `ReplyState`, 5. after any loss, announces it and asks `Link` how long to wait.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from pratique.client import _wire as wire
from pratique.client._link import Link, LinkLostError
from pratique.client._reply import (
    GapError,
    Reconnecting,
    Reply,
    ReplyEvent,
    ReplyState,
    Resumed,
    StillRunningError,
)
from pratique.client.errors import (
    TRANSIENT_CODES,
    ClientError,
    ConnectionLostError,
    GenerationNotFoundError,
    ReplyTimeoutError,
    from_wire,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from types import TracebackType

    from pratique.client._link import TransportChoice, TransportKind
    from pratique.client._transport import Connection, Transport
    from pratique.client.settings import ClientSettings
    from pratique.core.clock import Clock

__all__ = ["ReplyStream", "StreamContext"]


@dataclass(frozen=True, kw_only=True)
class StreamContext:
    """What the streams of one client share."""

    settings: ClientSettings
    clock: Clock
    random: Callable[[], float]
    choice: TransportChoice
    transports: Mapping[TransportKind, Transport]
    get_heartbeat_seconds: Callable[[], Awaitable[float]]
    """Begins the session where there is none yet; raises LinkLostError or ClientError."""
    cancel: Callable[[str], Awaitable[bool]]
    on_close: Callable[[ReplyStream], None]


class ReplyStream:
    """The events of one reply; ends after `Ended`. Leaving early is safe: the reply goes on at the server.

    Iterating raises ClientError where the server refuses, the connection cannot be had again, or time is up.
    """

    def __init__(self, opening: wire.Frame, context: StreamContext) -> None:
        self._context = context
        self._state = ReplyState(opening)
        self._link = Link(context.settings, random=context.random)
        self._connection: Connection | None = None
        self._pending: deque[ReplyEvent] = deque()  # bounded: filled by one event at a time, only when empty
        self._began_at = context.clock.monotonic()
        self._connected_at = self._began_at
        self._first_token_at: float | None = None
        self._ended_at: float | None = None
        self._heartbeat_seconds = 0.0
        self._delay_seconds = 0.0
        self._refusals = 0
        self._is_resuming = False
        self._wants_cancel = False
        self._is_closed = False

    @property
    def conversation_id(self) -> str | None:
        """The conversation; None before a new one is accepted."""
        return self._state.conversation_id

    @property
    def generation_id(self) -> str | None:
        """The reply's id; None before it is accepted."""
        return self._state.generation_id

    @property
    def last_seq(self) -> int:
        """The cursor: the number of the last event that the caller was given."""
        waiting = [event.seq for event in self._pending if isinstance(event, wire.NumberedEvent)]
        return waiting[0] - 1 if waiting else self._state.last_seq

    @property
    def text(self) -> str:
        """The reply so far."""
        return self._state.text

    @property
    def reply(self) -> Reply | None:
        """The reply as a whole, once it has ended."""
        ended = self._state.ended
        return None if ended is None else self._as_reply(ended.finish_reason, ended.error)

    def __aiter__(self) -> ReplyStream:
        return self

    async def __anext__(self) -> ReplyEvent:
        while not self._pending:
            if self._state.is_done or self._is_closed:
                await self.aclose()
                raise StopAsyncIteration
            try:
                await self._pull()
            except BaseException:
                await self.aclose()
                raise
        return self._pending.popleft()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def wait(self) -> Reply:
        """Read to the end.

        Raises:
            ClientError: the reply failed; `error.reply` holds what had been said.
        """
        async for _ in self:
            pass
        reply = self.reply
        if reply is None:
            raise GenerationNotFoundError(f"No reply is being given in the conversation {self.conversation_id}.")
        if reply.error is not None:
            raise from_wire(reply.error, reply=reply)
        return reply

    async def cancel(self) -> bool:
        """Stop the reply at the server; the stream then ends with what was said. False where it had ended already.

        Before the message is accepted there is nothing to cancel yet: it happens as soon as there is.
        """
        if self._state.is_done:
            return False
        if self._state.generation_id is None:
            self._wants_cancel = True
            return True
        return await self._context.cancel(self._state.generation_id)

    async def aclose(self) -> None:
        """Let go of the connection. The reply itself goes on at the server."""
        self._is_closed = True
        self._context.on_close(self)
        await self._drop_connection()

    async def _pull(self) -> None:
        try:
            await self._wait_for_turn()
            event = await self._receive()
            news = self._state.take(event) if event is not None else ()
        except (GapError, StillRunningError) as error:
            await self._lose(LinkLostError(str(error), is_blameless=True))
        except LinkLostError as error:
            await self._lose(error)
        except ClientError as error:
            await self._refused(error)
        else:
            await self._note(event, news)

    async def _wait_for_turn(self) -> None:
        delay, self._delay_seconds = self._delay_seconds, 0.0
        if delay:
            await self._context.clock.sleep(min(delay, self._remaining_seconds()))
        if self._remaining_seconds() <= 0:
            raise ReplyTimeoutError(
                f"The reply took longer than {self._context.settings.reply_timeout_seconds} s.",
                hint="It goes on at the server: resume it, or raise reply_timeout_seconds.",
            )

    def _remaining_seconds(self) -> float:
        return self._began_at + self._context.settings.reply_timeout_seconds - self._context.clock.monotonic()

    async def _receive(self) -> wire.ServerEvent | None:
        if self._connection is None:
            self._connection = await self._connect()
        silence_seconds = self._context.settings.heartbeats_missed * self._heartbeat_seconds
        try:
            async with asyncio.timeout(min(silence_seconds, self._remaining_seconds())):
                event = await self._connection.receive()
        except TimeoutError as error:
            raise LinkLostError("the connection fell silent") from error
        if isinstance(event, wire.GoingAway):
            raise LinkLostError(
                "the replica drains", is_blameless=True, retry_after_seconds=event.reconnect_after_seconds
            )
        if isinstance(event, wire.Hello):
            self._heartbeat_seconds = event.heartbeat_seconds
        return event

    async def _connect(self) -> Connection:
        self._connected_at = self._context.clock.monotonic()
        if not self._heartbeat_seconds:
            self._heartbeat_seconds = await self._context.get_heartbeat_seconds()
        transport = self._context.transports[self._context.choice.kind]
        return await transport.open(self._state.next_frame())

    async def _note(self, event: wire.ServerEvent | None, news: tuple[ReplyEvent, ...]) -> None:
        if not isinstance(event, wire.Hello | wire.ModelState):
            self._link.progressed()
            self._refusals = 0
        if self._is_resuming and not isinstance(event, wire.Hello):
            self._is_resuming = False
            self._pending.append(Resumed(reconnects=self._link.reconnects))
        self._pending.extend(news)
        self._note_times(news)
        if self._state.is_done:
            self._context.choice.succeeded()
            await self._drop_connection()
        elif self._wants_cancel and self._state.generation_id is not None:
            self._wants_cancel = False
            await self._context.cancel(self._state.generation_id)

    def _note_times(self, news: tuple[ReplyEvent, ...]) -> None:
        now = self._context.clock.monotonic()
        if self._first_token_at is None and any(isinstance(event, wire.Token) for event in news):
            self._first_token_at = now
        if self._state.is_done:
            self._ended_at = now

    async def _refused(self, error: ClientError) -> None:
        self._refusals += 1
        if error.wire_code not in TRANSIENT_CODES or self._refusals > self._context.settings.max_refusals:
            raise self._with_reply(error)
        await self._lose(
            LinkLostError(error.message, is_blameless=True, retry_after_seconds=error.retry_after_seconds or 0.0)
        )

    async def _lose(self, lost: LinkLostError) -> None:
        now = self._context.clock.monotonic()
        self._context.choice.lost(lived_seconds=now - self._connected_at, is_blameless=lost.is_blameless)
        await self._drop_connection()
        delay = self._link.next_delay_seconds(now, lost)
        if delay is None:
            error = ConnectionLostError(
                f"The connection could not be had again: {lost.reason}.", hint="Is the service running?"
            )
            raise self._with_reply(error) from lost
        self._delay_seconds = delay
        self._is_resuming = True
        self._pending.append(Reconnecting(reason=lost.reason, attempt=self._link.attempt, delay_seconds=delay))

    async def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    def _with_reply(self, error: ClientError) -> ClientError:
        if self._state.generation_id is not None and error.reply is None:
            said = wire.EventError(code=error.wire_code, message=error.message, hint=error.hint)
            error.reply = self._as_reply(wire.FinishReason.ERROR, said)
        return error

    def _as_reply(self, reason: wire.FinishReason, error: wire.EventError | None) -> Reply:
        state, ended, started = self._state, self._state.ended, self._state.started
        first = self._first_token_at
        return Reply(
            conversation_id=state.conversation_id or "",
            generation_id=state.generation_id or "",
            user_turn_id=state.user_turn_id,
            turn_id=ended.turn_id if ended else None,
            text=state.text,
            finish_reason=reason,
            usage=ended.usage if ended else None,
            error=error,
            was_truncated=started.was_truncated if started else False,
            turns_dropped=started.turns_dropped if started else 0,
            details=state.details,
            model=started.model if started else "",
            first_token_seconds=None if first is None else first - self._began_at,
            total_seconds=(self._ended_at or self._context.clock.monotonic()) - self._began_at,
            reconnects=self._link.reconnects,
        )
