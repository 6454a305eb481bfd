"""What a message may name, over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.routing import Route

from pratique.orchestrator.api.responses import json_response
from pratique.orchestrator.protocol.bodies import ModelList, ModelPool

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from pratique.orchestrator.api.runtime import Runtime

__all__ = ["ModelRoutes"]


class ModelRoutes:
    """Handlers of one replica."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def routes(self) -> list[Route]:
        return [Route("/api/models", self.models, methods=["GET"])]

    async def models(self, _: Request) -> Response:
        """List the pools and their adapters."""
        models, state = self._runtime.models, self._runtime.poller.state
        pools = tuple(
            ModelPool(
                name=name,
                description=models.pools[name].description,
                is_default=name == models.default,
                adapters=models.pools[name].adapters,
                models=models.pools[name].models,
                ready=models.readiness(name, state),
            )
            for name in models.order
        )
        return json_response(ModelList(policy=self._runtime.settings.models.policy, pools=pools))
