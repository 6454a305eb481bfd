"""POST /invocations: the contract between the orchestrator and a model server, the same here and on SageMaker.

A request ends in one of four ways: the engine's finish, an error event, the caller's deadline, or the caller leaving.
The last three abort it inside the engine, because the generator over the engine is always closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import lru_cache

from starlette.types import Receive, Scope, Send

from pratique.core.errors import PratiqueError
from pratique.core.events import get_logger
from pratique.core.ids import IdSource
from pratique.inference.api.http import ClientDisconnectedError, header, read_body, send_json
from pratique.inference.api.wire import Invocation, error_body, parse_invocation, sse
from pratique.inference.context.budget import Fitted, Wanted, fit
from pratique.inference.context.continuation import Continuation
from pratique.inference.context.counts import TextCounts
from pratique.inference.engines.interface import ChatMessage, Engine, GenerateRequest, Piece
from pratique.inference.errors import (
    BodyTooLargeError,
    ContextLengthExceededError,
    DrainingError,
    EngineError,
    InvalidInvocationError,
    InvocationTimeoutError,
    NotReadyError,
)
from pratique.inference.settings import InferenceSettings

__all__ = ["Invocations"]

_STATUS: dict[type[PratiqueError], int] = {
    InvalidInvocationError: 400,
    ContextLengthExceededError: 400,
    BodyTooLargeError: 413,
    DrainingError: 503,
    InvocationTimeoutError: 504,
}
_LOG = get_logger("invocations")


@dataclass(frozen=True, kw_only=True)
class _Job:
    """One request, understood and fitted."""

    invocation: Invocation
    request: GenerateRequest
    fitted: Fitted
    continuation: Continuation
    deadline: float
    """On the event loop's clock."""


