"""Puts together what replies are asked of: pools, each with its discipline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pratique.core.settings import SettingsError
from pratique.orchestrator.models.instruments import ModelInstruments
from pratique.orchestrator.models.policies import open_policy
from pratique.orchestrator.models.routing import Router
from pratique.orchestrator.models.upstream import PooledUpstream
from pratique.orchestrator.upstream.deadlines import Deadlines, UpstreamWithDeadlines
from pratique.orchestrator.upstream.discipline.hedged import HedgedUpstream
from pratique.orchestrator.upstream.discipline.instruments import DownstreamInstruments
from pratique.orchestrator.upstream.discipline.latency import LatePoint
from pratique.orchestrator.upstream.discipline.upstream import DisciplinedUpstream
from pratique.orchestrator.upstream.http import HttpUpstream

if TYPE_CHECKING:
    from pratique.core.clock import Clock
    from pratique.core.metrics import Metrics
    from pratique.orchestrator.models.catalogue import ModelCatalogue
    from pratique.orchestrator.settings import OrchestratorSettings
    from pratique.orchestrator.upstream.interface import Upstream

__all__ = ["build_upstream"]


def build_upstream(
    settings: OrchestratorSettings,
    *,
    clock: Clock,
    metrics: Metrics,
    models: ModelCatalogue,
    given: Upstream | None = None,
) -> Upstream:
    """Return what replies are asked of; `given` stands in for the model servers, in tests and where it is embedded.

    Raises:
        SettingsError: an attempt may take longer than the answer's deadline, or the routing policy cannot be made.
    """
    _verify(settings)
    discipline = _Discipline(settings=settings, clock=clock, instruments=DownstreamInstruments(metrics))
    pools = {
        name: discipline.around(
            given or HttpUpstream(pool.url, connect_timeout_seconds=settings.connect_timeout_seconds), pool=name
        )
        for name, pool in models.pools.items()
    }
    router = Router(models, open_policy(settings.models, models), has_fallback=settings.models.fallback)
    return PooledUpstream(pools, router, ModelInstruments(metrics))


def _verify(settings: OrchestratorSettings) -> None:
    attempt, answer = settings.first_token_timeout_seconds, settings.downstream.answer_deadline_seconds
    if attempt > answer:
        raise SettingsError(
            f"Expected first_token_timeout_seconds of at most downstream.answer_deadline_seconds ({answer:g}); "
            f"found {attempt:g}.",
            hint="One attempt is part of the answer's deadline: raise both, or lower the first.",
        )


@dataclass(frozen=True, kw_only=True)
class _Discipline:
    """What holds for every pool; each gets its own breaker and budget."""

    settings: OrchestratorSettings
    clock: Clock
    instruments: DownstreamInstruments

    def around(self, servers: Upstream, *, pool: str) -> Upstream:
        settings, downstream = self.settings, self.settings.downstream
        deadlines = Deadlines(
            first_token_seconds=settings.first_token_timeout_seconds,
            inter_token_seconds=settings.inter_token_timeout_seconds,
        )
        disciplined = DisciplinedUpstream(
            UpstreamWithDeadlines(servers, deadlines),
            pool=pool,
            settings=downstream,
            first_token_seconds=settings.first_token_timeout_seconds,
            clock=self.clock,
            instruments=self.instruments,
        )
        if not downstream.hedge:
            return disciplined
        late = LatePoint(least_seconds=downstream.hedge_least_seconds)
        return HedgedUpstream(disciplined, late, clock=self.clock, instruments=self.instruments)
