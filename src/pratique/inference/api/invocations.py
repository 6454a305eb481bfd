"""POST /invocations: the contract between the orchestrator and a model server, the same here and on SageMaker.

A request ends in one of four ways: the engine's finish, an error, the caller's deadline, or the caller leaving. The
last three abort it inside the engine, because the generator over the engine is always closed. Each tells the breaker.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import asdict, replace
from typing import Final

from starlette.types import Receive, Scope, Send

from pratique.core.catalogue.inference import TURNS_DROPPED
from pratique.core.errors import PratiqueError
from pratique.core.events import get_logger
from pratique.core.ids import IdSource
from pratique.core.metrics import Metrics
from pratique.inference.api.http import ClientDisconnectedError, send_json
from pratique.inference.api.job import Job, JobMaker
from pratique.inference.api.target import Models, Outcome
from pratique.inference.api.wire import error_body, sse
from pratique.inference.engines.interface import Piece
from pratique.inference.errors import (
    MEMORY_CAUSES,
    BodyTimeoutError,
    BodyTooLargeError,
    CapacityLimitError,
    ContextLengthExceededError,
    DrainingError,
    EngineDeadError,
    EngineError,
    EngineFlushedError,
    InvalidInvocationError,
    InvocationTimeoutError,
    NotReadyError,
    UnknownModelError,
)
from pratique.inference.settings import InferenceSettings

__all__ = ["Invocations"]

_STATUS: Final[dict[type[PratiqueError], int]] = {
    InvalidInvocationError: 400,
    ContextLengthExceededError: 400,
    UnknownModelError: 404,
    BodyTimeoutError: 408,
    BodyTooLargeError: 413,
    CapacityLimitError: 503,
    DrainingError: 503,
    EngineDeadError: 503,
    EngineFlushedError: 503,
    NotReadyError: 503,
    InvocationTimeoutError: 504,
}
_UNAVAILABLE: Final = 503
_LATE_SECONDS: Final = 5.0
"""After its deadline an answer that still cannot be sent is given up: the client does not read."""
_LOG = get_logger("invocations")


class Invocations:
    """The ASGI application behind /invocations."""

    def __init__(self, models: Models, settings: InferenceSettings, *, ids: IdSource, metrics: Metrics) -> None:
        self._jobs = JobMaker(models, settings, ids=ids)
        self._fallback = settings.containment.fallback_text
        self._metrics = metrics
        self._is_cut = False
        self._timers: set[asyncio.Timeout] = set()

    def cut(self) -> None:
        """End the streams that still run with an error event: the drain time is over."""
        self._is_cut = True
        for timer in self._timers:
            timer.reschedule(0.0)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            error = {"code": "method_not_allowed", "message": "POST only."}
            await send_json(send, 405, {"error": error}, {"allow": "POST"})
            return
        try:
            job = await self._jobs.make(scope, receive)
        except ClientDisconnectedError:
            return
        except PratiqueError as error:
            await self._refuse(error, send)
            return
        if not job.is_warmup:
            self._metrics.counter(TURNS_DROPPED).labels(api="invocations").inc(job.fitted.turns_dropped)
        try:
            await self._answer_unless_left(job, receive, send)
        finally:
            job.settle()

    async def _answer_unless_left(self, job: Job, receive: Receive, send: Send) -> None:
        """Answer, and stop at once when the client leaves or the server may wait no longer."""
        answering = asyncio.create_task(self._answer(job, send))
        leaving = asyncio.create_task(_left(receive))
        left_seconds = job.deadline + _LATE_SECONDS - asyncio.get_running_loop().time()
        try:
            await asyncio.wait({answering, leaving}, timeout=left_seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (answering, leaving):
                task.cancel()
            outcomes = await asyncio.gather(answering, leaving, return_exceptions=True)
        if isinstance(outcomes[0], Exception) and not isinstance(outcomes[0], OSError):
            raise outcomes[0]

    async def _answer(self, job: Job, send: Send) -> None:
        if job.invocation.stream:
            await self._stream(job, send)
        else:
            await self._whole(job, send)

    async def _whole(self, job: Job, send: Send) -> None:
        try:
            job, pieces = await self._collect_or_again(job)
        except PratiqueError as error:
            await self._refuse(error, send)
            return
        body = {
            **_head(job),
            "text": "".join(piece.text for piece in pieces),
            "finish_reason": pieces[-1].finish_reason,
            "usage": {"prompt_tokens": job.fitted.prompt_tokens, "completion_tokens": pieces[-1].completion_tokens},
        }
        await send_json(send, 200, body)

    async def _collect_or_again(self, job: Job) -> tuple[Job, list[Piece]]:
        try:
            return job, await self._collect(job)
        except EngineFlushedError:
            # Nothing was said yet, and the engine works again: the caller need not know.
            job.settle()
            again = await self._jobs.make_again(job)
        try:
            return again, await self._collect(again)
        finally:
            again.settle()

    async def _collect(self, job: Job) -> list[Piece]:
        async with aclosing(self._pieces(job)) as stream:
            return [piece async for piece in stream]

    async def _stream(self, job: Job, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]

        async def emit(event: str, data: object) -> None:
            await send({"type": "http.response.body", "body": sse(event, data), "more_body": True})

        async with aclosing(self._pieces(job)) as stream:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await emit("start", _head(job))
            try:
                async for piece in stream:
                    if piece.text:
                        await emit("token", {"text": piece.text})
                    if piece.finish_reason:
                        await emit("end", _end(job, piece))
            except PratiqueError as error:
                request_id = job.request.request_id
                _LOG.warning("invocation_failed", request_id=request_id, code=error.code, error=error.message)
                is_retryable = isinstance(error, (EngineError, NotReadyError))
                await emit("error", self._told(error) | {"retryable": is_retryable})
        await send({"type": "http.response.body", "body": b""})

    async def _pieces(self, job: Job) -> AsyncGenerator[Piece, None]:
        """Yield the engine's pieces until it finishes, the deadline passes, or the drain cuts the stream."""
        try:
            async with aclosing(job.target.engine.generate(job.request)) as stream:
                while (piece := await self._step(stream, job.deadline)) is not None:
                    if piece.finish_reason:
                        job.ending.outcome = Outcome.SUCCEEDED
                        _tell(job, piece)
                    yield replace(piece, text=job.continuation.follow(piece.text))
        except EngineDeadError:
            # Any other error of the engine is about this request, and proves nothing to the breaker.
            job.ending.outcome = Outcome.FAILED
            raise

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

    async def _refuse(self, error: PratiqueError, send: Send) -> None:
        status = _STATUS.get(type(error), 500)
        headers = {"retry-after": "1"} if status == _UNAVAILABLE else None
        await send_json(send, status, {"error": self._told(error)}, headers)

    def _told(self, error: PratiqueError) -> dict[str, str]:
        """Say an error as a client gets it: what memory did to a reply has one code, whatever became of the engine."""
        is_of_memory = isinstance(error, CapacityLimitError) or (
            isinstance(error, EngineDeadError) and error.cause in MEMORY_CAUSES
        )
        body = error_body(error, fallback=self._fallback if is_of_memory else None)
        return body | {"code": CapacityLimitError.code} if is_of_memory else body


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _why_stopped(*, is_cut: bool) -> PratiqueError:
    if is_cut:
        return DrainingError("This server is shutting down and the time to drain is over.", hint="Ask another replica.")
    return InvocationTimeoutError("The reply was not finished within the caller's deadline.")


