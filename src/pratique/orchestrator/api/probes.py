"""What machines ask: is it alive, does it take traffic, what are its figures, what does it speak."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.routing import Route

from pratique.core.errors import PratiqueError
from pratique.orchestrator.api.responses import json_response, refusal
from pratique.orchestrator.protocol.errors import event_error_of
from pratique.orchestrator.protocol.events import EventError
from pratique.orchestrator.protocol.schema import SCHEMAS

if TYPE_CHECKING:
    from starlette.requests import Request

    from pratique.orchestrator.api.runtime import Runtime

__all__ = ["ProbeRoutes"]

_CHECK_SECONDS = 1.0


class ProbeRoutes:
    """Handlers of one replica."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def routes(self) -> list[Route]:
        return [
            Route("/livez", self.live, methods=["GET"]),
            Route("/readyz", self.ready, methods=["GET"]),
            Route("/metrics", self.metrics, methods=["GET"]),
            Route("/api/schema/{name}.json", self.schema, methods=["GET"]),
        ]

    async def live(self, _: Request) -> Response:
        """The process works."""
        return json_response({"alive": True})

    async def ready(self, _: Request) -> Response:
        """New clients are welcome here: not draining, and what they say can be stored."""
        if self._runtime.drain.is_draining:
            return refusal(EventError(code="draining", message="This replica is going away."))
        try:
            async with asyncio.timeout(_CHECK_SECONDS):
                await self._runtime.store.check()
        except TimeoutError:
            return refusal(EventError(code="store_unavailable", message="The store does not answer."))
        except PratiqueError as error:
            return refusal(event_error_of(error), status=503)
        return json_response({"ready": True})

    async def metrics(self, _: Request) -> Response:
        """The figures, for Prometheus."""
        return Response(self._runtime.metrics.render(), media_type="text/plain; version=0.0.4")

    async def schema(self, request: Request) -> Response:
        """The protocol, for programs."""
        make = SCHEMAS.get(request.path_params["name"])
        if make is None:
            known = ", ".join(sorted(SCHEMAS))
            return refusal(EventError(code="not_found", message=f"Expected one of the schemas {known}."))
        return json_response(make())
