"""What an invocation carries: the event made of a request, the answer made of what comes back. Pure.

The event is the payload format 2.0 of function URLs. What comes back is either streamed (a head of JSON, eight NUL
bytes, the body) or, from AWS's managed Python runtime, one JSON object; the eight bytes say which.
https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html#urls-payloads
"""

from __future__ import annotations

import base64
import binascii
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from pratique.orchestrator.forward.interface import ForwardUnavailableError
from pratique.orchestrator.lanes.interface import BURST

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence

    from pratique.orchestrator.forward.interface import ForwardRequest

__all__ = ["BurstAnswer", "event_of", "open_answer"]

_SEPARATOR: Final = bytes(8)
_MAX_HEAD_BYTES: Final = 64 * 1024
_MAX_WHOLE_BYTES: Final = 8 * 2**20
_STREAMED: Final = "application/vnd.awslambda.http-integration-response"


class _Head(msgspec.Struct, frozen=True, rename="camel"):
    status_code: Annotated[int, msgspec.Meta(ge=200, le=599)]
    headers: dict[str, str] = {}


class _Whole(_Head, frozen=True, rename="camel"):
    body: str = ""
    is_base64_encoded: bool = False


_head_decoder = msgspec.json.Decoder(_Head)
_whole_decoder = msgspec.json.Decoder(_Whole)


def event_of(request: ForwardRequest, *, invocation_id: str, epoch: float) -> bytes:
    """Return the event that stands for a request. Its body is Base64, so that any body survives."""
    path, _, query = request.path.partition("?")
    headers: dict[str, str] = {}
    for name, value in request.headers:
        low = name.lower()
        headers[low] = f"{headers[low]},{value}" if low in headers else value
    headers["x-pratique-conversation"] = request.affinity
    headers["x-pratique-timeout-ms"] = str(max(1, int(request.timeout_seconds * 1000)))
    http = {"method": request.method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "", "userAgent": ""}
    context = {"http": http, "requestId": invocation_id, "stage": "$default", "timeEpoch": int(epoch * 1000)}
    return msgspec.json.encode(
        {
            "version": "2.0",
            "routeKey": "$default",
            "rawPath": path,
            "rawQueryString": query,
            "headers": headers,
            "requestContext": context,
            "body": base64.b64encode(request.body).decode("ascii"),
            "isBase64Encoded": True,
        }
    )


class BurstAnswer:
    """A `ForwardAnswer` out of an invocation."""

    lane = BURST

    def __init__(self, head: _Head, body: AsyncIterator[bytes]) -> None:
        self.status = head.status_code
        self.has_ended = False
        """Whether the body was read to its end."""
        self._headers = [
            (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in head.headers.items()
        ]
        self._body = body

    @property
    def headers(self) -> Sequence[tuple[bytes, bytes]]:
        return self._headers

    async def chunks(self) -> AsyncIterator[bytes]:
        async for chunk in self._body:
            if chunk:
                yield chunk
        self.has_ended = True


async def open_answer(content_type: str, pieces: AsyncGenerator[bytes]) -> BurstAnswer:
    """Read the head; return the answer whose body are the pieces that follow.

    Raises:
        ForwardUnavailableError: what came is not an answer.
    """
    limit = _MAX_HEAD_BYTES if content_type.partition(";")[0].strip() == _STREAMED else _MAX_WHOLE_BYTES
    read = bytearray()
    async for piece in pieces:
        searched = max(0, len(read) - len(_SEPARATOR))
        read += piece
        end = read.find(_SEPARATOR, searched)
        if end >= 0:
            return _streamed(bytes(read[:end]), bytes(read[end + len(_SEPARATOR) :]), pieces)
        if len(read) > limit:
            raise ForwardUnavailableError(f"The burst lane's answer has no head within {limit} bytes.")
    return _whole(bytes(read))


def _streamed(head: bytes, rest: bytes, pieces: AsyncGenerator[bytes]) -> BurstAnswer:
    try:
        return BurstAnswer(_head_decoder.decode(head), _following(rest, pieces))
    except (msgspec.DecodeError, UnicodeError) as error:
        raise ForwardUnavailableError(f"The burst lane's answer has no readable head: {error}.") from error


def _whole(read: bytes) -> BurstAnswer:
    try:
        whole = _whole_decoder.decode(read)
        body = base64.b64decode(whole.body, validate=True) if whole.is_base64_encoded else whole.body.encode()
        return BurstAnswer(whole, _once(body))
    except (msgspec.DecodeError, UnicodeError, binascii.Error) as error:
        raise ForwardUnavailableError(f"The burst lane answered something else than an answer: {error}.") from error


async def _following(rest: bytes, pieces: AsyncGenerator[bytes]) -> AsyncIterator[bytes]:
    async with aclosing(pieces):
        if rest:
            yield rest
        async for piece in pieces:
            yield piece


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body
