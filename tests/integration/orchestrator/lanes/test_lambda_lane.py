"""The lane in Lambda against a double of its API: throttling, functions that are not there, broken streams."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from pratique.core.clock import SystemClock
from pratique.core.metrics import Metrics
from pratique.core.settings import SettingsError
from pratique.orchestrator.forward.interface import ForwardUnavailableError
from pratique.orchestrator.lanes.build import open_lanes
from pratique.orchestrator.lanes.interface import BurstFullError
from pratique.orchestrator.lanes.lambda_lane import LambdaLane
from pratique.orchestrator.lanes.scripted import ScriptedBurstLane
from pratique.orchestrator.lanes.settings import LambdaSettings, LaneSettings
from pratique.orchestrator.models.catalogue import build_catalogue
from pratique.orchestrator.settings import OrchestratorSettings

pytestmark = pytest.mark.integration

Double = Any


async def test_throttling_means_full_for_a_while(double: Double, ask: Any) -> None:
    api, lane = double
    api.throttles = True
    with pytest.raises(BurstFullError, match="TooManyRequests"):
        async with lane.open(ask()):
            pass
    assert lane.num_free == 0
    with pytest.raises(BurstFullError):
        async with lane.open(ask()):
            pass


async def test_function_that_is_not_there_is_said_before_the_head(double: Double, ask: Any) -> None:
    lane = LambdaLane(
        LambdaSettings(function="other", region="us-east-1", endpoint_url=double[0].url), clock=SystemClock()
    )
    async with lane.running():
        with pytest.raises(ForwardUnavailableError, match="refused"):
            async with lane.open(ask()):
                pass


async def test_endpoint_that_is_not_there_is_said_before_the_head(double: Double, ask: Any) -> None:
    lane = LambdaLane(
        LambdaSettings(function="burst", region="us-east-1", endpoint_url="http://127.0.0.1:9"), clock=SystemClock()
    )
    async with lane.running():
        with pytest.raises(ForwardUnavailableError, match="reached"):
            async with lane.open(ask()):
                pass


@pytest.mark.parametrize("end", ["cut_frame", "wrong_sum", "no_complete", "error"])
async def test_stream_that_does_not_end_well_breaks_the_answer_off(
    double: Double, ask: Any, frame: Any, end: str
) -> None:
    api, lane = double
    first = frame("PayloadChunk", b'{"statusCode": 200}' + bytes(8) + b"one")
    error = json.dumps({"ErrorCode": "Runtime.ExitError", "ErrorDetails": "secret words"}).encode()
    broken = {
        "cut_frame": (first, first[:20]),
        "wrong_sum": (first, first[:-1] + b"\x00"),
        "no_complete": (first,),
        "error": (first, frame("InvokeComplete", error)),
    }
    api.last_frames = broken[end]
    seen = []
    with pytest.raises(ForwardUnavailableError) as raised:  # noqa: PT012 - the loop is the statement
        async with lane.open(ask()) as answer:
            async for chunk in answer.chunks():
                seen.append(chunk)  # noqa: PERF401 - what came before the break counts
    assert seen in ([b"one"], [])
    assert "secret" not in raised.value.message


async def test_settings_open_the_lane_and_the_forwarder_spills_into_it(double: Double, ask: Any) -> None:
    api, _ = double
    aws = LambdaSettings(function="burst", region="us-east-1", endpoint_url=api.url)
    settings = LaneSettings(kind="lambda", max_in_flight=1, max_waiting=0, aws=aws)
    clock, metrics = SystemClock(), Metrics()
    async with AsyncExitStack() as stack:
        replica = OrchestratorSettings(lanes=settings)
        models = build_catalogue(replica.models, inference_url=replica.inference_url)
        forwarder = await open_lanes(replica, ScriptedBurstLane(), stack, models=models, clock=clock, metrics=metrics)
        async with forwarder.open(ask()), forwarder.open(ask()) as spilled:
            assert spilled.lane == "burst"
            assert b"".join([chunk async for chunk in spilled.chunks()]) == b"data: one\n\ndata: two\n\n"


async def test_without_a_region_the_lane_does_not_open(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(SettingsError, match="region"):
        async with LambdaLane(LambdaSettings(function="burst"), clock=SystemClock()).running():
            pass
