"""A disciplined pool over scripts, with a clock that is turned by hand."""

from __future__ import annotations

from typing import Any

import pytest

from pratique.core.clock import ManualClock
from pratique.core.metrics import Metrics
from pratique.orchestrator.upstream.discipline.instruments import DownstreamInstruments
from pratique.orchestrator.upstream.discipline.upstream import DisciplinedUpstream
from pratique.orchestrator.upstream.interface import Upstream, UpstreamEvent, UpstreamRequest
from pratique.orchestrator.upstream.scripted import ScriptedUpstream
from pratique.orchestrator.upstream.settings import DownstreamSettings


class Pool:
    """One pool, and what tests ask of it."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.metrics = Metrics()
        self.instruments = DownstreamInstruments(self.metrics)
        self.script = ScriptedUpstream()

    def disciplined(self, *scripts: Any, **settings: Any) -> DisciplinedUpstream:
        self.script = ScriptedUpstream(scripts)
        return DisciplinedUpstream(
            self.script,
            pool="large",
            settings=DownstreamSettings(**{"breaker_failures": 3, "retry_burst": 2, **settings}),
            first_token_seconds=6.0,
            clock=self.clock,
            instruments=self.instruments,
        )

    async def ask(self, upstream: Upstream, request: UpstreamRequest) -> list[UpstreamEvent]:
        async with upstream.open(request) as stream:
            return [event async for event in stream]

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"pratique_downstream_{name}", {"pool": "large", **labels})


@pytest.fixture
def pool() -> Pool:
    return Pool()
