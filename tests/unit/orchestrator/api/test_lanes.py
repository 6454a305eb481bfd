"""Lanes behind the OpenAI relay: which lane answered is said; what no lane takes is shed with a time to come again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pratique.orchestrator.lanes import build
from pratique.orchestrator.lanes.scripted import ScriptedAnswer, ScriptedBurstLane
from pratique.orchestrator.lanes.settings import LaneSettings

pytestmark = pytest.mark.unit

Service = Any
BODY = {"model": "scripted", "messages": [], "stream": True, "max_tokens": 100}


async def test_answer_names_its_lane_and_load_beyond_the_bound_is_shed(service: Service) -> None:
    await service.start(lanes=LaneSettings(max_in_flight=1, max_waiting=0, retry_after_seconds=3.0))
    headers = {"authorization": f"Bearer {service.key}"}
    async with service.http.post("/v1/chat/completions", json=BODY, headers=headers) as running:
        assert running.headers["x-pratique-lane"] == "baseline"
        async with service.http.post("/v1/chat/completions", json=BODY, headers=headers) as shed:
            assert (shed.status, shed.headers["retry-after"]) == (503, "3")
            assert (await shed.json())["error"]["code"] == "overloaded"
            assert "x-pratique-lane" not in shed.headers
    async with service.http.get("/metrics") as metrics:
        assert 'pratique_lanes_decisions_total{lane="shed",reason="no_burst"} 1.0' in await metrics.text()


async def test_stream_that_hangs_in_burst_is_answered_by_the_baseline(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    burst = ScriptedBurstLane(script=ScriptedAnswer(head_seconds=60.0))

    async def open_burst(*_: object, **__: object) -> ScriptedBurstLane:
        return burst

    monkeypatch.setattr(build, "_open_burst", open_burst)
    await service.start(lanes=LaneSettings(kind="workers", max_in_flight=1, burst_head_seconds=0.05))
    headers = {"authorization": f"Bearer {service.key}"}
    async with service.http.post("/v1/chat/completions", json=BODY, headers=headers):
        asking = asyncio.ensure_future(service.http.post("/v1/chat/completions", json=BODY, headers=headers))
        async with asyncio.timeout(5):
            while not burst.num_aborted:  # noqa: ASYNC110 - seen from outside
                await asyncio.sleep(0.01)
    async with await asking as second:
        assert (second.status, second.headers["x-pratique-lane"]) == (200, "baseline")
        assert len(burst.requests) == 1
