"""A model server (or the edge before several) over HTTP: `POST /invocations`, streamed as SSE.

Everything the server sends is bounded and checked before it is believed. What goes wrong is told apart by what may be
done about it: nothing took the request, a server took it and was lost, or the request itself is wrong.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Final, Self
from urllib.parse import urlsplit

import msgspec

from pratique.orchestrator.forward._connection import Connection, StaleConnectionError
from pratique.orchestrator.forward._pool import Pool
from pratique.orchestrator.forward.interface import ForwardUnavailableError, ShedError
from pratique.orchestrator.upstream.interface import (
    UpstreamEnd,
    UpstreamEvent,
    UpstreamGarbledError,
    UpstreamInterruptedError,
    UpstreamRefusedError,
    UpstreamRequest,
    UpstreamStart,
    UpstreamStream,
    UpstreamToken,
    UpstreamUnavailableError,
)
from pratique.orchestrator.upstream.sse import SseMessage, SseParser

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

__all__ = ["HttpUpstream"]

_MAX_ERROR_BYTES = 64 * 1024
_CLOSE_SECONDS = 2.0
_MAX_RETRY_AFTER_DIGITS = 5
_FULL_CODE = "overloaded"
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class _Start(msgspec.Struct):
    model: str = ""
    prompt_tokens: _Count = 0
    was_truncated: bool = False
    turns_dropped: _Count = 0
    notice: str | None = None
    is_reduced: bool = False


class _Token(msgspec.Struct):
    text: str


class _End(msgspec.Struct):
    finish_reason: str
    prompt_tokens: _Count = 0
    completion_tokens: _Count = 0


class _Error(msgspec.Struct):
    code: str = "engine_error"
    message: str = ""
    hint: str | None = None
    fallback: str | None = None
    retryable: bool = False


class _ErrorBody(msgspec.Struct):
    error: _Error


_decode_token: Final = msgspec.json.Decoder(_Token).decode
_PLAIN: Final = b"event: token\ndata: "
_PLAIN_LINES: Final = 3


class HttpUpstream:
    """Opens requests over connections of its own (ADR 0033); `aclose` ends them."""

    def __init__(self, url: str, *, connect_timeout_seconds: float = 2.0) -> None:
        parts = urlsplit(url)
        path, host = f"{parts.path.rstrip('/')}/invocations", parts.netloc.rpartition("@")[2]
        self._begin = f"POST {path} HTTP/1.1\r\nhost: {host}\r\n".encode()
        # No time-out past the connection: `deadlines` knows the phases of a reply, this layer only connections.
        self._pool = Pool(url, connect_timeout_seconds=connect_timeout_seconds)

    def open(self, request: UpstreamRequest) -> UpstreamStream:
        body = _body_of(request)
        return _HttpStream(self._pool, self._begin + _headers_of(request, len(body)), body)

    async def aclose(self) -> None:
        self._pool.close()


class _HttpStream:
    def __init__(self, pool: Pool, head: bytes, body: bytes) -> None:
        self._pool = pool
        self._head = head
        self._body = body
        self._connection: Connection | None = None
        self._parser = SseParser()
        self._messages: deque[SseMessage] = deque()
        self._has_ended = False
        self._take: Callable[[str], bool] | None = None

    async def __aenter__(self) -> Self:
        try:
            try:
                connection = await self._ask(is_fresh=False)
            except StaleConnectionError:
                # A rested connection that its server had closed meanwhile: nobody heard of the request.
                self._give_back()
                connection = await self._ask(is_fresh=True)
            await self._verify(connection)
        except BaseException:
            self._give_back()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._give_back()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> UpstreamEvent:
        while not self._has_ended:
            while self._messages:
                event = _event_of(self._messages.popleft())
                if event is not None:
                    self._take = None
                    self._has_ended = isinstance(event, UpstreamEnd)
                    return event
            if self._connection is None:
                raise UpstreamInterruptedError("The stream was not opened.")
            try:
                chunk = await self._connection.read()
            except ForwardUnavailableError as error:
                message = f"The connection to the model server was lost: {error.message}"
                raise UpstreamInterruptedError(message) from error
            if not chunk:
                raise UpstreamInterruptedError("The model server's stream was cut.")
            self._messages.extend(self._parser.feed(chunk))
        raise StopAsyncIteration

    def hand_on(self, take: Callable[[str], bool]) -> None:
        self._take = take
        if self._connection is not None:
            self._connection.listener = self._hear

    def _hear(self, body: bytes) -> bool:
        """Hand on what came, in the connection's own callback; False leaves it to who waits for an event.

        Only what is text as servers write it, a whole event for itself, and has nothing before it that still waits.
        """
        if self._take is None or self._messages or not self._parser.is_between_events:
            return False
        if not (body.startswith(_PLAIN) and body.endswith(b"\n\n") and body.count(b"\n") == _PLAIN_LINES):
            return False
        try:
            text = _decode_token(body[len(_PLAIN) :]).text
        except msgspec.MsgspecError:
            return False
        return self._take(text)

    async def _ask(self, *, is_fresh: bool) -> Connection:
        try:
            connection = self._connection = await self._pool.acquire(is_fresh=is_fresh)
        except ShedError as error:
            raise UpstreamUnavailableError(
                error.message, retry_after_seconds=error.retry_after_seconds, is_serving=True
            ) from error
        except ForwardUnavailableError as error:
            raise UpstreamUnavailableError(error.message) from error
        try:
            connection.send(self._head, self._body, due=math.inf)
            await connection.head()
        except StaleConnectionError:
            raise
        except ForwardUnavailableError as error:
            # It may have died of this very request: a loss, which is bounded in number, not a wait.
            raise UpstreamInterruptedError(f"The model server was lost before it answered: {error.message}") from error
        return connection

    async def _verify(self, connection: Connection) -> None:
        """Raise what an answer says that is no stream of events."""
        headers = dict(connection.headers)
        if connection.status != HTTPStatus.OK:
            raise await _refusal(connection, headers)
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if kind != b"text/event-stream":
            raise UpstreamGarbledError(f"Expected text/event-stream, got {kind.decode('latin-1')!r}.")

    def _give_back(self) -> None:
        # After a whole answer the connection is kept; any other is cut, which is what aborts the engine.
        if self._connection is not None:
            self._pool.release(self._connection)
            self._connection = None


async def _refusal(connection: Connection, headers: Mapping[bytes, bytes]) -> Exception:
    try:
        async with asyncio.timeout(_CLOSE_SECONDS):
            raw = await _read_at_most(connection, _MAX_ERROR_BYTES)
    except (ForwardUnavailableError, TimeoutError):
        raw = b""
    retry_after = _parse_retry_after(headers.get(b"retry-after", b"").decode("latin-1"))
    try:
        said = msgspec.json.decode(raw, type=_ErrorBody).error
    except msgspec.MsgspecError:
        return _error_of_edge(connection.status, raw, retry_after)
    return _error_of(connection.status, said, retry_after)


async def _read_at_most(connection: Connection, num_bytes: int) -> bytes:
    body = bytearray()
    while len(body) < num_bytes and (chunk := await connection.read()):
        body += chunk
    return bytes(body[:num_bytes])


def _parse_retry_after(value: str) -> float | None:
    """Read a Retry-After of seconds. A date would need the server's clock to agree with ours: it is passed over."""
    if not (value.isascii() and value.isdecimal() and len(value) <= _MAX_RETRY_AFTER_DIGITS):
        return None
    return float(value)


