"""What is put together, and what is not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pratique.core.clock import SystemClock
from pratique.core.metrics import Metrics
from pratique.core.settings import SettingsError
from pratique.orchestrator.models.catalogue import build_catalogue
from pratique.orchestrator.models.settings import ModelsSettings, PoolSettings
from pratique.orchestrator.settings import OrchestratorSettings
from pratique.orchestrator.upstream.build import build_upstream
from pratique.orchestrator.upstream.interface import (
    Upstream,
    UpstreamEnd,
    UpstreamRequest,
    UpstreamStart,
    UpstreamUnavailableError,
)
from pratique.orchestrator.upstream.scripted import ScriptedUpstream
from pratique.orchestrator.upstream.settings import DownstreamSettings

pytestmark = pytest.mark.unit

Ask = Callable[..., UpstreamRequest]


async def build(settings: OrchestratorSettings, given: Upstream | None = None) -> Upstream:
    models = build_catalogue(settings.models, inference_url=settings.inference_url)
    return build_upstream(settings, clock=SystemClock(), metrics=Metrics(), models=models, given=given)


async def test_attempt_that_is_longer_than_the_deadline_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"answer_deadline_seconds \(10\); found 30"):
        await build(OrchestratorSettings(first_token_timeout_seconds=30))


async def test_each_pool_has_a_breaker_of_its_own(ask: Ask) -> None:
    pools = tuple(PoolSettings(name=name, url="http://x:1") for name in ("small", "large"))
    settings = OrchestratorSettings(
        models=ModelsSettings(pools=pools), downstream=DownstreamSettings(breaker_failures=2)
    )
    script = ScriptedUpstream([[UpstreamUnavailableError("gone")]] * 2)
    upstream = await build(settings, script)
    for _ in range(3):
        with pytest.raises(UpstreamUnavailableError):
            async with upstream.open(ask(model="large")):
                pass
    assert len(script.requests) == 2
    async with upstream.open(ask(model="small")) as stream:
        assert isinstance(await anext(stream), UpstreamStart)


@pytest.mark.parametrize("hedge", [False, True])
async def test_default_is_one_pool_at_the_inference_url(hedge: bool, ask: Ask) -> None:
    settings = OrchestratorSettings(downstream=DownstreamSettings(hedge=hedge))
    upstream = await build(settings, ScriptedUpstream())
    async with upstream.open(ask()) as stream:
        assert isinstance([event async for event in stream][-1], UpstreamEnd)
    await (await build(settings)).aclose()
