"""Errors as OpenAI's clients know them: https://platform.openai.com/docs/guides/error-codes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import msgspec

from pratique.orchestrator.access import UnauthenticatedError
from pratique.orchestrator.access.limits.interface import LimitExceededError
from pratique.orchestrator.api.responses import SECURITY_HEADERS, limit_headers
from pratique.orchestrator.protocol.errors import event_error_of, http_status_of

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Refusal", "event_of", "refusal_of"]

_CLIENT_ERROR: Final = 500
_SECURITY_HEADERS: Final = tuple((name.encode(), value.encode()) for name, value in SECURITY_HEADERS.items())
# The two that OpenAI's clients look for under names of their own.
_CODES: Final[Mapping[str, str]] = {"unauthenticated": "invalid_api_key", "rate_limited": "rate_limit_exceeded"}
_TYPES: Final[Mapping[int, str]] = {429: "rate_limit_error", 403: "permission_error"}


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """An answer that is an error."""

    status: int
    code: str
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...]


def refusal_of(error: Exception) -> Refusal:
    """Return what was raised in OpenAI's shape; what nobody foresaw says nothing of the inside."""
    said = event_error_of(error)
    status = http_status_of(said.code)
    headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store"), *_SECURITY_HEADERS]
    if isinstance(error, UnauthenticatedError):
        headers.append((b"www-authenticate", b'Bearer realm="pratique"'))
    if isinstance(error, LimitExceededError):
        headers += [(name.encode(), value.encode()) for name, value in limit_headers(error).items()]
    if said.retry_after_seconds is not None:
        headers.append((b"retry-after", str(max(1, math.ceil(said.retry_after_seconds))).encode()))
    if allowed := getattr(error, "allowed", None):
        headers.append((b"allow", allowed.encode()))
    code = _CODES.get(said.code, said.code)
    message = f"{said.message} {said.hint}" if said.hint else said.message
    body = _body(message, kind=_kind(status), code=code)
    return Refusal(status=status, code=code, body=body, headers=tuple(headers))


def event_of(error: Exception) -> bytes:
    """Return it as the last event of a stream that breaks off, whatever was cut before it."""
    return b"\n\ndata: " + refusal_of(error).body + b"\n\n"


def _kind(status: int) -> str:
    return _TYPES.get(status, "invalid_request_error" if status < _CLIENT_ERROR else "server_error")


def _body(message: str, *, kind: str, code: str) -> bytes:
    return msgspec.json.encode({"error": {"message": message, "type": kind, "param": None, "code": code}})
