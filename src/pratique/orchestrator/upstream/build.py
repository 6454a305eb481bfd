"""Puts together what replies are asked of: pools, each with its discipline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pratique.orchestrator.upstream.deadlines import Deadlines, UpstreamWithDeadlines
from pratique.orchestrator.upstream.http import HttpUpstream

if TYPE_CHECKING:
    import aiohttp

    from pratique.core.clock import Clock
    from pratique.core.metrics import Metrics
    from pratique.orchestrator.settings import OrchestratorSettings
    from pratique.orchestrator.upstream.interface import Upstream

__all__ = ["build_upstream"]


def build_upstream(
    settings: OrchestratorSettings,
    http: aiohttp.ClientSession,
    *,
    clock: Clock,
    metrics: Metrics,
    given: Upstream | None = None,
) -> Upstream:
    """Return what replies are asked of; `given` stands in for the model servers, in tests and where it is embedded."""
    del clock, metrics
    return UpstreamWithDeadlines(
        given or HttpUpstream(http, settings.inference_url),
        Deadlines(
            first_token_seconds=settings.first_token_timeout_seconds,
            inter_token_seconds=settings.inter_token_timeout_seconds,
        ),
    )
