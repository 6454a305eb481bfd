"""One HTTP/1.1 connection to a model server, as a client: parsing by httptools, everything it sends bounded.

One exchange at a time. A connection goes back for reuse only after a whole answer that allows it, with nothing left
over in either direction; whatever else happens, it is cut, which is what aborts a request upstream. RFC 9112.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Final, cast

import httptools

from pratique.orchestrator.forward.interface import ForwardTimeoutError, ForwardUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Connection", "StaleConnectionError"]

_MAX_BUFFERED_BYTES: Final = 256 * 1024
_MAX_OVERHEAD_BYTES: Final = 64 * 1024
_MAX_HEADERS: Final = 128
_FIRST_FINAL_STATUS: Final = 200
_SWITCHING: Final = 101


class StaleConnectionError(ForwardUnavailableError):
    """A connection that had served before was closed before it said anything: its server no longer wanted it."""


class Connection(asyncio.Protocol):
    """A client's connection. Its callbacks are the event loop's and the parser's; `send`, `head`, `read` are ours."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        """With lower-case names."""
        self.listener: Callable[[bytes], bool] | None = None
        """Called with a piece of this exchange's body as it comes, unless others wait; True: it needs no `read`.

        It must not raise.
        """
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._error: ForwardUnavailableError | None = None
        self._idle_since = 0.0
        self._due = math.inf
        self._timer_at = math.inf
        self._timer: asyncio.TimerHandle | None = None
        """Goes on from one exchange to the next, as most end long before it rings."""
        self._pieces: list[bytes] = []
        self._num_buffered = 0
        self._num_overhead_bytes = 0  # since a message, or a piece of its body, began
        self._is_paused = False
        self._is_busy = False
        self._has_served = False
        self._has_heard = False
        self._has_head = False
        self._has_end = False
        self._has_length = False
        self._is_persistent = False

    @property
    def is_reusable(self) -> bool:
        """Whether it may carry another request."""
        transport = self._transport
        return (
            self._error is None
            and transport is not None
            and not transport.is_closing()
            and (not self._is_busy or (self._has_end and self._is_persistent and not self._pieces))
            and not transport.get_write_buffer_size()
        )

    @property
    def idle_seconds(self) -> float:
        """Since the last exchange."""
        return self._loop.time() - self._idle_since

    def send(self, head: bytes, body: bytes, *, due: float) -> None:
        """Begin an exchange, which is cut at `due` (seconds of the loop's clock) unless it has ended.

        Raises:
            StaleConnectionError: the connection was closed meanwhile.
        """
        if self._transport is None or self._error is not None:
            raise StaleConnectionError("The connection was closed.")
        self._is_busy = True
        self._due = due
        if due < self._timer_at:
            self._arm()
        self._has_heard = self._has_head = self._has_end = False
        self._begin_message()
        self._transport.write(head + body)

    async def head(self) -> None:
        """Return once `status` and `headers` are there. Raises ForwardUnavailableError."""
        while not self._has_head:
            await self._changed()

    async def read(self) -> bytes:
        """Return what has come of the body, as soon as anything has; nothing at its end.

        Raises:
            ForwardUnavailableError: it broke off; what had come before was returned before.
        """
        while not self._pieces:
            if self._has_end:
                return b""
            await self._changed()
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces = []
        self._num_buffered = 0
        if self._is_paused and self._transport is not None:
            self._is_paused = False
            self._transport.resume_reading()
        return data

    def rest(self) -> None:
        """End the exchange; it waits for the next one."""
        self.listener = None
        self._is_busy = False
        self._has_served = True
        self._due = math.inf
        self._idle_since = self._loop.time()

    def abort(self, error: ForwardUnavailableError | None = None) -> None:
        """Cut it: the exchange, where there is one, ends with the error."""
        self._fail(error or ForwardUnavailableError("The request was given up."))
        self.listener = None
        self._disarm()
        if self._transport is not None:
            self._transport.abort()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none of asyncio's classes

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._disarm()
        if self._is_busy and self._has_head and not self._has_length and exc is None:
            # A body without a length ends with the connection (RFC 9112 6.3, rule 8).
            self._has_end = True
        if self._has_served and not self._has_heard:
            self._fail(StaleConnectionError("The connection was closed."))
        else:
            self._fail(ForwardUnavailableError(f"The model server closed the connection{f': {exc}' if exc else ''}."))

    def data_received(self, data: bytes) -> None:
        self._has_heard = True
        if not self._is_busy or self._has_end:
            self.abort(ForwardUnavailableError("The model server spoke without being asked."))
            return
        self._num_overhead_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.abort(ForwardUnavailableError(f"The model server does not speak HTTP: {error}."))
            return
        if self._num_overhead_bytes > _MAX_OVERHEAD_BYTES and not self._has_end:
            part = "part behind the body" if self._has_head else "head"
            self.abort(ForwardUnavailableError(f"The answer's {part} has more than {_MAX_OVERHEAD_BYTES} bytes."))

    # What the parser calls.

    def on_message_begin(self) -> None:
        if self._has_end:
            self._is_persistent = False  # a second answer behind the first

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._has_head:
            return  # a trailer, of which nothing here makes anything
        if len(self.headers) >= _MAX_HEADERS:
            raise ValueError(f"more than {_MAX_HEADERS} headers")
        name = name.lower()
        if name in {b"content-length", b"transfer-encoding"}:
            self._has_length = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status == _SWITCHING:
            raise ValueError("a switch of protocols that nobody asked for")
        if status >= _FIRST_FINAL_STATUS and not self._has_end:
            self.status = status
            self._has_head = True
            self._num_overhead_bytes = 0
            self._wake()

    def on_body(self, body: bytes) -> None:
        if self._has_end:
            return
        self._num_overhead_bytes = 0
        if self.listener is not None and not self._pieces and self.listener(body):
            return
        self._pieces.append(body)
        self._num_buffered += len(body)
        if self._num_buffered > _MAX_BUFFERED_BYTES and not self._is_paused and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()
        self._wake()

    def on_message_complete(self) -> None:
        if not self._has_head:
            self._begin_message()  # it was an interim answer (1xx)
        elif not self._has_end:
            self._has_end = True
            self._is_persistent = self._parser.should_keep_alive()
            self._wake()

    def _begin_message(self) -> None:
        self.status = 0
        self.headers = []
        self._num_overhead_bytes = 0
        self._has_length = False

    async def _changed(self) -> None:
        if self._error is not None:
            raise self._error
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, error: ForwardUnavailableError) -> None:
        if self._error is None:
            self._error = error
        self._wake()

    def _arm(self) -> None:
        self._disarm()
        self._timer_at = self._due
        self._timer = self._loop.call_at(self._due, self._ring)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._timer_at = None, math.inf

    def _ring(self) -> None:
        self._timer, self._timer_at = None, math.inf
        if self._due <= self._loop.time():
            self.abort(ForwardTimeoutError("The model server did not answer in time."))
        elif self._due < math.inf:
            self._arm()
