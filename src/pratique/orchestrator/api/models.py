"""What a message may name, over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from starlette.routing import Route

from pratique.orchestrator.api.responses import json_response
from pratique.orchestrator.protocol.bodies import ModelChoice, ModelKind, ModelList

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from pratique.orchestrator.api.runtime import Runtime
    from pratique.orchestrator.models.catalogue import Named

__all__ = ["ModelRoutes"]


class ModelRoutes:
    """Handlers of one replica."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def routes(self) -> list[Route]:
        return [Route("/api/models", self.models, methods=["GET"])]

    async def models(self, _: Request) -> Response:
        """List what a message may name: pools, adapters, models."""
        models, state = self._runtime.models, self._runtime.poller.state
        choices = []
        for name in models.names:
            named = models.resolve(name)
            ready = models.readiness(named.pool, state)
            choices.append(
                ModelChoice(
                    name=name,
                    kind=_kind_of(name, named),
                    pool=named.pool,
                    description=models.pools[named.pool].description,
                    is_default=name == models.default,
                    ready=msgspec.UNSET if ready is None else ready,
                )
            )
        return json_response(ModelList(policy=self._runtime.settings.models.policy, models=tuple(choices)))


def _kind_of(name: str, named: Named) -> ModelKind:
    if name == named.pool:
        return ModelKind.POOL
    return ModelKind.ADAPTER if named.adapter else ModelKind.MODEL
