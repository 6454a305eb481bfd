"""Reading requests: headers as plain mappings, bodies with bounds in bytes and time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect

from pratique.core.errors import EnvironmentFaultError
from pratique.orchestrator.protocol.errors import FrameError, FrameTooLargeError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.types import Scope

    from pratique.orchestrator.access import Principal

__all__ = [
    "PRINCIPAL",
    "REMOTE",
    "BodyTimeoutError",
    "headers_of",
    "principal_of",
    "read_body",
    "verify_declared_size",
]

PRINCIPAL = "pratique.principal"
REMOTE = "pratique.remote"
_HEADERS = "pratique.headers"
_BODY_SECONDS = 15.0
_MAX_DIGITS = 18


class BodyTimeoutError(EnvironmentFaultError):
    """The rest of a body did not come."""

    code = "timeout"


def headers_of(scope: Scope) -> Mapping[str, str]:
    """Return the request's headers by lower-case name, the first of each; decoded once."""
    raw = scope["headers"]
    found: tuple[object, dict[str, str]] | None = scope.get(_HEADERS)
    if found is None or found[0] is not raw:
        found = (raw, {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(raw)})
        scope[_HEADERS] = found
    return found[1]


def principal_of(request: Request) -> Principal:
    """Return who asks; the guard has seen to it that there is one."""
    principal: Principal = request.scope[PRINCIPAL]
    return principal


def verify_declared_size(content_length: str, *, max_bytes: int) -> None:
    """Refuse a body before any of it is read; "" where its size is not said. Raises FrameTooLargeError."""
    if content_length.isdecimal() and int(content_length[:_MAX_DIGITS]) > max_bytes:
        raise FrameTooLargeError(
            f"A body has at most {max_bytes} bytes here; this one is said to have {content_length}."
        )


async def read_body(request: Request, *, max_bytes: int) -> bytes:
    """Return the body.

    Raises:
        FrameTooLargeError: it has more than `max_bytes`; no more than that was read.
        BodyTimeoutError: it did not come in time.
        FrameError: the client left before its end. Nobody reads that; but it is no fault of ours.
    """
    verify_declared_size(request.headers.get("content-length", ""), max_bytes=max_bytes)
    chunks: list[bytes] = []
    num_bytes = 0
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for chunk in request.stream():
                num_bytes += len(chunk)
                if num_bytes > max_bytes:
                    raise FrameTooLargeError(f"A body has at most {max_bytes} bytes here.")
                chunks.append(chunk)
    except TimeoutError as error:
        raise BodyTimeoutError(f"The body did not come within {_BODY_SECONDS:.0f} s.") from error
    except ClientDisconnect as error:
        raise FrameError("Expected a whole body; the client left before its end.") from error
    return b"".join(chunks)
