"""Burst workers behind the route: a spilled answer says its lane, and a client that leaves cancels it in the engine."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from pratique.orchestrator.access.keyring import ApiKeyring
from pratique.orchestrator.app import Parts, running
from pratique.orchestrator.lanes.settings import LaneSettings, WorkerSettings
from pratique.orchestrator.server import bind, listening
from pratique.orchestrator.settings import OrchestratorSettings
from pratique.orchestrator.upstream.scripted import ScriptedUpstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

pytestmark = pytest.mark.integration


@asynccontextmanager
async def client(folder: Path, inference_url: str, lanes: LaneSettings) -> AsyncIterator[aiohttp.ClientSession]:
    _, key = ApiKeyring(folder / "api-keys.json").create("test")
    settings = OrchestratorSettings(
        state_dir=folder, inference_url=inference_url, lanes=lanes, drain_notice_seconds=0.0
    )
    listener = bind("127.0.0.1", 0)
    async with (
        running(settings, Parts(upstream=ScriptedUpstream())) as replica,
        listening(replica.application, listener) as url,
        aiohttp.ClientSession(url, headers={"authorization": f"Bearer {key}"}) as http,
    ):
        yield http


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - seen from outside
            await asyncio.sleep(0.01)


async def test_client_that_leaves_a_spilled_answer_cancels_it_and_a_conversation_never_spills(
    upstream: Any, tmp_path: Path
) -> None:
    lanes = LaneSettings(kind="workers", max_in_flight=1, max_waiting=0, workers=WorkerSettings(max_workers=1))
    async with client(tmp_path, upstream.url, lanes) as http:
        async with http.post("/v1/completions", json={"mode": "endless"}) as first:
            assert first.headers["x-pratique-lane"] == "baseline"
            async with http.post("/v1/completions", json={"mode": "endless"}) as second:
                assert (second.status, second.headers["x-pratique-lane"]) == (200, "burst")
                assert await second.content.readany()
                assert upstream.num_open == 2
            await until(lambda: upstream.num_open == 1)
            async with http.post("/v1/completions", json={"mode": "stream", "conversation": "c"}) as third:
                assert (third.status, "retry-after" in third.headers) == (503, True)
        await until(lambda: upstream.num_open == 0)
    assert {one["x-pratique-conversation"] for one in upstream.seen} == {upstream.seen[0]["x-pratique-conversation"]}
    assert not any("authorization" in one for one in upstream.seen)
