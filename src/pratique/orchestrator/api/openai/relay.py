"""The ASGI application behind /v1: who may, how much, then bodies passed on byte for byte, unbuffered, both ways.

The steps of a request, each labelled below:
1. Its API key, and the page it comes from, where that is a browser's. 2. Its path, which must be a listed one.
3. Its body, bounded in bytes and time. 4. Its share of the principal's limits. 5. Forwarded, with a deadline that
travels along. 6. Settled: what it took.

A client that leaves, or reads nothing for two heartbeats, ends the request upstream: leaving the forwarder's context
before the answer's end is what aborts the engine. Nothing is translated; our own refusals are in OpenAI's shape.
"""

from __future__ import annotations

import math
import re
import secrets
from typing import TYPE_CHECKING, Final

from pratique.core.errors import CallerError, PratiqueError
from pratique.core.events import get_logger
from pratique.orchestrator.access import UnauthenticatedError
from pratique.orchestrator.access.limits.interface import Reservation
from pratique.orchestrator.api.admission import Admission
from pratique.orchestrator.api.openai.answers import event_of, refusal_of
from pratique.orchestrator.api.openai.bodies import Bodies
from pratique.orchestrator.api.openai.routes import find_route
from pratique.orchestrator.api.openai.usage import Asked, read_asked, tally_of
from pratique.orchestrator.api.openai.vigil import ClientLeftError, ClientStalledError, Rounds, SilentModelError, Vigil
from pratique.orchestrator.api.requests import BodyTimeoutError, headers_of
from pratique.orchestrator.forward.interface import (
    ForwardRequest,
    ForwardTimeoutError,
    ForwardUnavailableError,
    ShedError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from prometheus_client import Counter
    from starlette.types import Receive, Scope, Send

    from pratique.orchestrator.access import Principal
    from pratique.orchestrator.api.openai.usage import JsonTally, StreamTally
    from pratique.orchestrator.api.runtime import Runtime
    from pratique.orchestrator.forward.interface import ForwardAnswer

__all__ = ["OpenAiApi"]

_logger = get_logger("api")
_BODY_SECONDS: Final = 30.0
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")
# By their path: of what type a body says it is does not keep an engine from reading it as JSON.
_NOT_JSON: Final = "/v1/audio/"
_NAME_DIGITS: Final = 32
_NAMES_AT_ONCE: Final = 128
_ERROR: Final = 400
_GATEWAY_TIMEOUT: Final = 504
_METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
# A list of what passes, not of what does not: proxies and servers have headers that nobody here thought of, by which
# the one who asks says who he is, how often to try, or which server to take. The last three choose the lane.
_FORWARDED: Final = frozenset(
    b"accept content-type user-agent traceparent tracestate x-conversation-id x-session-affinity x-session-id".split()
)
_FORWARDED_PREFIXES: Final = (b"openai-", b"x-stainless-")
# A page of another origin is let in by our settings, not by the engine's.
_NOT_RETURNED_PREFIX: Final = b"access-control-"
_NO_SNIFFING: Final = (b"x-content-type-options", b"nosniff")


class OpenAiApi:
    """Serves /v1 and everything below it, of whatever scope type."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._admission = Admission(runtime)
        self._bodies = Bodies(runtime.settings.openai, runtime.connections)
        self._names = _new_names()
        self._rounds: Rounds | None = None
        self._counters: dict[tuple[str, int], Counter] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            # Closed before it is accepted: the handshake is refused. The API here has no WebSockets.
            await send({"type": "websocket.close", "code": 1008})
            return
        request = _Request(
            self._runtime,
            self._admission,
            scope,
            receive,
            send,
            name=next(self._names),
            bodies=self._bodies,
            count=self._count,
        )
        if self._rounds is None:
            self._rounds = Rounds()
        try:
            async with Vigil(self._rounds) as vigil:
                await request.serve(vigil)
        except (ClientLeftError, ClientStalledError) as error:
            if isinstance(error, ClientStalledError):
                self._runtime.instruments.connections_cut.labels(reason=error.code).inc()
            _logger.info("openai_request_given_up", reason=error.code, request_id=request.request_id)
        except PratiqueError as error:
            await request.refuse(error)
        except Exception as error:
            _logger.exception("openai_request_failed", request_id=request.request_id)
            await request.refuse(error)
        finally:
            await request.settle()

    def _count(self, method: str, status: int) -> None:
        # Looked up once for each of the few there are.
        counter = self._counters.get((method, status))
        if counter is None:
            # A label must not take whatever a client invents.
            label = method if method in _METHODS else "other"
            counter = self._runtime.instruments.http_requests.labels(method=label, status=str(status))
            if label == method:
                self._counters[method, status] = counter
        counter.inc()


class _Request:
    """One request: what is known of it so far, and how it goes on."""

    def __init__(
        self,
        runtime: Runtime,
        admission: Admission,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        name: str,
        bodies: Bodies,
        count: Callable[[str, int], None],
    ) -> None:
        self._runtime = runtime
        self._admission = admission
        self._bodies = bodies
        self._scope = scope
        self._receive = receive
        self._send = send
        self._count = count
        self._headers: Mapping[str, str] = {}
        # Not the client's own: a name that comes twice would be one reservation.
        self._name = self.request_id = name
        self._principal: Principal | None = None
        self._num_held = 0
        self._reservation: Reservation | None = None
        self._is_sent = False
        self._tally: JsonTally | StreamTally | None = None
        self._status = 0
        self._is_event_stream = False

    async def serve(self, vigil: Vigil) -> None:
        """Answer it. Raises what stands against it."""
        runtime, scope = self._runtime, self._scope
        principal = self._principal = await self._admit()  # 1
        path = find_route(scope["method"], scope["path"], scope.get("raw_path") or scope["path"].encode())  # 2
        vigil.expect(_BODY_SECONDS, _late_body)
        declared = self._headers.get("content-length", "")
        body = await self._bodies.read(self._receive, principal, declared=declared)  # 3
        self._num_held = len(body)
        asked = read_asked(
            body,
            is_json=not path.startswith(_NOT_JSON),
            default_max_tokens=runtime.settings.max_tokens if body else 0,
        )
        seconds = self._deadline_seconds(asked)
        await self._reserve(principal, asked.tokens)  # 4
        vigil.watch(self._receive)
        vigil.expect(self._first_seconds(asked, seconds), _silent)
        request = ForwardRequest(
            method=scope["method"],
            path=f"{path}?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else path,
            headers=self._forwarded(seconds),
            body=body,
            affinity=principal.principal_id,
            timeout_seconds=seconds,
            is_stream=asked.is_stream,
        )
        exchange = runtime.forwarder.open(request)  # 5
        self._is_sent = True
        try:
            async with exchange as answer:
                await self._pass_on(answer, asked, vigil)
        except (ForwardUnavailableError, ShedError) as error:
            # Where nobody took it, it cost nothing.
            self._is_sent = isinstance(error, ForwardTimeoutError)
            raise

    async def _admit(self) -> Principal:
        # For what is said of it where it is refused.
        given = headers_of(self._scope).get("x-request-id", "")
        if _REQUEST_ID.fullmatch(given):
            self.request_id = given
        principal = await self._admission.admit(self._scope)
        if principal is None:
            raise UnauthenticatedError("No API key.")
        # Only what is believed of the head is left now.
        self._headers = headers_of(self._scope)
        return principal

    async def _reserve(self, principal: Principal, tokens: int) -> None:
        # Before it is asked for: who leaves meanwhile may have taken it.
        self._reservation = Reservation(principal=principal, name=self._name, tokens=tokens)
        try:
            await self._runtime.limiter.reserve(self._reservation)
        except PratiqueError:
            self._reservation = None
            raise

    async def _pass_on(self, answer: ForwardAnswer, asked: Asked, vigil: Vigil) -> None:
        settings, send = self._runtime.settings, self._send
        stall_seconds = 2 * settings.heartbeat_seconds
        headers = self._returned(answer)
        tally = self._tally = tally_of(asked, is_event_stream=self._is_event_stream)
        # Between the chunks of a stream; an answer in one piece has its whole deadline anyway.
        next_seconds = settings.inter_token_timeout_seconds if self._is_event_stream else settings.reply_timeout_seconds
        await self._start(answer.status, headers)
        async for chunk in answer.chunks():
            tally.add(chunk)
            vigil.expect(stall_seconds, _stalled)
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            vigil.expect(next_seconds, _silent)
        vigil.expect(stall_seconds, _stalled)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def refuse(self, error: Exception) -> None:
        """Say what stands against it, in the way that is still open."""
        if self._status:
            # The answer has begun. A stream can say so in an event; then it breaks off, which is what happened.
            _logger.info("openai_answer_broke_off", error=str(error), request_id=self.request_id)
            if self._is_event_stream:
                await self._send({"type": "http.response.body", "body": event_of(error), "more_body": True})
            return
        refusal = refusal_of(error)
        if self._principal is not None and isinstance(error, PratiqueError):
            # What stands against somebody unknown was counted and recorded where it was found.
            self._admission.refused(self._scope, error, self._principal)
        length = (b"content-length", str(len(refusal.body)).encode())
        await self._start(refusal.status, [*refusal.headers, length, (b"x-request-id", self.request_id.encode())])
        await self._send({"type": "http.response.body", "body": refusal.body, "more_body": False})

    async def settle(self) -> None:
        """Give back what it did not take."""  # 6
        self._bodies.release(self._num_held)
        if self._reservation is None:
            return
        tokens: int | None
        if self._tally is None:
            # Given up before its answer began: the engine worked, for how long is not known.
            tokens = None if self._is_sent else 0
        elif self._status >= _ERROR:
            tokens = None if self._status == _GATEWAY_TIMEOUT else 0
        else:
            tokens = self._tally.tokens()
        await self._runtime.limiter.settle(self._reservation, tokens=tokens)

    def _deadline_seconds(self, asked: Asked) -> float:
        settings = self._runtime.settings
        most = settings.reply_timeout_seconds
        given = self._headers.get("x-pratique-timeout-seconds")
        if given is None:
            return most if asked.is_stream else min(most, settings.openai.answer_timeout_seconds)
        try:
            seconds = float(given)
        except ValueError:
            seconds = math.nan
        if not seconds > 0:
            raise CallerError(f"Expected a number of seconds in x-pratique-timeout-seconds; found '{given[:40]}'.")
        return min(most, seconds)

    def _first_seconds(self, asked: Asked, seconds: float) -> float:
        """Return how long the first byte may take."""
        return min(seconds, self._runtime.settings.first_token_timeout_seconds) if asked.is_stream else seconds

    def _forwarded(self, seconds: float) -> list[tuple[str, str]]:
        headers = [
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in self._scope["headers"]
            if name in _FORWARDED or name.startswith(_FORWARDED_PREFIXES)
        ]
        connection = self._headers.get("connection", "").lower()
        if connection not in {"", "keep-alive", "close"}:
            # It names further headers that are of this hop only (RFC 9110 7.6.1).
            dropped = {token.strip() for token in connection.split(",")}
            headers = [pair for pair in headers if pair[0] not in dropped]
        headers += [("x-request-id", self.request_id), ("x-pratique-timeout-seconds", f"{seconds:.3f}")]
        return headers

    def _returned(self, answer: ForwardAnswer) -> list[tuple[bytes, bytes]]:
        headers = [
            (b"x-request-id", self.request_id.encode()),
            _NO_SNIFFING,
            (b"x-pratique-lane", answer.lane.encode()),
        ]
        for header in answer.headers:
            name = header[0]
            if name == b"content-type":
                self._is_event_stream = header[1].startswith(b"text/event-stream")
            if name != b"x-request-id" and not name.startswith(_NOT_RETURNED_PREFIX):
                headers.append(header)
        return headers

    async def _start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self._status = status
        self._count(self._scope["method"], status)
        await self._send({"type": "http.response.start", "status": status, "headers": headers})


def _new_names() -> Iterator[str]:
    """Yield names that nobody can guess, with one call of the system for many."""
    while True:
        digits = secrets.token_hex(_NAME_DIGITS // 2 * _NAMES_AT_ONCE)
        for start in range(0, len(digits), _NAME_DIGITS):
            yield f"req_{digits[start : start + _NAME_DIGITS]}"


def _silent() -> Exception:
    return SilentModelError("The model server did not answer in time.", hint="Stream, ask for less, or give it longer.")


def _stalled() -> Exception:
    return ClientStalledError("The client takes nothing.")


def _late_body() -> Exception:
    return BodyTimeoutError(f"The body did not come within {_BODY_SECONDS:.0f} s.")
