"""Several pools as one upstream: each attempt goes to the pool that its route names, and says so as it starts.

Where the chosen pool does not take it, another one may answer; each pool is asked once per attempt, within the
attempt's own time.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from msgspec import structs

from pratique.core.errors import CallerError
from pratique.core.events import get_logger
from pratique.orchestrator.models.interface import ModelNeededError, UnknownModelError
from pratique.orchestrator.upstream.interface import (
    UpstreamEvent,
    UpstreamInterruptedError,
    UpstreamRefusedError,
    UpstreamStart,
    UpstreamUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from types import TracebackType

    from pratique.orchestrator.models.instruments import ModelInstruments
    from pratique.orchestrator.models.routing import Routed, Router
    from pratique.orchestrator.upstream.interface import Upstream, UpstreamRequest, UpstreamStream

__all__ = ["PooledUpstream"]

_logger = get_logger("models")


class PooledUpstream:
    """An `Upstream` over pools, by name; each of them has its own discipline."""

    def __init__(self, pools: Mapping[str, Upstream], router: Router, instruments: ModelInstruments) -> None:
        self._pools = pools
        self._router = router
        self._instruments = instruments

    def open(self, request: UpstreamRequest) -> UpstreamStream:
        return _PooledStream(self, request)

    async def aclose(self) -> None:
        for pool in self._pools.values():
            await pool.aclose()

    def route(self, request: UpstreamRequest) -> Routed:
        """Return where an attempt goes; raises UpstreamRefusedError where it names what there is not."""
        try:
            routed = self._router.route(request)
        except (UnknownModelError, ModelNeededError) as error:
            raise _refused(error) from error
        if routed.degraded:
            self._instruments.routing_failures.inc()
        return routed

    async def enter(self, pool: str, request: UpstreamRequest, routed: Routed) -> UpstreamStream:
        """Open the request at one pool; raises what its stream raises on entering."""
        policy = routed.route.policy if routed.route else "single"
        self._instruments.routes.labels(pool=pool, policy=policy).inc()
        stream = self._pools[pool].open(request)
        await stream.__aenter__()
        return stream


class _PooledStream:
    def __init__(self, owner: PooledUpstream, request: UpstreamRequest) -> None:
        self._owner = owner
        self._request = request
        self._routed: Routed | None = None
        self._stream: UpstreamStream | None = None
        self._has_started = False

    async def __aenter__(self) -> Self:
        routed = self._owner.route(self._request)
        began = asyncio.get_running_loop().time()
        request = replace(self._request, adapter=routed.adapter)
        try:
            self._stream = await self._owner.enter(routed.pool, request, routed)
        except UpstreamUnavailableError as error:
            routed = await self._fall_back(routed, error, began)
        self._routed = routed
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stream is not None:
            await self._stream.__aexit__(kind, error, trace)

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Awaitable[UpstreamEvent]:
        # Past the start there is nothing to add, and a coroutine around each token costs.
        return self._stream.__anext__() if self._has_started and self._stream is not None else self._next()

    def hand_on(self, take: Callable[[str], bool]) -> None:
        if self._stream is not None:
            self._stream.hand_on(take)

    async def _next(self) -> UpstreamEvent:
        if self._stream is None or self._routed is None:
            raise UpstreamInterruptedError("The stream was not opened.")
        event = await self._stream.__anext__()
        self._has_started = True
        if isinstance(event, UpstreamStart):
            return replace(event, route=self._routed.route, degraded=event.degraded + self._routed.degraded)
        return event

    async def _fall_back(self, routed: Routed, error: UpstreamUnavailableError, began: float) -> Routed:
        """Open the request at another pool.

        Where none takes it, raises the chosen one's error, or the first of servers that are there with no room: that is
        no wait for one that still loads.
        """
        told = error
        for name in routed.others:
            try:
                # A repeat stays one, whoever took the attempts before it: it is work on top for this pool too.
                request = replace(self._less(began), affinity="", adapter="")
                self._stream = await self._owner.enter(name, request, routed)
            except UpstreamUnavailableError as refused:
                told = refused if refused.is_serving and not told.is_serving else told
                continue
            _logger.info("pool_fell_back", pool=routed.pool, instead=name, error=error.message)
            return _instead(routed, name)
        raise told

    def _less(self, began: float) -> UpstreamRequest:
        spent = asyncio.get_running_loop().time() - began
        left = self._request.first_text_seconds
        return replace(
            self._request,
            timeout_seconds=max(0.001, self._request.timeout_seconds - spent),
            first_text_seconds=None if left is None else max(0.001, left - spent),
        )


def _instead(routed: Routed, name: str) -> Routed:
    route, said = routed.route, f"'{routed.pool}' is unavailable, '{name}' answers instead"
    told = None if route is None else structs.replace(route, pool=name, model="", reason=f"{route.reason}; {said}")
    return replace(routed, pool=name, adapter="", route=told)


def _refused(error: CallerError) -> UpstreamRefusedError:
    return UpstreamRefusedError(error.message, refused_code=error.code, hint=error.hint)
