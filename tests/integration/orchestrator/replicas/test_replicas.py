"""Two replicas, killed, drained and asked at the same time: people see each event once, and what is stored."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

import aiohttp
import pytest

from pratique.orchestrator.upstream.scripted import ScriptedUpstream, echo_text

pytestmark = pytest.mark.integration

House = Any
WHOLE = echo_text("tell me a story", words=60)


async def two(house: House) -> tuple[Any, Any]:
    return tuple(await asyncio.gather(house.start("orchestrator-0"), house.start("orchestrator-1")))


@pytest.mark.parametrize("seed", range(4))
async def test_killed_replica_is_replaced_within_two_seconds(house: House, seed: int) -> None:
    here, there = await two(house)
    client = await house.client()
    async with client.socket(here) as socket:
        await client.say(socket, "tell me a story", message_id="message-0001")
        await client.read(socket, until_seq=random.Random(seed).randint(1, 40))  # noqa: S311 - dice
        killed_at = await here.kill()
    seen = client.last_seq
    async with client.socket(there) as socket:
        await client.resume(socket)
        await client.read(socket)
    resumed_at = client.times[seen]
    assert resumed_at - killed_at < 2.0
    assert client.text == WHOLE == (await client.stored_turn(there))["text"]
    assert client.ended["finish_reason"] == "stop"
    assert [event["type"] for event in client.events].count("continued") == 1


async def test_resume_on_the_other_replica_while_the_first_goes_on(house: House) -> None:
    here, there = await two(house)
    client = await house.client()
    async with client.socket(here) as socket:
        await client.say(socket, "tell me a story", message_id="message-0001")
        await client.read(socket, until_seq=10)
    async with client.socket(there) as socket:
        await client.resume(socket)
        await client.read(socket)
    assert client.text == WHOLE == (await client.stored_turn(there))["text"] == (await client.stored_turn(here))["text"]
    assert "continued" not in [event["type"] for event in client.events]


async def test_resume_over_sse_with_last_event_id(house: House) -> None:
    here, there = await two(house)
    client = await house.client()
    async with client.socket(here) as socket:
        await client.say(socket, "tell me a story", message_id="message-0001")
        await client.read(socket, until_seq=10)
    url = f"{there.url}/api/conversations/{client.accepted['conversation_id']}/events"
    cursor = f"{client.accepted['generation_id']}:{client.last_seq}"
    async with client.http.get(url, headers={"last-event-id": cursor}) as response:
        assert response.content_type == "text/event-stream"
        seqs = [int(line.rpartition(b":")[2]) async for line in response.content if line.startswith(b"id: ")]
    assert seqs == list(range(11, 63))


async def test_cancel_on_the_other_replica_reaches_the_engine(house: House, upstream: ScriptedUpstream) -> None:
    here, there = await two(house)
    client = await house.client()
    async with client.socket(here) as socket:
        await client.say(socket, "tell me a story", message_id="message-0001")
        await client.read(socket, until_seq=10)
        asked_at = time.monotonic()
        body = {"generation_id": client.accepted["generation_id"]}
        async with client.http.post(f"{there.url}/api/cancel", json=body) as response:
            assert (response.status, (await response.json())["cancelled"]) == (202, True)
        await client.read(socket)
    assert client.times[-1] - asked_at < 0.5
    assert client.ended["finish_reason"] == "cancelled"
    await asyncio.wait_for(upstream.was_aborted.wait(), 1)
    turn = await client.stored_turn(there)
    assert (turn["text"], turn["status"]) == (client.text, "partial")


async def test_same_message_sent_many_times_at_once_is_answered_once(house: House, upstream: ScriptedUpstream) -> None:
    replicas = await two(house)
    client = await house.client()
    body = {"client_message_id": "message-0001", "text": "tell me a story"}

    async def send(number: int) -> dict[str, Any]:
        async with client.http.post(f"{replicas[number % 2].url}/api/chat", json=body) as response:
            assert response.status == 200, await response.text()
            answer: dict[str, Any] = await response.json()
            return answer

    answers = await asyncio.gather(*(send(number) for number in range(10)))
    assert len({answer["generation_id"] for answer in answers}) == 1
    assert {answer["turn"]["text"] for answer in answers} == {WHOLE}
    assert len(upstream.requests) == 1


async def test_drain_sends_clients_away_and_the_other_replica_goes_on(house: House) -> None:
    here = await house.start("orchestrator-0", drain_seconds=0.3)
    there = await house.start("orchestrator-1")
    client = await house.client()
    async with client.socket(here) as socket:
        await client.say(socket, "tell me a story", message_id="message-0001")
        await client.read(socket, until_seq=10)
        stopping = asyncio.ensure_future(here.stop())
        await client.read(socket)
        assert socket.close_code == aiohttp.WSCloseCode.GOING_AWAY
    assert client.others[-1]["type"] == "going_away"
    async with client.socket(there) as socket:
        await client.resume(socket)
        await client.read(socket)
    assert client.text == WHOLE == (await client.stored_turn(there))["text"]
    assert await stopping == 0
    gaps = [after - before for before, after in zip(client.times, client.times[1:], strict=False)]
    assert max(gaps) < 1.0


async def test_drained_replica_is_not_ready_and_finishes_what_it_can(house: House) -> None:
    here, there = await two(house)
    client = await house.client()
    async with client.socket(here) as socket:
        await client.say(socket, "tell me a story", message_id="message-0001")
        await client.read(socket, until_seq=10)
        stopping = asyncio.ensure_future(here.stop())
        await client.read(socket)
    async with client.http.get(f"{here.url}/readyz") as response:
        assert response.status == 503
    assert await stopping == 0
    async with client.socket(there) as socket:
        await client.resume(socket)
        await client.read(socket)
    assert client.text == WHOLE
    assert "continued" not in [event["type"] for event in client.events]


async def test_valkey_killed_mid_reply_and_back_empty(house: House) -> None:
    here, there = await two(house)
    client = await house.client()
    async with client.socket(here) as socket:
        await client.say(socket, "tell me a story", message_id="message-0001")
        await client.read(socket, until_seq=15)
        await asyncio.to_thread(house.valkey.kill)
        await client.read(socket, until_seq=25)
        await asyncio.to_thread(house.valkey.restart)
        await client.read(socket, until_seq=50)
    async with client.socket(there) as socket:
        await client.resume(socket)
        await client.read(socket)
    assert client.text == WHOLE == (await client.stored_turn(there))["text"]
    assert "continued" not in [event["type"] for event in client.events]


async def test_valkey_hangs_mid_reply(house: House) -> None:
    here, there = await two(house)
    client = await house.client()
    async with client.socket(here) as socket:
        await client.say(socket, "tell me a story", message_id="message-0001")
        await client.read(socket, until_seq=15)
        await asyncio.to_thread(house.valkey.pause)
        await client.read(socket, until_seq=40)
        await asyncio.to_thread(house.valkey.resume)
        await client.read(socket)
    assert client.text == WHOLE == (await client.stored_turn(there))["text"]
    assert max(after - before for before, after in zip(client.times, client.times[1:], strict=False)) < 1.0


async def test_others_can_neither_read_nor_resume_nor_cancel(house: House) -> None:
    here, there = await two(house)
    client, stranger = await house.client(), await house.client()
    async with client.socket(here) as socket, stranger.socket(there) as theirs:
        await client.say(socket, "tell me a story", message_id="message-0001")
        await client.read(socket, until_seq=3)
        for frame in (
            {**client.cursor, "type": "resume"},
            {"type": "cancel", "generation_id": client.cursor["generation_id"]},
            {
                "type": "message",
                "client_message_id": "message-0002",
                "text": "x",
                "conversation_id": client.cursor["conversation_id"],
            },
        ):
            await theirs.send_json(frame)
        for _ in range(5):
            stranger.others.append(await theirs.receive_json(timeout=2))
        await client.read(socket)
    codes = sorted(event["error"]["code"] for event in stranger.others if event["type"] == "error")
    assert codes == ["conversation_not_found", "conversation_not_found", "generation_not_found"]
    assert client.ended["finish_reason"] == "stop"
    url = f"{there.url}/api/conversations/{client.accepted['conversation_id']}"
    for method, path in (("GET", ""), ("GET", "/events"), ("DELETE", ""), ("PATCH", "")):
        async with stranger.http.request(method, url + path, json={"title": "mine"}) as response:
            assert response.status == 404


async def test_replica_started_again_finds_what_was_said(house: House) -> None:
    here, there = await two(house)
    client = await house.client()
    async with client.socket(here) as socket:
        await client.say(socket, "tell me a story", message_id="message-0001")
        await client.read(socket, until_seq=5)
    await asyncio.gather(here.kill(), there.kill())
    await here.start()
    async with client.socket(here) as socket:
        await client.resume(socket)
        await client.read(socket)
    assert client.text == WHOLE == (await client.stored_turn(here))["text"]
