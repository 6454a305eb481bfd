"""Lanes behind the OpenAI relay: which lane answered is said; what no lane takes is shed with a time to come again."""

from __future__ import annotations

from typing import Any

import pytest

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
