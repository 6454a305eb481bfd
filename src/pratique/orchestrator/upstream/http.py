"""A model server (or the edge before several) over HTTP: `POST /invocations`, streamed as SSE.

Everything the server sends is bounded and checked before it is believed. What goes wrong is told apart by what may be
done about it: nothing took the request, a server took it and was lost, or the request itself is wrong.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Self

import aiohttp
import msgspec

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
    from collections.abc import AsyncIterator
    from types import TracebackType

__all__ = ["HttpUpstream", "parse_retry_after", "read_at_most"]

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


class HttpUpstream:
    """Opens requests over one pooled client session, which the caller owns."""

    def __init__(self, session: aiohttp.ClientSession, url: str, *, connect_timeout_seconds: float = 2.0) -> None:
        self._session = session
        self._url = url.rstrip("/") + "/invocations"
        # No total and no read time-out here: `deadlines` knows the phases of a reply, this layer only connections.
        self._timeout = aiohttp.ClientTimeout(total=None, sock_read=None, sock_connect=connect_timeout_seconds)

    def open(self, request: UpstreamRequest) -> UpstreamStream:
        return _HttpStream(self._session, self._url, self._timeout, request)

    async def aclose(self) -> None:
        await self._session.close()


class _HttpStream:
    def __init__(
        self, session: aiohttp.ClientSession, url: str, timeout: aiohttp.ClientTimeout, request: UpstreamRequest
    ) -> None:
        self._session = session
        self._url = url
        self._timeout = timeout
        self._request = request
        self._response: aiohttp.ClientResponse | None = None
        self._messages: AsyncIterator[SseMessage] | None = None
        self._has_ended = False

    async def __aenter__(self) -> Self:
        try:
            self._response = await self._session.post(
                self._url, data=_body_of(self._request), headers=_headers_of(self._request), timeout=self._timeout
            )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise UpstreamUnavailableError(f"No model server could be reached: {error}.") from error
        except (aiohttp.ClientError, OSError) as error:
            # It may have died of this very request: a loss, which is bounded in number, not a wait.
            raise UpstreamInterruptedError(f"The model server was lost before it answered: {error}.") from error
        if self._response.status != HTTPStatus.OK:
            raise await self._refusal(self._response)
        if self._response.content_type != "text/event-stream":
            self._response.close()
            raise UpstreamGarbledError(f"Expected text/event-stream, got {self._response.content_type!r}.")
        self._messages = _messages_of(self._response)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._response is None:
            return
        # A finished stream gives its connection back; any other is cut, which is what aborts the engine.
        if self._has_ended:
            self._response.release()
        else:
            self._response.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> UpstreamEvent:
        if self._has_ended:
            raise StopAsyncIteration
        if self._messages is None:
            raise UpstreamInterruptedError("The stream was not opened.")
        try:
            while True:
                event = _event_of(await self._messages.__anext__())
                if event is not None:
                    break
        except StopAsyncIteration as error:
            raise UpstreamInterruptedError("The model server's stream was cut.") from error
        except (aiohttp.ClientError, OSError) as error:
            raise UpstreamInterruptedError(f"The connection to the model server was lost: {error}.") from error
        self._has_ended = isinstance(event, UpstreamEnd)
        return event

    async def _refusal(self, response: aiohttp.ClientResponse) -> Exception:
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                raw = await read_at_most(response, _MAX_ERROR_BYTES)
        except (aiohttp.ClientError, OSError, TimeoutError):
            raw = b""
        finally:
            response.close()
        retry_after = parse_retry_after(response.headers.get("retry-after"))
        try:
            said = msgspec.json.decode(raw, type=_ErrorBody).error
        except msgspec.MsgspecError:
            return _error_of_edge(response.status, raw, retry_after)
        return _error_of(response.status, said, retry_after)


async def read_at_most(response: aiohttp.ClientResponse, num_bytes: int) -> bytes:
    """Return a body, cut after so many bytes. aiohttp's own `read(n)` returns what has come by then, not the body."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) >= num_bytes:
            break
    return bytes(body[:num_bytes])


def parse_retry_after(value: str | None) -> float | None:
    """Read a Retry-After of seconds. A date would need the server's clock to agree with ours: it is passed over."""
    if value is None or not (value.isascii() and value.isdecimal() and len(value) <= _MAX_RETRY_AFTER_DIGITS):
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


def _headers_of(request: UpstreamRequest) -> dict[str, str]:
    return {
        "content-type": "application/json",
        "accept": "text/event-stream",
        "x-pratique-conversation": request.affinity or request.conversation_id,
        "x-pratique-request": request.request_id,
        "x-pratique-timeout-seconds": f"{request.timeout_seconds:.3f}",
    }


async def _messages_of(response: aiohttp.ClientResponse) -> AsyncIterator[SseMessage]:
    parser = SseParser()
    async for chunk in response.content.iter_any():
        for message in parser.feed(chunk):
            yield message


def _event_of(message: SseMessage) -> UpstreamEvent | None:
    try:
        if message.event == "token":
            return UpstreamToken(msgspec.json.decode(message.data, type=_Token).text)
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
