"""The OpenAI API, relayed to the model servers: unbuffered, and only for holders of an API key.

Nothing is translated but failure to reach a server, which is said in OpenAI's shape. A client that leaves cancels the
request upstream.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from pratique.core.errors import PratiqueError
from pratique.core.events import get_logger
from pratique.orchestrator.access import UnauthenticatedError
from pratique.orchestrator.api.requests import BodyTimeoutError, headers_of
from pratique.orchestrator.api.responses import json_response
from pratique.orchestrator.forward.interface import ForwardRequest, ForwardUnavailableError, ShedError
from pratique.orchestrator.protocol.errors import FrameTooLargeError, http_status_of

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

    from pratique.orchestrator.api.runtime import Runtime

__all__ = ["OpenAiProxy"]

_logger = get_logger("api")
MAX_BODY_BYTES: Final = 8 * 2**20
_MAX_BODY_SECONDS: Final = 30.0
# Of one hop only (RFC 9110 7.6.1), what the next hop sets itself, our credentials, which are not the engine's, and what
# chooses the server, which is not the client's to say.
_NOT_FORWARDED: Final = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization te trailer transfer-encoding upgrade host "
    b"content-length authorization cookie expect accept-encoding x-pratique-conversation".split()
)


class OpenAiProxy:
    """The ASGI application behind /v1."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            # Closed before it is accepted: the handshake is refused. The API here has no WebSockets.
            await send({"type": "websocket.close", "code": 1008})
            return
        try:
            principal = self._runtime.authenticator.authenticate_key(headers_of(scope))
            body = await _read(receive)
        except UnauthenticatedError as error:
            await _error(401, error.message, "invalid_request_error", "invalid_api_key")(scope, receive, send)
            return
        except PratiqueError as error:
            kind = "invalid_request_error" if isinstance(error, FrameTooLargeError) else "server_error"
            await _error(http_status_of(error.code), error.message, kind, error.code)(scope, receive, send)
            return
        if body is None:
            return
        relaying = asyncio.ensure_future(self._relay(scope, receive, send, body, principal.principal_id))
        leaving = asyncio.ensure_future(_client_left(receive))
        try:
            await asyncio.wait({relaying, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            relaying.cancel()
            leaving.cancel()
            results = await asyncio.gather(relaying, leaving, return_exceptions=True)
        if isinstance(results[0], Exception) and not isinstance(results[0], OSError):
            raise results[0]

    async def _relay(self, scope: Scope, receive: Receive, send: Send, body: bytes, principal_id: str) -> None:
        path = scope.get("raw_path") or scope["path"].encode()
        if any(segment in {".", ".."} for segment in scope["path"].split("/")):
            await _error(404, "There is no such path.", "invalid_request_error", "not_found")(scope, receive, send)
            return
        request = ForwardRequest(
            method=scope["method"],
            path=path.decode("ascii") + (f"?{scope['query_string'].decode()}" if scope["query_string"] else ""),
            headers=[
                (k.decode("latin-1"), v.decode("latin-1")) for k, v in scope["headers"] if k not in _NOT_FORWARDED
            ],
            body=body,
            affinity=principal_id,
            timeout_seconds=self._runtime.settings.reply_timeout_seconds,
        )
        has_begun = False
        try:
            async with self._runtime.forwarder.open(request) as answer:
                has_begun = True
                headers = [*answer.headers, (b"x-pratique-lane", answer.lane.encode())]
                await send({"type": "http.response.start", "status": answer.status, "headers": headers})
                async for chunk in answer.chunks():
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except ForwardUnavailableError as error:
            if has_begun:
                # Nothing can be said any more; the answer breaks off, which is what happened.
                _logger.info("proxied_answer_broke_off", error=error.message)
                return
            await _unavailable()(scope, receive, send)
        except ShedError as error:
            response = _error(503, error.message, "server_error", error.code)
            response.headers["retry-after"] = str(max(1, round(error.retry_after_seconds)))
            await response(scope, receive, send)


async def _read(receive: Receive) -> bytes | None:
    """Return the body; None where the client left first."""
    chunks: list[bytes] = []
    num_bytes = 0
    try:
        async with asyncio.timeout(_MAX_BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                chunk = message.get("body", b"")
                num_bytes += len(chunk)
                if num_bytes > MAX_BODY_BYTES:
                    raise FrameTooLargeError(f"A body has at most {MAX_BODY_BYTES} bytes here.")
                chunks.append(chunk)
                if not message.get("more_body", False):
                    return b"".join(chunks)
    except TimeoutError as error:
        raise BodyTimeoutError(f"The body did not come within {_MAX_BODY_SECONDS:.0f} s.") from error


async def _client_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _error(status: int, message: str, kind: str, code: str) -> Response:
    return json_response({"error": {"message": message, "type": kind, "param": None, "code": code}}, status=status)


def _unavailable() -> Response:
    response = _error(503, "No model server takes traffic.", "server_error", "model_unavailable")
    response.headers["retry-after"] = "2"
    return response
