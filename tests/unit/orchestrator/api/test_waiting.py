"""A message and a model that is not there yet, through everything that stands between them."""

from __future__ import annotations

from typing import Any

import pytest

from pratique.orchestrator.upstream.interface import UpstreamInterruptedError, UpstreamStart, UpstreamUnavailableError
from pratique.orchestrator.upstream.scripted import ScriptedUpstream, Step, echo_text
from pratique.orchestrator.upstream.settings import DownstreamSettings

pytestmark = pytest.mark.unit

Service = Any
LOADING = UpstreamUnavailableError("loading")
QUICK = DownstreamSettings(
    answer_deadline_seconds=0.5,
    quick_refusal_seconds=0.3,
    breaker_failures=2,
    breaker_pause_seconds=0.02,
    breaker_max_pause_seconds=0.05,
)


async def test_model_that_loads_is_waited_for_past_the_deadline_with_the_breaker_open(service: Service) -> None:
    service.upstream = ScriptedUpstream([[LOADING]] * 4)
    await service.start(downstream=QUICK, first_token_timeout_seconds=0.4, model_wait_seconds=30.0)
    reply = await service.post("/api/chat", service.message("one two three"))
    assert reply["turn"]["text"] == echo_text("one two three")
    metrics = service.replica.runtime.metrics.registry
    opened = metrics.get_sample_value("pratique_downstream_breaker_opened_total", {"pool": "default"})
    assert opened == 1
    assert not any(request.is_retry for request in service.upstream.requests)


async def test_servers_that_fail_one_after_the_other_end_it_within_the_deadline(service: Service) -> None:
    dying: list[Step] = [UpstreamStart(model="m", prompt_tokens=1), UpstreamInterruptedError("killed")]
    service.upstream = ScriptedUpstream([dying] * 99)
    await service.start(downstream=QUICK, first_token_timeout_seconds=0.4, model_wait_seconds=30.0)
    reply = await service.post("/api/chat", service.message())
    assert reply["turn"] is None
    assert reply["error"]["code"] in {"engine_error", "model_unavailable"}
    assert 2 <= len(service.upstream.requests) <= 8
