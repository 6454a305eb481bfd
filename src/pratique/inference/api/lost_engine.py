"""Answers of an engine's own application that say "internal error" because the engine died or was flushed: now a 503.

A client that gets 503 and Retry-After tries again, here or elsewhere, and is right to; 500 tells it that its request is
at fault. Streams that have begun end with the application's own error event.
"""

from __future__ import annotations

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pratique.inference.api.http import send_json
from pratique.inference.containment.breaker import Breaker
from pratique.inference.engines.interface import Engine
from pratique.inference.errors import MEMORY_CAUSES, CapacityLimitError, DeathCause, EngineDeadError

__all__ = ["with_lost_engine"]

_INTERNAL_ERROR: Final = 500


def with_lost_engine(app: ASGIApp, engine: Engine, breaker: Breaker, *, fallback: str) -> ASGIApp:
    """Wrap the OpenAI application of `engine`; `fallback` is what a person may be shown in place of a reply."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        trips_before = breaker.trips
        replaced = False

        async def translate(message: Message) -> None:
            nonlocal replaced
            if message["type"] == "http.response.start" and message["status"] == _INTERNAL_ERROR:
                lost = _why_lost(engine, breaker, trips_before)
                if lost is not None:
                    replaced = True
                    await send_json(send, 503, _body(lost, fallback), {"retry-after": "1"})
            if not replaced:
                await send(message)

        await app(scope, receive, translate)

    return wrapped


def _why_lost(engine: Engine, breaker: Breaker, trips_before: int) -> EngineDeadError | None:
    try:
        engine.check()
    except EngineDeadError as error:
        return error
    if breaker.trips == trips_before:
        return None
    # It lives (again): what ran before the trip was dropped.
    cause = breaker.last_cause or DeathCause.CRASHED
    return EngineDeadError("The engine lost this request when it was reset.", cause=cause)


def _body(error: EngineDeadError, fallback: str) -> dict[str, object]:
    is_of_memory = error.cause in MEMORY_CAUSES
    told: dict[str, object] = {
        "message": error.message,
        "type": "service_unavailable",
        "param": None,
        "code": CapacityLimitError.code if is_of_memory else error.code,
    }
    return {"error": told | ({"fallback": fallback} if is_of_memory else {})}
