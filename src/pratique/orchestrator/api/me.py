"""A person's own data over HTTP: all of it handed out, all of it erased. Both are on record in the audit log."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from pratique.core.errors import PratiqueError
from pratique.orchestrator.api.admission import record
from pratique.orchestrator.api.requests import principal_of
from pratique.orchestrator.api.responses import HeldResponse, json_response
from pratique.orchestrator.conversations.personal import export_lines
from pratique.orchestrator.protocol.bodies import DataErased

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from pratique.orchestrator.access import Principal
    from pratique.orchestrator.api.runtime import Runtime

__all__ = ["MeRoutes"]

_ERASE_SECONDS = 10.0
"""Below the edge's time-out of an answer; what is left then is told, and erased when asked again."""


class MeRoutes:
    """Handlers of one replica."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def routes(self) -> list[Route]:
        return [
            Route("/api/me/export", self.export, methods=["GET"]),
            Route("/api/me/data", self.erase, methods=["DELETE"]),
        ]

    async def export(self, request: Request) -> Response:
        """Hand out everything, as lines of JSON; one conversation is in memory at a time."""
        with ExitStack() as held:
            self._begin(principal_of(request), held)
            response = StreamingResponse(
                self._export(request),
                media_type="application/x-ndjson",
                headers={
                    "cache-control": "no-store",
                    "content-disposition": 'attachment; filename="conversations.jsonl"',
                },
            )
            return HeldResponse(response, held.pop_all())

    async def erase(self, request: Request) -> Response:
        """Erase everything, on every replica's caches too."""
        principal = principal_of(request)
        try:
            with ExitStack() as held:
                self._begin(principal, held)
                totals = await self._runtime.service.erase(principal.principal_id, seconds=_ERASE_SECONDS)
        except PratiqueError as error:
            record(self._runtime, request.scope, "data.erase", outcome="failed", principal=principal, detail=error.code)
            raise
        detail = f"{totals.num_conversations} conversations" + ("" if totals.complete else ", more are left")
        record(self._runtime, request.scope, "data.erase", principal=principal, detail=detail)
        return json_response(
            DataErased(
                conversations=totals.num_conversations,
                turns=totals.num_turns,
                generations=totals.num_generations,
                message_ids=totals.num_messages,
                complete=totals.complete,
            )
        )

    def _begin(self, principal: Principal, held: ExitStack) -> None:
        # Each may read or remove all that somebody has: one at a time, and it counts as a connection.
        held.enter_context(self._runtime.personal.one(principal))
        held.enter_context(self._runtime.connected(principal))

    async def _export(self, request: Request) -> AsyncIterator[bytes]:
        principal = principal_of(request)
        outcome = "failed"
        try:
            async for line in export_lines(
                self._runtime.store, principal.principal_id, now=self._runtime.clock.epoch()
            ):
                yield line
            outcome = "ok"
        finally:
            # Also where the reader left in the middle.
            record(self._runtime, request.scope, "data.export", outcome=outcome, principal=principal)