def _head(job: Job) -> dict[str, object]:
    fitted = job.fitted
    head: dict[str, object] = {
        "request_id": job.request.request_id,
        "model": job.target.name,
        "prompt_tokens": fitted.prompt_tokens,
        "total_tokens": fitted.total_tokens,
        "was_truncated": fitted.was_truncated,
        "turns_dropped": fitted.turns_dropped,
        "passages_dropped": fitted.passages_dropped,
        "sizes": asdict(fitted.sizes),
    }
    optional = {"adapter": job.request.adapter, "notice": fitted.notice, "is_reduced": job.admission.is_reduced or None}
    return head | {name: value for name, value in optional.items() if value is not None}


def _end(job: Job, piece: Piece) -> dict[str, object]:
    return {
        "finish_reason": piece.finish_reason,
        "prompt_tokens": job.fitted.prompt_tokens,
        "completion_tokens": piece.completion_tokens,
    }


def _tell(job: Job, piece: Piece) -> None:
    """Log what a request took: `pratique warmup derive` makes shapes of these lines."""
    if job.is_warmup:
        return
    _LOG.info(
        "request",
        request_id=job.request.request_id,
        model=job.target.name,
        adapter=job.request.adapter,
        prompt_tokens=job.fitted.prompt_tokens,
        template_tokens=job.fitted.sizes.template,
        completion_tokens=piece.completion_tokens,
        turns_dropped=job.fitted.turns_dropped,
        finish_reason=piece.finish_reason,
    )
