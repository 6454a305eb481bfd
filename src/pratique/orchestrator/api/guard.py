"""Stands before every handler: lets in whom `admission` lets in, and adds what every answer carries.

What is not below /api is the page, which is public, and the probes; /v1 stands on its own. A WebSocket is admitted by
its own endpoint: browsers cannot see the status of a failed handshake.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.datastructures import MutableHeaders

from pratique.core.errors import PratiqueError
from pratique.core.events import bound_contextvars
from pratique.orchestrator.access import affinity, scope_of_path
from pratique.orchestrator.access.wire import request_id_of
from pratique.orchestrator.api.admission import Admission
from pratique.orchestrator.api.requests import headers_of
from pratique.orchestrator.api.responses import SECURITY_HEADERS, error_response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from pratique.orchestrator.api.runtime import Runtime

__all__ = ["Guard", "needs_principal"]

_WRITING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_UNAUTHENTICATED = 401
_STRICT_TRANSPORT = "max-age=31536000"


def needs_principal(path: str) -> bool:
    """Whether a path is only for somebody known."""
    return scope_of_path(path) is not None


class Guard:
    """Plain ASGI middleware around everything."""

    def __init__(self, application: ASGIApp, runtime: Runtime) -> None:
        self._application = application
        self._runtime = runtime
        self._admission = Admission(runtime)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        headers = headers_of(scope)
        answer = _Answer(self._runtime, scope, headers, send)
        request_id = request_id_of(headers)
        with bound_contextvars(path=scope["path"], **({"request_id": request_id} if request_id else {})):
            try:
                await self._admission.admit(scope)
            except PratiqueError as error:
                await error_response(error)(scope, receive, answer.send)
                return
            await self._application(scope, receive, answer.send)


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
            for name, value in SECURITY_HEADERS.items():
                headers.setdefault(name, value)
            if self._runtime.settings.secure_cookies:
                headers.setdefault("strict-transport-security", _STRICT_TRANSPORT)
            if self._scope["path"].startswith("/api/"):
                headers.setdefault("cache-control", "no-store")
            if message["status"] == _UNAUTHENTICATED:
                headers.setdefault("www-authenticate", 'Bearer realm="pratique"')
            if not self._scope["path"].startswith(("/livez", "/readyz", "/metrics")):
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
