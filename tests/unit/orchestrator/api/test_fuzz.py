"""A thousand damaged frames and bodies against the real application: typed answers, nothing crashed, nothing left."""

from __future__ import annotations

import asyncio
import json
from typing import Any, get_args

import pytest

from pratique.orchestrator.access.settings import AccessSettings, LimitsSettings
from pratique.orchestrator.protocol.encode import encode_event
from pratique.orchestrator.protocol.events import Heartbeat, ServerEvent
from pratique.orchestrator.upstream.scripted import ScriptedUpstream

pytestmark = pytest.mark.unit

Service = Any
NUM_MESSAGES = 1000
KNOWN = {kind.__struct_config__.tag for kind in get_args(ServerEvent)}


async def settled(service: Service, before: set[asyncio.Task[Any]]) -> set[asyncio.Task[Any]]:
    """Return the tasks that are still there although everybody has left."""
    left: set[asyncio.Task[Any]] = set()
    for _ in range(200):
        left = asyncio.all_tasks() - before
        if not left and not service.replica.sessions.num_running:
            return set()
        await asyncio.sleep(0.02)
    return left


def start(service: Service) -> Any:
    service.upstream = ScriptedUpstream(words=2)
    limits = LimitsSettings(frames_per_second=1e6, frames_burst=10**6)
    return service.start(max_running_generations=1024, access=AccessSettings(limits=limits))


async def test_frames_get_typed_answers_and_leave_nothing(service: Service, fuzz: Any) -> None:
    await start(service)
    assert encode_event(Heartbeat())
    before = asyncio.all_tasks()
    messages = fuzz.collect(NUM_MESSAGES)
    assert len(messages) >= NUM_MESSAGES
    codes: set[str] = set()
    async with service.socket(max_msg_size=2**24) as socket:
        for number, message in enumerate(messages):
            await socket.raw.send_bytes(message)
            # The count of bad frames in a row begins anew with each good one: the connection outlives them all.
            await socket.send("ping", nonce=f"after-{number}")
            while True:
                event = await socket.receive()
                assert event["type"] in KNOWN
                if event["type"] == "error":
                    codes.add(event["error"]["code"])
                    assert event["error"]["message"]
                if event["type"] == "pong" and event["nonce"] == f"after-{number}":
                    break
    assert "invalid_request" in codes
    assert "internal" not in codes
    assert await settled(service, before) == set()


@pytest.mark.parametrize(("part", "path"), [(0, "/api/chat"), (1, "/api/retry"), (2, "/api/cancel")])
async def test_bodies_get_typed_answers_and_leave_nothing(service: Service, fuzz: Any, part: int, path: str) -> None:
    await start(service)
    before = asyncio.all_tasks()
    for message in fuzz.collect(NUM_MESSAGES)[part::3]:
        async with service.http.post(path, data=message) as response:
            answer = json.loads(await response.read())
            assert response.status in {200, 202, 400, 404, 409}, (message, answer)
            if response.status >= 400:
                assert answer["error"]["code"] != "internal"
                assert answer["error"]["message"]
    assert await settled(service, before) == set()


async def test_paths_and_queries_get_typed_answers(service: Service, fuzz: Any) -> None:
    await start(service)
    for message in fuzz.collect(NUM_MESSAGES)[::10]:
        text = message.decode("latin-1")
        for method, path in (("GET", "/api/conversations/"), ("DELETE", "/api/conversations/")):
            async with service.http.request(method, path + text[:100].replace("?", "").replace("#", "")) as response:
                assert response.status < 500
        for params in ({"limit": text}, {"before": text}):
            async with service.http.get("/api/conversations", params=params) as response:
                assert response.status in {200, 400}
        async with service.http.get("/api/conversations/conv_1/events", params={"last_seq": text}) as response:
            assert response.status in {400, 404}
