"""uvicorn's protocols, with the bounds that it leaves open: heads and frames that never end, pongs that nobody reads.

A request's head has a deadline and a bound in bytes, from its first byte on, also of the second one on a connection;
so has each message on a WebSocket. So have trailers, and the rest of a request that was answered before its end. What
passes is checked further by the application, see `access.wire`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from pratique.orchestrator.exchanges import LeanHttpProtocol
from pratique.orchestrator.sockets import LeanWebSocketProtocol

if TYPE_CHECKING:
    from asyncio import TimerHandle

    from websockets.frames import Frame

__all__ = ["HEAD_SECONDS", "LINGER_SECONDS", "MAX_HEAD_BYTES", "MESSAGE_SECONDS", "HttpProtocol", "WebSocketProtocol"]

HEAD_SECONDS: Final = 15.0
LINGER_SECONDS: Final = 2.0
MAX_HEAD_BYTES: Final = 65_536
MESSAGE_SECONDS: Final = 15.0
_TRY_AGAIN_LATER: Final = 1013
_POLICY_VIOLATION: Final = 1008
_MAX_EXTRA_FRAMES: Final = 200
_EXTRA_FRAMES_SECONDS: Final = 10.0


class HttpProtocol(LeanHttpProtocol):
    """HTTP/1.1, with bounds on the head and on what else is no body; one request at a time.

    What passes for headers behind the head (trailers, RFC 9110 6.5) is dropped: nothing here asks for any.
    """

    _head_timer: TimerHandle | None = None
    _linger_timer: TimerHandle | None = None
    _num_bytes = 0
    """Since a message or a piece of a body began."""
    _has_moved = False
    _is_head_open = False
    _is_request_open = False
    """Its head is there, its end is not."""
    _is_refusing = False

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401 - uvicorn's own signature is narrower than asyncio's
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_head()
        self._forget_end()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_refusing:
            return
        self._has_moved = False
        super().data_received(data)
        if self._has_moved:
            # What came with the end of something else is not counted: it is one read, and bounded as that.
            self._num_bytes = 0
            if self._is_head_open and self._head_timer is None:
                self._expect_head()
            return
        if self._head_timer is None and not self._is_request_open and self._is_idle():
            self._expect_head()  # empty lines, RFC 9112 2.2
        self._num_bytes += len(data)
        if self._num_bytes > MAX_HEAD_BYTES:
            self._end_with(431, "The head of the request is too large.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._has_moved = True
        self._is_head_open = True
        self._unset_keepalive_if_required()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._is_request_open:
            return
        # As uvicorn does it, without a call for each header of each request.
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._forget_head()
        self._has_moved = True
        self._is_head_open = False
        self._is_request_open = True
        if self._is_idle():
            super().on_headers_complete()
            return
        # A second request before the answer to the first. uvicorn would queue it, and no longer see that the client of
        # the first one leaves: it gets its answer, then the connection ends (RFC 9112 9.3.2, 9.6).
        self._is_refusing = True
        self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        self._has_moved = True
        if not self._is_refusing:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._is_request_open = False
        if self._is_refusing:
            return
        if self._linger_timer is not None:
            # Now the connection rests, as it would have after the answer.
            self._forget_end()
            self.rest()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._is_request_open and not self.transport.is_closing():
            # Answered early. The client may still be sending, and is to see the answer rather than a reset.
            self._linger_timer = self.loop.call_later(LINGER_SECONDS, self.transport.close)

    def handle_websocket_upgrade(self) -> None:
        if not self._is_refusing:
            super().handle_websocket_upgrade()

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete  # type: ignore[redundant-expr]  # uvicorn hides the None

    def _expect_head(self) -> None:
        self._num_bytes = 0
        self._head_timer = self.loop.call_later(
            HEAD_SECONDS, self._end_with, 408, "The head of the request did not come."
        )

    def _forget_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _forget_end(self) -> None:
        if self._linger_timer is not None:
            self._linger_timer.cancel()
            self._linger_timer = None

    def _end_with(self, status: int, text: str) -> None:
        self._forget_head()
        if self.transport.is_closing():
            return
        # Not in the middle of an answer to the request before it, nor behind the answer to this one.
        if self._is_idle() and not self._is_request_open:
            body = text.encode()
            head = b"content-type: text/plain\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
            self.transport.write(STATUS_LINE[status] + head + body)
        self.transport.close()


class WebSocketProtocol(LeanWebSocketProtocol):
    """WebSockets, with pings answered only while the client takes answers, and messages that have to come in time.

    uvicorn writes a pong for every ping at once: a client that pings and never reads would fill the memory. Frames that
    are no message (pings, pongs, pieces) never reach the application, which paces messages: they are counted here.
    """

    _message_timer: TimerHandle | None = None
    _has_completed = False
    _num_extra_frames = 0
    _extra_frames_until = 0.0

    def data_received(self, data: bytes) -> None:
        self._has_completed = False
        super().data_received(data)
        if not self.handshake_initiated:
            self._refuse_handshake()
            return
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

    def handle_cont(self, event: Frame) -> None:
        if self._is_one_more_allowed():
            super().handle_cont(event)

    def handle_pong(self, event: Frame) -> None:
        if self._is_one_more_allowed():
            super().handle_pong(event)

    def handle_ping(self) -> None:
        if not self._is_one_more_allowed():
            return
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()  # RFC 6455 5.5.3: not every ping needs its own pong

    def _refuse_handshake(self) -> None:
        """Answer a head that `websockets` does not take: a body, a line or a number of headers beyond its bounds.

        It comes whole, from `HttpProtocol`. uvicorn would wait for the rest of it for ever.
        """
        answer = b"".join(self.conn.data_to_send())
        if not answer:
            answer = STATUS_LINE[400] + b"content-length: 0\r\nconnection: close\r\n\r\n"
        self.close_sent = True
        self.transport.write(answer)
        self.transport.close()

    def _is_one_more_allowed(self) -> bool:
        now = self.loop.time()
        if now >= self._extra_frames_until:
            self._extra_frames_until = now + _EXTRA_FRAMES_SECONDS
            self._num_extra_frames = 0
        self._num_extra_frames += 1
        if self._num_extra_frames == _MAX_EXTRA_FRAMES + 1:
            self._fail(_POLICY_VIOLATION, "too_many_frames")
        return self._num_extra_frames <= _MAX_EXTRA_FRAMES

    def _overdue(self) -> None:
        self._message_timer = None
        if self.close_sent or self.transport.is_closing():
            return
        if self.read_paused:
            # We do not read: that the rest did not come says nothing of the client.
            self._message_timer = self.loop.call_later(MESSAGE_SECONDS, self._overdue)
            return
        self._fail(_TRY_AGAIN_LATER, "slow_frame")

    def _fail(self, code: int, reason: str) -> None:
        if self.close_sent or self.transport.is_closing():
            return
        self.conn.fail(code, reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.transport.close()
