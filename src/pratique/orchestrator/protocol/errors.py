"""How errors look on the wire: every PratiqueError becomes one `EventError` with its stable code.

FrameError (CallerError)      the bytes are not a frame of this protocol
└── FrameTooLargeError        too many bytes to look at
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pratique.core.errors import CallerError, PratiqueError
from pratique.orchestrator.protocol.events import EventError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["HTTP_STATUS", "FrameError", "FrameTooLargeError", "event_error_of", "http_status_of"]

HTTP_STATUS: Mapping[str, int] = {
    "invalid_request": 400,
    "nothing_to_retry": 409,
    "unauthenticated": 401,
    "origin_refused": 403,
    "forbidden": 403,
    "conversation_not_found": 404,
    "generation_not_found": 404,
    "not_found": 404,
    "unknown_model": 404,
    "method_not_allowed": 405,
    "generation_running": 409,
    "client_message_conflict": 409,
    "too_large": 413,
    "overloaded": 503,
    "rate_limited": 429,
    "store_unavailable": 503,
    "log_unavailable": 503,
    "keys_unavailable": 503,
    "limits_unavailable": 503,
    "model_unavailable": 503,
    "draining": 503,
    "timeout": 504,
}
_RETRY_AFTER_SECONDS: Mapping[str, float] = {
    "overloaded": 1.0,
    "store_unavailable": 1.0,
    "log_unavailable": 1.0,
    "keys_unavailable": 2.0,
    "limits_unavailable": 1.0,
    "model_unavailable": 2.0,
    "draining": 0.1,
}


class FrameError(CallerError):
    """The bytes are not a frame of this protocol: what was expected, and where."""

    code = "invalid_request"


class FrameTooLargeError(FrameError):
    """More bytes than a frame may have."""

    code = "too_large"


def event_error_of(error: Exception) -> EventError:
    """Say `error` on the wire. What was not raised on purpose is `internal` and says nothing of the inside."""
    if isinstance(error, PratiqueError):
        retry_after = getattr(error, "retry_after_seconds", None) or _RETRY_AFTER_SECONDS.get(error.code)
        return EventError(code=error.code, message=error.message, hint=error.hint, retry_after_seconds=retry_after)
    return EventError(code="internal", message="Something went wrong inside the service.")


def http_status_of(code: str) -> int:
    """Return the HTTP status that goes with an error's code; 500 for what nobody foresaw."""
    return HTTP_STATUS.get(code, 500)
