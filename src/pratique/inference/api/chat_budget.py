"""The context budget and the breaker before an engine's OpenAI API.

- POST /v1/chat/completions: messages that are too many are left out, as the context budget does for /invocations; what
  fits is forwarded byte for byte. Headers of the answer say what was done. `x-pratique-budget: off` turns it off.
- POST /v1/completions: not fitted. While memory is short, one that is larger than what is allowed is refused.
- Everything else passes, but no other POST while memory is short.

Every request of the first two is admitted by the breaker before, and settled exactly once after. While memory is short
nothing passes that is larger than allowed or cannot be counted.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from starlette.types import ASGIApp, Receive, Scope, Send

from pratique.core.catalogue.inference import TURNS_DROPPED
from pratique.core.errors import PratiqueError
from pratique.core.metrics import Metrics
from pratique.inference.api.completions import chat_replies, completion_size
from pratique.inference.api.http import ClientDisconnectedError, header, read_body, send_json
from pratique.inference.api.response_watch import ResponseWatch
from pratique.inference.api.target import WARMUP, Outcome, Target
from pratique.inference.containment.breaker import Admission, BreakerState
from pratique.inference.context.messages import ChatRequest, Uncountable, parse_chat
from pratique.inference.context.parts import Fitted, Wanted
from pratique.inference.engines.interface import ChatMessage
from pratique.inference.errors import (
    BodyTimeoutError,
    BodyTooLargeError,
    CapacityLimitError,
    ContextLengthExceededError,
    InvalidInvocationError,
)
from pratique.inference.settings import InferenceSettings

__all__ = ["ChatBudget"]

_OFF: Final = "off"
_STATUS: Final[dict[type[PratiqueError], tuple[int, str]]] = {
    BodyTimeoutError: (408, "invalid_request_error"),
    BodyTooLargeError: (413, "invalid_request_error"),
    ContextLengthExceededError: (400, "invalid_request_error"),
    CapacityLimitError: (503, "service_unavailable"),
}


@dataclass(frozen=True, kw_only=True)
class _Ask:
    """A request, understood as far as it will be."""

    body: bytes
    size: Callable[[], int]
    """Tokens of prompt and reply if nothing is left out; may take long."""
    headers: dict[str, str]
    chat: ChatRequest | None = None
    """To be fitted; None where it passes as it is, or not at all."""
    has_several_replies: bool = False
    """Each takes memory of its own, which no limit for one reply holds down."""


class ChatBudget:
    """The ASGI application at /v1 of one model; `app` is the engine's own."""

    def __init__(self, target: Target, app: ASGIApp, settings: InferenceSettings, *, metrics: Metrics) -> None:
        self._target = target
        self._app = app
        self._settings = settings
        self._metrics = metrics
        self._readers: Final[dict[str, Callable[[Scope, bytes], Awaitable[_Ask]]]] = {
            "/v1/chat/completions": self._read_chat,
            "/v1/completions": self._read_completion,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_post = scope["type"] == "http" and scope["method"] == "POST" and WARMUP not in scope
        read = self._readers.get(scope["path"]) if is_post else None
        if read is None:
            await self._pass(scope, receive, send, may_generate=is_post)
            return
        try:
            body = await read_body(receive, limit_bytes=self._settings.max_body_bytes)
        except ClientDisconnectedError:
            return
        except (BodyTooLargeError, BodyTimeoutError) as error:
            await self._refuse(error, send)
            return
        await self._answer(await read(scope, body), scope, receive, send)

    async def _pass(self, scope: Scope, receive: Receive, send: Send, *, may_generate: bool) -> None:
        """Hand on what is not ours to measure; none of it may be large while memory is short."""
        if may_generate and self._target.breaker.state is not BreakerState.CLOSED:
            path = scope["path"]
            await self._refuse(
                CapacityLimitError(f"Memory is short, and how much {path} would take is not known here."), send
            )
        else:
            await self._app(scope, receive, send)

    async def _read_chat(self, scope: Scope, body: bytes) -> _Ask:
        chat = await asyncio.to_thread(parse_chat, body)
        if isinstance(chat, Uncountable):
            return _Ask(body=body, size=self._full_size, headers=_unfitted(chat.reason))
        has_several = chat_replies(body) != 1
        size = lambda: self._size(chat)  # noqa: E731 - the type was narrowed here
        if not self._settings.budget.is_enabled or (header(scope, "x-pratique-budget") or "").lower() == _OFF:
            return _Ask(body=body, size=size, headers={"x-pratique-budget": _OFF}, has_several_replies=has_several)
        headers = {"x-pratique-budget": "fitted"}
        return _Ask(body=body, size=size, headers=headers, chat=chat, has_several_replies=has_several)

    async def _read_completion(self, scope: Scope, body: bytes) -> _Ask:
        del scope

        def size() -> int:
            return completion_size(body, count=self._target.engine.count) or self._full_size()

        return _Ask(body=body, size=size, headers={})

    async def _answer(self, ask: _Ask, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            admission, body, headers = await self._admit_and_prepare(ask)
        except (ContextLengthExceededError, CapacityLimitError) as error:
            await self._refuse(error, send)
            return
        watch = ResponseWatch(receive, send, body=body, headers=headers)
        try:
            await self._app(_sized(scope, len(body)), watch.receive, watch.send)
        except asyncio.CancelledError:
            watch.leave()
            raise
        finally:
            self._target.settle(admission, watch.outcome())

    async def _admit_and_prepare(self, ask: _Ask) -> tuple[Admission, bytes, dict[str, str]]:
        while True:
            admission = await self._admit(ask)
            is_held = False
            try:
                body, headers = await self._prepare(ask, admission)
                is_held = self._target.breaker.still_holds(admission)
            finally:
                if not is_held:
                    self._target.settle(admission, Outcome.ABANDONED)
            if is_held:
                return admission, body, headers
            # The breaker tripped while this prompt was being made: the full context was taken back.

    async def _admit(self, ask: _Ask) -> Admission:
        if self._target.breaker.state is BreakerState.CLOSED:
            return self._target.admit(0)
        return self._target.admit(await asyncio.to_thread(ask.size))

    async def _prepare(self, ask: _Ask, admission: Admission) -> tuple[bytes, dict[str, str]]:
        """Return the body that is forwarded, and the headers that say what was done.

        Raises:
            ContextLengthExceededError: what must be there does not fit. CapacityLimitError: not now.
        """
        if ask.has_several_replies and admission.limit_tokens is not None:
            raise CapacityLimitError("Memory is short for a while: only one reply (n) can be asked for.")
        if ask.chat is None:
            return self._as_it_is(ask, admission), ask.headers
        limit = min(admission.limit_tokens or self._max_len, self._max_len)
        try:
            fitted = await asyncio.to_thread(self._fit, ask.chat, limit)
        except ContextLengthExceededError as error:
            if not admission.is_reduced:
                raise
            raise CapacityLimitError(f"Memory is short for a while. {error.message}") from error
        except InvalidInvocationError:
            # The template refuses these messages. The engine's own API may see that otherwise, and says why if not.
            return self._as_it_is(ask, admission), _unfitted("template")
        self._metrics.counter(TURNS_DROPPED).labels(api="openai").inc(fitted.turns_dropped)
        return self._body(ask.chat, ask.body, fitted, limit=limit), ask.headers | _told(fitted)

    def _as_it_is(self, ask: _Ask, admission: Admission) -> bytes:
        if admission.is_reduced:
            raise CapacityLimitError(
                f"Memory is short: prompt and reply may have {admission.limit_tokens} tokens for a while. "
                "This request has more, or cannot be counted."
            )
        return ask.body

    def _body(self, chat: ChatRequest, body: bytes, fitted: Fitted, *, limit: int) -> bytes:
        # The engine's default is all that is left of its whole context: right, but where less is allowed.
        is_open_ended = chat.max_tokens is None and limit < self._max_len
        if not fitted.was_truncated and not is_open_ended:
            return body
        return chat.rebuilt(fitted.messages, max_tokens=limit - fitted.prompt_tokens if is_open_ended else None)

    def _fit(self, chat: ChatRequest, limit: int) -> Fitted:
        wanted = self._wanted(chat, limit)
        extra_tokens = self._head_tokens(chat)
        fitted, _ = self._target.fitter.fit(wanted, limit=limit, tools=chat.tools, extra_tokens=extra_tokens)
        return fitted

    def _size(self, chat: ChatRequest) -> int:
        tools = 0
        if chat.tools:
            encode, messages = self._target.engine.encode, (*chat.head, *chat.tail)
            try:
                tools = len(encode(messages, tools=chat.tools)) - len(encode(messages))
            except InvalidInvocationError:
                return self._full_size()
        wanted = self._wanted(chat, self._max_len)
        return self._target.fitter.size(wanted, extra_tokens=tools + self._head_tokens(chat))

    def _wanted(self, chat: ChatRequest, limit: int) -> Wanted:
        # A small context is not all reserve.
        return chat.wanted(reserve_tokens=min(self._settings.budget.output_reserve_tokens, limit // 2))

    def _head_tokens(self, chat: ChatRequest) -> int:
        """Tokens of the head as it is sent, beyond those of the one system message that the budget knows."""
        costs, text = self._target.engine.costs, chat.system_prompt
        sent = costs.frame(has_system=bool(chat.head)) + sum(map(costs.message, chat.head))
        known = costs.frame(has_system=bool(text)) + (costs.message(ChatMessage("system", text)) if text else 0)
        return sent - known

    def _full_size(self) -> int:
        return self._max_len

    @property
    def _max_len(self) -> int:
        return self._target.engine.max_model_len

    async def _refuse(self, error: PratiqueError, send: Send) -> None:
        status, kind = _STATUS[type(error)]
        param = "messages" if isinstance(error, ContextLengthExceededError) else None
        body = {"message": str(error), "type": kind, "param": param, "code": error.code}
        headers: dict[str, str] = {}
        if isinstance(error, CapacityLimitError):
            body["fallback"] = self._settings.containment.fallback_text
            headers["retry-after"] = str(max(1, math.ceil(self._target.breaker.seconds_until_half_open)))
        await send_json(send, status, {"error": body}, headers)


def _unfitted(reason: str) -> dict[str, str]:
    return {"x-pratique-budget": "unfitted", "x-pratique-budget-reason": reason}


def _told(fitted: Fitted) -> dict[str, str]:
    notice = {"x-pratique-notice": quote(fitted.notice)} if fitted.notice else {}
    return {
        "x-pratique-was-truncated": str(fitted.was_truncated).lower(),
        "x-pratique-turns-dropped": str(fitted.turns_dropped),
        "x-pratique-prompt-tokens": str(fitted.prompt_tokens),
        "x-pratique-total-tokens": str(fitted.total_tokens),
        **notice,
    }


def _sized(scope: Scope, num_bytes: int) -> Scope:
    """Return the scope with the length of the body that is forwarded."""
    kept = [pair for pair in scope["headers"] if pair[0].lower() not in {b"content-length", b"transfer-encoding"}]
    return {**scope, "headers": [*kept, (b"content-length", b"%d" % num_bytes)]}
