"""Decides who comes in over HTTP, before any handler: origin, principal; adds what every answer carries.

Closed by default: below /api everything needs a principal but the few paths named here. /v1 asks for its API key
itself, in OpenAI's words; what is neither is the page, which is public, and the probes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.datastructures import MutableHeaders

from pratique.core.errors import PratiqueError
from pratique.core.events import bound_contextvars
from pratique.orchestrator.access import affinity, check_origin
from pratique.orchestrator.api.requests import PRINCIPAL, headers_of
from pratique.orchestrator.api.responses import error_response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from pratique.orchestrator.api.runtime import Runtime

__all__ = ["Guard", "needs_principal"]

_PUBLIC = frozenset({"/api/session", "/api/status"})
_PUBLIC_PREFIX = "/api/schema"
_WRITING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_SECURITY_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-resource-policy": "same-origin",
}


def needs_principal(path: str) -> bool:
    """Whether a path is only for somebody known."""
    return path.startswith("/api") and path not in _PUBLIC and not path.startswith(_PUBLIC_PREFIX)


class Guard:
    """Plain ASGI middleware around everything."""

    def __init__(self, application: ASGIApp, runtime: Runtime) -> None:
        self._application = application
        self._runtime = runtime

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        headers = headers_of(scope)
        answer = _Answer(self._runtime, scope, headers, send)
        request_id = headers.get("x-request-id", "")[:64]
        with bound_contextvars(path=scope["path"], **({"request_id": request_id} if request_id else {})):
            try:
                self._admit(scope, headers)
            except PratiqueError as error:
                self._runtime.instruments.frames_refused.labels(code=error.code).inc()
                await error_response(error)(scope, receive, answer.send)
                return
            await self._application(scope, receive, answer.send)

    def _admit(self, scope: Scope, headers: Mapping[str, str]) -> None:
        if scope["method"] in _WRITING:
            check_origin(headers, allowed=self._runtime.settings.allowed_origins)
        if needs_principal(scope["path"]):
            scope[PRINCIPAL] = self._runtime.authenticator.authenticate(headers)


class _Answer:
    """Adds headers to one answer, and counts it."""

    def __init__(self, runtime: Runtime, scope: Scope, headers: Mapping[str, str], send: Send) -> None:
        self._runtime = runtime
        self._scope = scope
        self._headers = headers
        self._send = send

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=list(message.get("headers", [])))
            for name, value in _SECURITY_HEADERS.items():
                headers.setdefault(name, value)
            if not self._scope["path"].startswith(("/livez", "/readyz", "/metrics", "/v1/")):
                grant = affinity(self._headers, secure=self._runtime.settings.secure_cookies)
                if grant.set_cookie is not None:
                    headers.append("set-cookie", grant.set_cookie)
            message = {**message, "headers": headers.raw}
            self._runtime.instruments.http_requests.labels(
                method=_known_method(self._scope["method"]), status=str(message["status"])
            ).inc()
        await self._send(message)


def _known_method(method: str) -> str:
    # A label must not take whatever a client invents.
    return method if method in _WRITING or method in {"GET", "HEAD", "OPTIONS"} else "other"
