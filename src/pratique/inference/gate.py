"""The gate: the outer ASGI application. It listens before anything heavy is imported, and answers at every moment.

It answers probes, status and metrics itself; a request for a model passes only where nothing is against it
(`GateParts.refusal`), and is refused with 503 and Retry-After otherwise: never a slow answer from a cold engine.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from pratique.core.catalogue.inference import IN_FLIGHT, INVOCATIONS, REFUSED
from pratique.core.metrics import Metrics
from pratique.inference.api.http import send_bytes, send_json
from pratique.inference.errors import CapacityLimitError, NotReadyError

__all__ = ["Gate", "GateParts", "Refusal"]

_CODES: Final = {"overloaded": "overloaded", "draining": "draining"}
_MOST_RETRY_SECONDS: Final = 60


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why no request is taken now."""

    reason: str
    """The lifecycle state, "memory", or "overloaded"."""
    retry_after_seconds: float = 1.0
    text: str | None = None
    """What a person may be shown in place of a reply, where memory is the reason."""

    @property
    def headers(self) -> dict[str, str]:
        return {"retry-after": str(min(max(1, math.ceil(self.retry_after_seconds)), _MOST_RETRY_SECONDS))}


@dataclass(frozen=True, kw_only=True)
class GateParts:
    """What the gate answers from."""

    refusal: Callable[[], Refusal | None]
    is_ready: Callable[[], bool]
    probe: Callable[[], dict[str, object]]
    status: Callable[[], dict[str, object]]
    metrics: Metrics
    engine_metrics: Callable[[], bytes]
    max_in_flight: int


class Gate:
    """Admits requests to the application behind it."""

    def __init__(self, parts: GateParts) -> None:
        self._parts = parts
        self._inner: ASGIApp | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self.num_in_flight = 0

    def open_to(self, inner: ASGIApp) -> None:
        """Set the application behind the gate."""
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
            await send_json(send, 200, {"state": parts.probe()["state"]})
        elif path in {"/ping", "/readyz"}:
            refusal = None if parts.is_ready() else parts.refusal() or Refusal(reason="degraded")
            await send_json(send, 503 if refusal else 200, parts.probe(), refusal.headers if refusal else None)
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
        refusal = self._refusal()
        if refusal is not None or self._inner is None:
            refusal = refusal or Refusal(reason="starting")
            self._parts.metrics.counter(REFUSED).labels(reason=refusal.reason).inc()
            await send_json(send, 503, _refused(api, refusal), refusal.headers)
            return
        self._parts.metrics.counter(INVOCATIONS).labels(api=api).inc()
        self._count(+1)
        try:
            await self._inner(scope, receive, send)
        finally:
            self._count(-1)

    def _refusal(self) -> Refusal | None:
        if self.num_in_flight >= self._parts.max_in_flight:
            # What is against every request comes first: an overload is over sooner.
            return self._parts.refusal() or Refusal(reason="overloaded")
        return self._parts.refusal()

    def _count(self, change: int) -> None:
        self.num_in_flight += change
        self._parts.metrics.gauge(IN_FLIGHT).set(self.num_in_flight)
        if self.num_in_flight:
            self._idle.clear()
        else:
            self._idle.set()


def _refused(api: str, refusal: Refusal) -> dict[str, object]:
    code = CapacityLimitError.code if refusal.text else _CODES.get(refusal.reason, NotReadyError.code)
    message = f"This model server takes no request now: {refusal.reason.replace('_', ' ')}."
    fallback = {"fallback": refusal.text} if refusal.text else {}
    if api == "openai":
        return {"error": {"message": message, "type": "service_unavailable", "param": None, "code": code, **fallback}}
    hint = "Try again after the Retry-After seconds, or another replica."
    return {"error": {"code": code, "message": message, "hint": hint, **fallback}}


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return