def _error_of_edge(status: int, raw: bytes, retry_after: float | None) -> Exception:
    """Not the model server's words, but Envoy's, which says whether a server had taken the request."""
    if b"connection termination" in raw or b"remote reset" in raw:
        return UpstreamInterruptedError("The model server was lost before it answered.")
    return _error_of(status, _Error(code="", message=f"the edge says {status}"), retry_after)


def _error_of(status: int, said: _Error, retry_after: float | None) -> Exception:
    if status in {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.BAD_GATEWAY, HTTPStatus.TOO_MANY_REQUESTS}:
        return UpstreamUnavailableError(
            f"No model server takes the request: {said.message or said.code}.",
            fallback=said.fallback,
            retry_after_seconds=retry_after,
            # Our own model server says that it is full with 503 and this code, others with 429.
            is_serving=status == HTTPStatus.TOO_MANY_REQUESTS or said.code == _FULL_CODE,
        )
    if status == HTTPStatus.REQUEST_TIMEOUT or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return UpstreamInterruptedError(f"The model server failed: {said.message or said.code} ({status}).")
    return UpstreamRefusedError(
        said.message or f"The model server refused the request ({status}).",
        refused_code=said.code or "engine_error",
        hint=said.hint,
        fallback=said.fallback,
    )


def _body_of(request: UpstreamRequest) -> bytes:
    optional = {"context": request.passages, "adapter": request.adapter}
    return msgspec.json.encode(
        {
            "query": request.query,
            "system_prompt": request.system_prompt,
            "history": [{"role": turn.role, "content": turn.content} for turn in request.history],
            "prefix": request.prefix,
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "stream": True,
            "request_id": request.request_id,
            "conversation_id": request.conversation_id,
            **{name: value for name, value in optional.items() if value},
        }
    )


def _headers_of(request: UpstreamRequest, num_bytes: int) -> bytes:
    """Return the head of the request from its second header on.

    Raises:
        UpstreamRefusedError: a value would not stay one header.
    """
    lines = [
        "content-type: application/json",
        f"content-length: {num_bytes}",
        "accept: text/event-stream",
        "accept-encoding: identity",
        f"x-pratique-conversation: {request.affinity or request.conversation_id}",
        f"x-pratique-request: {request.request_id}",
        f"x-pratique-timeout-seconds: {request.timeout_seconds:.3f}",
    ]
    head = "\r\n".join(lines) + "\r\n\r\n"
    if head.count("\n") != len(lines) + 1 or head.count("\r") != len(lines) + 1 or not head.isascii():
        raise UpstreamRefusedError("An id that goes into a header is none.", refused_code="engine_error")
    return head.encode()


def _event_of(message: SseMessage) -> UpstreamEvent | None:
    try:
        if message.event == "token":
            return UpstreamToken(_decode_token(message.data).text)
        if message.event == "start":
            start = msgspec.json.decode(message.data, type=_Start)
            return UpstreamStart(**msgspec.structs.asdict(start))
        if message.event == "end":
            end = msgspec.json.decode(message.data, type=_End)
            return UpstreamEnd(**msgspec.structs.asdict(end))
        if message.event != "error":
            # Events of a later version that this one need not know.
            return None
        said = msgspec.json.decode(message.data, type=_Error)
    except msgspec.MsgspecError as error:
        raise UpstreamGarbledError(f"The model server's '{message.event}' event is not as agreed: {error}.") from error
    if said.retryable:
        raise UpstreamInterruptedError(said.message or said.code)
    raise UpstreamRefusedError(
        said.message or said.code, refused_code=said.code, hint=said.hint, fallback=said.fallback
    )
