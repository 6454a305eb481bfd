"""Small plain-ASGI helpers: answer with JSON, read a bounded body, notice a client that leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

import msgspec
from starlette.types import Receive, Scope, Send

from pratique.inference.errors import BodyTimeoutError, BodyTooLargeError

__all__ = ["ClientDisconnectedError", "header", "read_body", "send_bytes", "send_json"]

_BODY_SECONDS: Final = 15.0


class ClientDisconnectedError(Exception):
    """The client left before its request was complete."""


async def send_json(send: Send, status: int, body: object, headers: Mapping[str, str] | None = None) -> None:
    """Answer with JSON."""
    await send_bytes(send, status, msgspec.json.encode(body), "application/json", headers)


async def send_bytes(
    send: Send, status: int, body: bytes, content_type: str, headers: Mapping[str, str] | None = None
) -> None:
    """Answer with a whole body."""
    fields = {"content-type": content_type, "content-length": str(len(body)), **(headers or {})}
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


async def read_body(receive: Receive, *, limit_bytes: int, within_seconds: float = _BODY_SECONDS) -> bytes:
    """Read the request's body.

    Raises:
        BodyTooLargeError: it is over the limit; the rest is not read.
        BodyTimeoutError: it did not come in time.
        ClientDisconnectedError: the client left.
    """
    try:
        async with asyncio.timeout(within_seconds):
            return await _read_body(receive, limit_bytes=limit_bytes)
    except TimeoutError as error:
        raise BodyTimeoutError(f"The body did not come within {within_seconds:.0f} s.") from error


async def _read_body(receive: Receive, *, limit_bytes: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnectedError
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit_bytes:
            raise BodyTooLargeError(f"The body has more than {limit_bytes} bytes, the most that is accepted.")
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)


def header(scope: Scope, name: str) -> str | None:
    """Return a request header's value, or None."""
    wanted = name.lower().encode("latin-1")
    for key, value in scope["headers"]:
        if key.lower() == wanted:
            return str(value.decode("latin-1"))
    return None
