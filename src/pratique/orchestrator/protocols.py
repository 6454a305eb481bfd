"""uvicorn's protocols, with the bounds that it leaves open: heads and frames that never end, pongs that nobody reads.

A request's head has a deadline and a bound in bytes, from its first byte on, also of the second one on a connection;
so has each message on a WebSocket. What passes is checked further by the application, see `access.wire`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from pratique.orchestrator.sockets import LeanWebSocketProtocol

if TYPE_CHECKING:
    from asyncio import TimerHandle

__all__ = ["HEAD_SECONDS", "MAX_HEAD_BYTES", "MESSAGE_SECONDS", "HttpProtocol", "WebSocketProtocol"]

HEAD_SECONDS: Final = 15.0
MAX_HEAD_BYTES: Final = 65_536
MESSAGE_SECONDS: Final = 15.0
_TRY_AGAIN_LATER: Final = 1013


class HttpProtocol(HttpToolsProtocol):
    """HTTP/1.1, with bounds on the head."""

    _head_timer: TimerHandle | None = None
    _num_head_bytes = 0
    _has_begun = False

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401 - uvicorn's own signature is narrower than asyncio's
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._has_begun = False
        super().data_received(data)
        # What came with the end of something else is not counted: it is one read, and bounded as that.
        if self._head_timer is not None and not self._has_begun:
            self._num_head_bytes += len(data)
            if self._num_head_bytes > MAX_HEAD_BYTES:
                self._end_with(431, "The head of the request is too large.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._has_begun = True
        if self._head_timer is None:
            self._expect_head()

    def on_headers_complete(self) -> None:
        self._forget_head()
        super().on_headers_complete()

    def _expect_head(self) -> None:
        self._num_head_bytes = 0
        self._head_timer = self.loop.call_later(
            HEAD_SECONDS, self._end_with, 408, "The head of the request did not come."
        )

    def _forget_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _end_with(self, status: int, text: str) -> None:
        self._forget_head()
        if self.transport.is_closing():
            return
        # Not in the middle of an answer to the request before it.
        if self.cycle is None or self.cycle.response_complete:  # type: ignore[redundant-expr]  # uvicorn hides the None
            body = text.encode()
            head = b"content-type: text/plain\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
            self.transport.write(STATUS_LINE[status] + head + body)
        self.transport.close()


class WebSocketProtocol(LeanWebSocketProtocol):
    """WebSockets, with pings answered only while the client takes answers, and messages that have to come in time.

    uvicorn writes a pong for every ping at once: a client that pings and never reads would fill the memory.
    """

    _message_timer: TimerHandle | None = None
    _has_completed = False

    def data_received(self, data: bytes) -> None:
        self._has_completed = False
        super().data_received(data)
        is_partial = len(self.frames) + len(self.conn.reader.buffer) > 0
        if self._message_timer is not None and (self._has_completed or not is_partial):
            self._message_timer.cancel()
            self._message_timer = None
        if is_partial and self._message_timer is None:
            self._message_timer = self.loop.call_later(MESSAGE_SECONDS, self._overdue)

    def send_receive_event_to_app(self) -> None:
        self._has_completed = True
        super().send_receive_event_to_app()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._message_timer is not None:
            self._message_timer.cancel()
            self._message_timer = None
        super().connection_lost(exc)

    def handle_ping(self) -> None:
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()  # RFC 6455 5.5.3: not every ping needs its own pong

    def _overdue(self) -> None:
        self._message_timer = None
        if self.close_sent or self.transport.is_closing():
            return
        if self.read_paused:
            # We do not read: that the rest did not come says nothing of the client.
            self._message_timer = self.loop.call_later(MESSAGE_SECONDS, self._overdue)
            return
        self.conn.fail(_TRY_AGAIN_LATER, "slow_frame")
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.transport.close()
