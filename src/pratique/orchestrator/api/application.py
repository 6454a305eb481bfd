"""The ASGI application of one replica: routes, error answers, the guard around them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from pratique.core.errors import PratiqueError
from pratique.core.events import get_logger
from pratique.orchestrator.api.admission import Admission
from pratique.orchestrator.api.chat import ChatRoutes
from pratique.orchestrator.api.guard import Guard
from pratique.orchestrator.api.me import MeRoutes
from pratique.orchestrator.api.models import ModelRoutes
from pratique.orchestrator.api.openai.relay import OpenAiApi
from pratique.orchestrator.api.page import PageRoutes
from pratique.orchestrator.api.probes import ProbeRoutes
from pratique.orchestrator.api.requests import PRINCIPAL
from pratique.orchestrator.api.responses import error_response, refusal
from pratique.orchestrator.api.websocket import WebSocketEndpoint
from pratique.orchestrator.protocol.events import EventError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

    from pratique.orchestrator.api.runtime import Runtime

__all__ = ["build_application"]

_logger = get_logger("api")
_CODES = {404: "not_found", 405: "method_not_allowed"}


def build_application(runtime: Runtime) -> ASGIApp:
    """Return the application; `runtime` must run for as long as it is served."""
    chat, probes, page = ChatRoutes(runtime), ProbeRoutes(runtime), PageRoutes(runtime)
    application = Starlette(
        routes=[
            *chat.routes(),
            *ModelRoutes(runtime).routes(),
            *MeRoutes(runtime).routes(),
            *probes.routes(),
            *page.routes(),
        ],
        exception_handlers={
            PratiqueError: _on_refusal(runtime),
            HTTPException: _on_http_error,
            Exception: _on_fault,
        },
    )
    return _Split(OpenAiApi(runtime), WebSocketEndpoint(runtime), Guard(application, runtime))


class _Split:
    """Before all layers: what is paid for per request (/v1) or held per connection (/api/ws), and admits by itself."""

    def __init__(self, openai: ASGIApp, socket: ASGIApp, rest: ASGIApp) -> None:
        self._openai = openai
        self._socket = socket
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if path.startswith("/v1/") or path == "/v1":
            application = self._openai
        elif scope["type"] == "websocket" and path == "/api/ws":
            application = self._socket
        else:
            application = self._rest
        await application(scope, receive, send)


def _on_refusal(runtime: Runtime) -> Callable[[Request, Exception], Awaitable[Response]]:
    admission = Admission(runtime)

    async def answer(request: Request, error: Exception) -> Response:
        if isinstance(error, PratiqueError):
            admission.refused(request.scope, error, request.scope.get(PRINCIPAL))
        return error_response(error)

    return answer


async def _on_http_error(_: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        return error_response(error)
    code = _CODES.get(error.status_code, "invalid_request")
    response = refusal(EventError(code=code, message=str(error.detail)), status=error.status_code)
    for name, value in (error.headers or {}).items():
        response.headers[name] = value
    return response


async def _on_fault(_: Request, error: Exception) -> Response:
    return error_response(error)