class Invocations:
    """The ASGI application behind /invocations."""

    def __init__(self, engine: Engine, settings: InferenceSettings, *, ids: IdSource) -> None:
        self._engine = engine
        self._settings = settings
        self._ids = ids
        self._counts = TextCounts(engine.count)
        self._is_cut = False
        self._timers: set[asyncio.Timeout] = set()

    def cut(self) -> None:
        """End the streams that still run with an error event: the drain time is over."""
        self._is_cut = True
        for timer in self._timers:
            timer.reschedule(0.0)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            await send_json(
                send, 405, {"error": {"code": "method_not_allowed", "message": "POST only."}}, {"allow": "POST"}
            )
            return
        try:
            job = await self._understand(scope, receive)
        except ClientDisconnectedError:
            return
        except PratiqueError as error:
            await send_json(send, _STATUS.get(type(error), 500), {"error": error_body(error)})
            return
        await self._answer_unless_left(job, receive, send)

    async def _understand(self, scope: Scope, receive: Receive) -> _Job:
        invocation = parse_invocation(await read_body(receive, limit_bytes=self._settings.max_body_bytes))
        # Tokenising a long history takes milliseconds to a second: beside the event loop, which must stay live.
        continuation = Continuation(invocation.prefix)
        fitted, prompt = await asyncio.to_thread(self._fit, invocation, continuation.opening)
        request = GenerateRequest(
            request_id=invocation.request_id or header(scope, "x-pratique-request") or self._ids.new("req"),
            prompt=prompt,
            max_tokens=invocation.max_tokens,
            temperature=invocation.temperature,
            stop=invocation.stop,
            seed=invocation.seed,
            messages=fitted.messages,
            prefix=continuation.opening,
        )
        seconds = min(_timeout_of(scope), self._settings.request_timeout_seconds)
        deadline = asyncio.get_running_loop().time() + seconds
        return _Job(invocation=invocation, request=request, fitted=fitted, continuation=continuation, deadline=deadline)

    def _fit(self, invocation: Invocation, opening: str) -> tuple[Fitted, list[int]]:
        """Return what fits, and its token ids."""
        wanted = Wanted(
            query=invocation.query,
            system_prompt=invocation.system_prompt,
            passages=invocation.context,
            history=tuple(ChatMessage(turn.role, turn.content) for turn in invocation.history),
            max_tokens=invocation.max_tokens,
        )
        encode = lru_cache(maxsize=4)(lambda messages: self._engine.encode(messages, prefix=opening))
        fitted = fit(
            wanted,
            limit=self._engine.max_model_len,
            count=lambda messages: len(encode(tuple(messages))),
            estimate=self._counts,
        )
        return fitted, encode(fitted.messages)

    async def _answer_unless_left(self, job: _Job, receive: Receive, send: Send) -> None:
        """Answer, and stop at once when the client leaves or the server may wait no longer."""
        answering = asyncio.create_task(self._answer(job, send))
        leaving = asyncio.create_task(_left(receive))
        try:
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (answering, leaving):
                task.cancel()
            outcomes = await asyncio.gather(answering, leaving, return_exceptions=True)
        if isinstance(outcomes[0], Exception) and not isinstance(outcomes[0], OSError):
            raise outcomes[0]

    async def _answer(self, job: _Job, send: Send) -> None:
        if job.invocation.stream:
            await self._stream(job, send)
        else:
            await self._whole(job, send)

    async def _whole(self, job: _Job, send: Send) -> None:
        pieces: list[Piece] = []
        try:
            async with aclosing(self._pieces(job)) as stream:
                pieces.extend([piece async for piece in stream])
        except PratiqueError as error:
            await send_json(send, _STATUS.get(type(error), 500), {"error": error_body(error)})
            return
        last = pieces[-1]
        usage = {"prompt_tokens": job.fitted.prompt_tokens, "completion_tokens": last.completion_tokens}
        body = {
            **self._head(job),
            "text": "".join(piece.text for piece in pieces),
            "finish_reason": last.finish_reason,
            "usage": usage,
        }
        await send_json(send, 200, body)

    async def _stream(self, job: _Job, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})

        async def emit(event: str, data: object) -> None:
            await send({"type": "http.response.body", "body": sse(event, data), "more_body": True})

        await emit("start", self._head(job))
        try:
            async with aclosing(self._pieces(job)) as stream:
                async for piece in stream:
                    if piece.text:
                        await emit("token", {"text": piece.text})
                    if piece.finish_reason:
                        await emit("end", _end(job, piece))
        except PratiqueError as error:
            _LOG.warning("invocation_failed", request_id=job.request.request_id, code=error.code, error=error.message)
            await emit("error", error_body(error) | {"retryable": isinstance(error, (EngineError, NotReadyError))})
        await send({"type": "http.response.body", "body": b""})

    async def _pieces(self, job: _Job) -> AsyncGenerator[Piece, None]:
        """Yield the engine's pieces until it finishes, the deadline passes, or the drain cuts the stream."""
        async with aclosing(self._engine.generate(job.request)) as stream:
            while (piece := await self._step(stream, job.deadline)) is not None:
                yield replace(piece, text=job.continuation.follow(piece.text))

    async def _step(self, stream: AsyncGenerator[Piece, None], deadline: float) -> Piece | None:
        """Return the next piece, or None after the last. What stops the wait stops the engine's generator too."""
        if self._is_cut:
            raise _why_stopped(is_cut=True)
        try:
            async with asyncio.timeout_at(deadline) as timer:
                self._timers.add(timer)
                try:
                    return await anext(stream, None)
                finally:
                    self._timers.discard(timer)
        except TimeoutError as error:
            raise _why_stopped(is_cut=self._is_cut) from error

    def _head(self, job: _Job) -> dict[str, object]:
        return {
            "request_id": job.request.request_id,
            "model": self._engine.model,
            "prompt_tokens": job.fitted.prompt_tokens,
            "was_truncated": job.fitted.was_truncated,
            "turns_dropped": job.fitted.turns_dropped,
        }


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _why_stopped(*, is_cut: bool) -> PratiqueError:
    if is_cut:
        return DrainingError("This server is shutting down and the time to drain is over.", hint="Ask another replica.")
    return InvocationTimeoutError("The reply was not finished within the caller's deadline.")


def _end(job: _Job, piece: Piece) -> dict[str, object]:
    return {
        "finish_reason": piece.finish_reason,
        "prompt_tokens": job.fitted.prompt_tokens,
        "completion_tokens": piece.completion_tokens,
    }


def _timeout_of(scope: Scope) -> float:
    text = header(scope, "x-pratique-timeout-seconds")
    if text is None:
        return float("inf")
    try:
        seconds = float(text)
    except ValueError as error:
        raise InvalidInvocationError(
            f"x-pratique-timeout-seconds must be a number of seconds, not '{text}'."
        ) from error
    if not seconds > 0:
        raise InvalidInvocationError(f"x-pratique-timeout-seconds must be more than 0, not '{text}'.")
    return seconds
