"""Several pools as one upstream: who is asked, who answers instead, what the reader is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from pratique.core.metrics import Metrics
from pratique.orchestrator.models.catalogue import ModelCatalogue
from pratique.orchestrator.models.instruments import ModelInstruments
from pratique.orchestrator.models.interface import Choice
from pratique.orchestrator.models.policies import FixedPolicy
from pratique.orchestrator.models.routing import Router
from pratique.orchestrator.models.upstream import PooledUpstream
from pratique.orchestrator.upstream.interface import (
    UpstreamEvent,
    UpstreamInterruptedError,
    UpstreamRefusedError,
    UpstreamRequest,
    UpstreamStart,
    UpstreamUnavailableError,
)
from pratique.orchestrator.upstream.scripted import Hang, ScriptedUpstream

pytestmark = pytest.mark.unit

Ask = Callable[..., UpstreamRequest]
GONE = UpstreamUnavailableError("away", retry_after_seconds=3.0)


class Pools:
    def __init__(self, catalogue: ModelCatalogue, policy: Any, *, small: list[Any], large: list[Any]) -> None:
        self.small, self.large = ScriptedUpstream(small), ScriptedUpstream(large)
        self.metrics = Metrics()
        self.upstream = PooledUpstream(
            {"small": self.small, "large": self.large}, Router(catalogue, policy), ModelInstruments(self.metrics)
        )

    async def ask(self, request: UpstreamRequest) -> list[UpstreamEvent]:
        async with self.upstream.open(request) as stream:
            return [event async for event in stream]

    async def start(self, request: UpstreamRequest) -> UpstreamStart:
        event = (await self.ask(request))[0]
        assert isinstance(event, UpstreamStart)
        return event

    def count(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"pratique_models_{name}", labels)


@pytest.fixture
def pools(catalogue: ModelCatalogue) -> Callable[..., Pools]:
    def make(*, policy: Any = None, small: list[Any] | None = None, large: list[Any] | None = None) -> Pools:
        return Pools(catalogue, policy or FixedPolicy("large"), small=small or [], large=large or [])

    return make


async def test_request_goes_to_the_chosen_pool_which_is_told_as_it_starts(
    pools: Callable[..., Pools], ask: Ask
) -> None:
    two = pools()
    start = await two.start(ask())
    assert (len(two.small.requests), len(two.large.requests)) == (0, 1)
    assert start.route is not None
    assert (start.route.pool, start.route.policy, start.route.reason) == ("large", "fixed", "the default pool")
    assert two.count("routes_total", pool="large", policy="fixed") == 1


async def test_named_adapter_travels_with_the_request(pools: Callable[..., Pools], ask: Ask) -> None:
    two = pools()
    start = await two.start(ask(model="chatbot-en"))
    assert two.small.requests[0].adapter == "chatbot-en"
    assert start.route is not None
    assert (start.route.model, start.route.policy) == ("chatbot-en", "named")


async def test_pool_that_is_away_is_stood_in_for_and_the_reader_is_told(pools: Callable[..., Pools], ask: Ask) -> None:
    two = pools(large=[[GONE]])
    start = await two.start(ask(is_retry=True, affinity="conv_1-2", first_text_seconds=5.0))
    assert start.route is not None
    assert start.route.pool == "small"
    assert start.route.reason == "the default pool; 'large' is unavailable, 'small' answers instead"
    request = two.small.requests[0]
    assert (request.is_retry, request.affinity, request.adapter) == (True, "", "")
    assert request.first_text_seconds is not None
    assert request.first_text_seconds <= 5.0
    assert two.count("routes_total", pool="small", policy="fixed") == 1


async def test_where_all_are_away_it_is_the_chosen_ones_error(pools: Callable[..., Pools], ask: Ask) -> None:
    two = pools(large=[[GONE]], small=[[UpstreamUnavailableError("also")]])
    with pytest.raises(UpstreamUnavailableError, match="away") as caught:
        await two.ask(ask())
    assert caught.value.retry_after_seconds == 3.0


async def test_other_pool_that_is_there_but_full_is_what_is_said(pools: Callable[..., Pools], ask: Ask) -> None:
    full = UpstreamUnavailableError("full", retry_after_seconds=1.0, is_serving=True)
    two = pools(large=[[GONE]], small=[[full]])
    with pytest.raises(UpstreamUnavailableError, match="full") as caught:
        await two.ask(ask())
    assert caught.value is full


async def test_chosen_pool_that_is_itself_full_is_what_is_said(pools: Callable[..., Pools], ask: Ask) -> None:
    first, second = (UpstreamUnavailableError(name, is_serving=True) for name in ("first", "second"))
    two = pools(large=[[first]], small=[[second]])
    with pytest.raises(UpstreamUnavailableError) as caught:
        await two.ask(ask())
    assert caught.value is first


@pytest.mark.parametrize("fields", [{"model": "large"}, {"prefix": "said"}])
async def test_named_and_begun_replies_wait_for_their_own_pool(
    pools: Callable[..., Pools], ask: Ask, fields: dict[str, str]
) -> None:
    two = pools(large=[[GONE]])
    with pytest.raises(UpstreamUnavailableError):
        await two.ask(ask(**fields))
    assert two.small.requests == []


@pytest.mark.parametrize("error", [UpstreamRefusedError("no", refused_code="x"), UpstreamInterruptedError("cut")])
async def test_only_a_pool_that_does_not_take_it_is_stood_in_for(
    pools: Callable[..., Pools], ask: Ask, error: Exception
) -> None:
    two = pools(large=[[error]])
    with pytest.raises(type(error)):
        await two.ask(ask())
    assert two.small.requests == []


async def test_failing_policy_is_counted_and_told(pools: Callable[..., Pools], ask: Ask) -> None:
    class Broken:
        name = "broken"

        def choose(self, question: object) -> Choice:
            raise ValueError(question)

    two = pools(policy=Broken())
    start = await two.start(ask())
    assert start.degraded == ("routing",)
    assert len(two.small.requests) == 1
    assert two.count("routing_failures_total") == 1


async def test_name_that_is_gone_since_is_a_refusal_with_its_code(pools: Callable[..., Pools], ask: Ask) -> None:
    with pytest.raises(UpstreamRefusedError) as refused:
        await pools().ask(ask(model="chatbot-fr"))
    assert refused.value.refused_code == "unknown_model"
    assert "chatbot-ja" in (refused.value.hint or "")


async def test_leaving_aborts_the_pools_stream(pools: Callable[..., Pools], ask: Ask) -> None:
    two = pools(large=[[UpstreamStart(model="m", prompt_tokens=1), Hang()]])
    asking = asyncio.ensure_future(two.ask(ask()))
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert two.large.aborted == ["req_1"]


async def test_stream_that_was_not_entered_says_so(pools: Callable[..., Pools], ask: Ask) -> None:
    two = pools()
    stream = two.upstream.open(ask())
    with pytest.raises(UpstreamInterruptedError, match="not opened"):
        await anext(stream)
    await stream.__aexit__(None, None, None)
    await two.upstream.aclose()
