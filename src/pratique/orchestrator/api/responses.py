"""JSON answers, and errors as JSON answers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import msgspec
from starlette.responses import Response

from pratique.orchestrator.access.limits.interface import LimitExceededError
from pratique.orchestrator.protocol.bodies import ErrorBody
from pratique.orchestrator.protocol.errors import event_error_of, http_status_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import ExitStack

    from starlette.types import ASGIApp, Receive, Scope, Send

    from pratique.orchestrator.protocol.events import EventError

__all__ = ["SECURITY_HEADERS", "HeldResponse", "error_response", "json_response", "limit_headers", "refusal"]


SECURITY_HEADERS: Final[Mapping[str, str]] = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    # Of answers that are no page; the page sets its own.
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}


class HeldResponse(Response):
    """Lets an ASGI application be what a handler returns; at its end what is held for it is given back."""

    def __init__(self, application: ASGIApp, held: ExitStack) -> None:
        super().__init__()
        self._application = application
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._held:
            await self._application(scope, receive, send)


def json_response(value: object, *, status: int = 200) -> Response:
    """Return a value as JSON; never to be cached."""
    return Response(
        msgspec.json.encode(value),
        status_code=status,
        media_type="application/json",
        headers={"cache-control": "no-store"},
    )


def refusal(error: EventError, *, status: int | None = None) -> Response:
    """Return an error as its HTTP answer."""
    response = json_response(ErrorBody(error=error), status=status or http_status_of(error.code))
    if error.retry_after_seconds is not None:
        response.headers["retry-after"] = str(math.ceil(error.retry_after_seconds))
    return response


def error_response(error: Exception) -> Response:
    """Return whatever was raised as its HTTP answer."""
    response = refusal(event_error_of(error))
    if isinstance(error, LimitExceededError):
        response.headers.update(limit_headers(error))
    return response


def limit_headers(error: LimitExceededError) -> dict[str, str]:
    """Say a reached limit in headers: how much is allowed, and when there is more (draft-ietf-httpapi-ratelimit)."""
    window = f";w={math.ceil(error.window_seconds)}" if error.window_seconds is not None else ""
    return {
        "ratelimit-policy": f'"{error.limit}";q={error.quota}{window}',
        "ratelimit": f'"{error.limit}";r=0;t={math.ceil(error.retry_after_seconds)}',
    }
