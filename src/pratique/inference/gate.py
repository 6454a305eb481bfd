"""The gate: the outer ASGI application. It listens before anything heavy is imported, and answers at every moment.

It answers probes, status and metrics itself; a request for the model passes only when the lifecycle says traffic
ready, and is refused with 503 and Retry-After in every other state: never a slow answer from a cold engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

from pratique.core.catalogue.inference import IN_FLIGHT, INVOCATIONS, REFUSED
from pratique.core.metrics import Metrics
from pratique.inference.api.http import send_bytes, send_json
from pratique.inference.lifecycle import Lifecycle

__all__ = ["Gate", "GateParts"]

_RETRY_AFTER = {"retry-after": "1"}


@dataclass(frozen=True, kw_only=True)
class GateParts:
    """What the gate answers from."""

    lifecycle: Lifecycle
    status: Callable[[], dict[str, object]]
    metrics: Metrics
    engine_metrics: Callable[[], bytes]
    max_in_flight: int


class Gate:
    """Admits requests to `inner` while the lifecycle says traffic ready."""

    def __init__(self, parts: GateParts) -> None:
        self._parts = parts
        self._inner: ASGIApp | None = None
        self._num_in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def open_to(self, inner: ASGIApp) -> None:
        """Set the application behind the gate. It is reached once the lifecycle is traffic ready."""
        self._inner = inner

    async def wait_idle(self) -> None:
        """Return when no admitted request is left."""
        await self._idle.wait()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        elif not await self._answered_here(scope["path"], send):
            await self._admit(scope, receive, send)

    async def _answered_here(self, path: str, send: Send) -> bool:
        parts = self._parts
        if path == "/livez":
            await send_json(send, 200, {"state": parts.lifecycle.state.value})
        elif path in {"/ping", "/readyz"}:
            ready = parts.lifecycle.is_ready
            await send_json(send, 200 if ready else 503, parts.status(), None if ready else _RETRY_AFTER)
        elif path == "/status":
            await send_json(send, 200, parts.status())
        elif path == "/metrics":
            body = parts.metrics.render() + parts.engine_metrics()
            await send_bytes(send, 200, body, "text/plain; version=0.0.4; charset=utf-8")
        elif path != "/invocations" and not path.startswith("/v1/"):
            error = {
                "code": "not_found",
                "message": f"There is nothing at {path}.",
                "hint": "See /status, /invocations, /v1/models.",
            }
            await send_json(send, 404, {"error": error})
        else:
            return False
        return True

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        api = "openai" if scope["path"].startswith("/v1/") else "invocations"
        reason = self._refusal()
        if reason is not None or self._inner is None:
            self._parts.metrics.counter(REFUSED).labels(reason=reason or "starting").inc()
            await send_json(send, 503, _refused(api, reason or "starting"), _RETRY_AFTER)
            return
        self._parts.metrics.counter(INVOCATIONS).labels(api=api).inc()
        self._count(+1)
        try:
            await self._inner(scope, receive, send)
        finally:
            self._count(-1)

    def _refusal(self) -> str | None:
        if not self._parts.lifecycle.is_ready:
            return self._parts.lifecycle.state.value
        return "overloaded" if self._num_in_flight >= self._parts.max_in_flight else None

    def _count(self, change: int) -> None:
        self._num_in_flight += change
        self._parts.metrics.gauge(IN_FLIGHT).set(self._num_in_flight)
        if self._num_in_flight:
            self._idle.clear()
        else:
            self._idle.set()


def _refused(api: str, reason: str) -> dict[str, object]:
    code = reason if reason in {"overloaded", "draining"} else "not_ready"
    message = f"This model server takes no request now: {reason.replace('_', ' ')}."
    if api == "openai":
        return {"error": {"message": message, "type": "service_unavailable", "param": None, "code": code}}
    return {
        "error": {
            "code": code,
            "message": message,
            "hint": "Try again after the Retry-After seconds, or another replica.",
        }
    }


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return
