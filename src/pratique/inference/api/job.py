"""From the body of /invocations to what the engine is asked: which model, how much context, which tokens."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec
from starlette.types import Receive, Scope

from pratique.core.ids import IdSource
from pratique.inference.api.http import header, read_body
from pratique.inference.api.target import WARMUP, Models, Outcome, Target
from pratique.inference.api.wire import HistoryTurn, Invocation, parse_invocation
from pratique.inference.containment.breaker import Admission, BreakerState
from pratique.inference.context.budget import Fitted, Turn, Wanted
from pratique.inference.context.continuation import Continuation
from pratique.inference.engines.interface import ChatMessage, GenerateRequest
from pratique.inference.errors import (
    CapacityLimitError,
    ContextLengthExceededError,
    InvalidInvocationError,
    UnknownModelError,
)
from pratique.inference.settings import InferenceSettings

__all__ = ["Ending", "Job", "JobMaker"]

_SMALL_BYTES: Final = 1 << 16


@dataclass
class Ending:
    """How a job ended; until something better is known the caller left."""

    outcome: Outcome = Outcome.ABANDONED


@dataclass(frozen=True, kw_only=True)
class Job:
    """One request, understood, admitted and fitted. Its admission has to be settled once."""

    invocation: Invocation
    target: Target
    wanted: Wanted
    request: GenerateRequest
    fitted: Fitted
    admission: Admission
    continuation: Continuation
    deadline: float
    """On the event loop's clock."""
    is_warmup: bool
    ending: Ending = field(default_factory=Ending)

    def settle(self) -> None:
        """Tell the breaker how it ended, as far as that is known by now. More than once does no harm."""
        self.target.settle(self.admission, self.ending.outcome)


class JobMaker:
    """Makes jobs of requests."""

    def __init__(self, models: Models, settings: InferenceSettings, *, ids: IdSource) -> None:
        self._models = models
        self._settings = settings
        self._ids = ids

    async def make(self, scope: Scope, receive: Receive) -> Job:
        """Read a request and fit it.

        Raises:
            PratiqueError: it cannot be served; nothing is to be settled. ClientDisconnectedError: the client left.
        """
        body = await read_body(receive, limit_bytes=self._settings.max_body_bytes)
        if len(body) <= _SMALL_BYTES:
            invocation, wanted = _understand(body)
        else:
            # Its objects take up to a second to make: beside the event loop, which must stay live.
            invocation, wanted = await asyncio.to_thread(_understand, body)
        is_warmup = WARMUP in scope
        target, adapter = self._find(invocation, is_warmup=is_warmup)
        seconds = min(_timeout_of(scope), self._settings.request_timeout_seconds)
        deadline = asyncio.get_running_loop().time() + seconds
        request_id = invocation.request_id or header(scope, "x-pratique-request") or self._ids.new("req")
        continuation = Continuation(invocation.prefix)
        admission, fitted, prompt = await _admit_and_fit(target, wanted, continuation, is_warmup=is_warmup)
        request = GenerateRequest(
            request_id=request_id,
            prompt=prompt,
            max_tokens=invocation.max_tokens,
            temperature=invocation.temperature,
            stop=invocation.stop,
            seed=invocation.seed,
            adapter=adapter,
            messages=fitted.messages,
            prefix=continuation.opening,
        )
        return Job(
            invocation=invocation,
            target=target,
            wanted=wanted,
            request=request,
            fitted=fitted,
            admission=admission,
            continuation=continuation,
            deadline=deadline,
            is_warmup=is_warmup,
        )

    async def make_again(self, job: Job) -> Job:
        """Fit a job anew that the engine dropped before it had said anything: less context may be allowed by now."""
        continuation = Continuation(job.invocation.prefix)
        admission, fitted, prompt = await _admit_and_fit(job.target, job.wanted, continuation, is_warmup=job.is_warmup)
        request = replace(
            job.request, request_id=f"{job.request.request_id}-again", prompt=prompt, messages=fitted.messages
        )
        return replace(
            job, request=request, fitted=fitted, admission=admission, continuation=continuation, ending=Ending()
        )

    def _find(self, invocation: Invocation, *, is_warmup: bool) -> tuple[Target, str | None]:
        target, adapter = self._models.find(invocation.model, is_warmup=is_warmup)
        wanted = invocation.adapter or adapter
        known = target.engine.adapters
        if wanted is not None and wanted not in known:
            raise UnknownModelError(
                f"The model '{target.name}' has no adapter '{wanted}'; there are: {', '.join(known) or 'none'}."
            )
        return target, wanted


async def _admit_and_fit(
    target: Target, wanted: Wanted, continuation: Continuation, *, is_warmup: bool
) -> tuple[Admission, Fitted, list[int]]:
    if is_warmup:
        # What shows that the engine can do everything again must not be held down by the breaker.
        admission = Admission(limit_tokens=None, is_test=False, is_reduced=False, epoch=-1)
        return admission, *await _fit(target, wanted, admission, continuation)
    while True:
        admission = await _admit(target, wanted)
        fitted, prompt = await _fit(target, wanted, admission, continuation)
        if target.breaker.still_holds(admission):
            return admission, fitted, prompt
        # The breaker tripped while this prompt was being made: the full context was taken back.
        target.settle(admission, Outcome.ABANDONED)


async def _admit(target: Target, wanted: Wanted) -> Admission:
    if target.breaker.state is BreakerState.CLOSED:
        return target.admit(0)
    # The size decides who is the test. Counting may take long, so it is done beside the loop, and only now.
    size = await asyncio.to_thread(target.fitter.size, wanted)
    return target.admit(size)


async def _fit(
    target: Target, wanted: Wanted, admission: Admission, continuation: Continuation
) -> tuple[Fitted, list[int]]:
    limit = min(admission.limit_tokens or target.engine.max_model_len, target.engine.max_model_len)
    try:
        # Tokenising a long history takes milliseconds to a second: beside the event loop, which must stay live.
        return await asyncio.to_thread(target.fitter.fit, wanted, limit=limit, prefix=continuation.opening)
    except ContextLengthExceededError as error:
        target.settle(admission, Outcome.ABANDONED)
        if not admission.is_reduced:
            raise
        raise CapacityLimitError(
            f"Memory is short, and what must be in the prompt does not fit in what is allowed now: {error.message}",
            hint="Try again in a moment, or send less.",
        ) from error
    except BaseException:
        target.settle(admission, Outcome.ABANDONED)
        raise


def _understand(body: bytes) -> tuple[Invocation, Wanted]:
    invocation = parse_invocation(body)
    return invocation, _wanted(invocation)


def _wanted(invocation: Invocation) -> Wanted:
    return Wanted(
        tail=(ChatMessage("user", invocation.query),),
        system_prompt=invocation.system_prompt,
        passages=invocation.context,
        history=tuple(Turn(_message(turn), is_pinned=turn.is_pinned) for turn in invocation.history),
        max_tokens=invocation.max_tokens,
    )


def _message(turn: HistoryTurn) -> ChatMessage:
    if not turn.tool_calls and not turn.tool_call_id:
        return ChatMessage(turn.role, turn.content)
    extra: dict[str, object] = {"tool_calls": turn.tool_calls} if turn.tool_calls else {}
    if turn.tool_call_id:
        extra["tool_call_id"] = turn.tool_call_id
    return ChatMessage(turn.role, turn.content, msgspec.json.encode(extra).decode())


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
