"""The WebSocket transport: order, refusals, limits, close codes."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from pratique.orchestrator.upstream.interface import UpstreamEnd, UpstreamStart, UpstreamToken
from pratique.orchestrator.upstream.scripted import Hang, echo_text

if TYPE_CHECKING:
    from pratique.orchestrator.upstream.scripted import Step

pytestmark = pytest.mark.unit

Service = Any
START = UpstreamStart(model="m", prompt_tokens=3, was_truncated=True, turns_dropped=4)
END = UpstreamEnd(finish_reason="stop", prompt_tokens=3, completion_tokens=1)


def script(service: Service, *steps: Step) -> None:
    service.upstream._scripts.append(steps)


async def test_hello_then_model_state_then_the_answer_in_order(service: Service) -> None:
    await service.start()
    async with service.socket() as socket:
        hello = await socket.receive()
        assert (hello["type"], hello["replica"], hello["protocol_version"]) == ("hello", "orchestrator-0", 1)
        assert (await socket.receive())["type"] == "model_state"
        await socket.send("message", **service.message())
        accepted = await socket.receive("accepted", "started", "token")
        assert (accepted["type"], accepted["duplicate"]) == ("accepted", False)
        events = await socket.reply()
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert "".join(event.get("text", "") for event in events) == echo_text("one two three")
    assert all(event["generation_id"] == accepted["generation_id"] for event in events)


async def test_what_was_left_out_of_the_prompt_is_said(service: Service) -> None:
    script(service, START, UpstreamToken("a"), END)
    await service.start()
    async with service.socket() as socket:
        await socket.send("message", **service.message())
        started = await socket.receive("started")
    assert (started["was_truncated"], started["turns_dropped"], started["model"]) == (True, 4, "m")


async def test_same_message_again_is_answered_by_the_same_reply(service: Service) -> None:
    await service.start()
    message = service.message()
    async with service.socket() as socket:
        await socket.send("message", **message)
        first, events = await socket.receive("accepted"), await socket.reply()
        await socket.send("message", **message)
        second, again = await socket.receive("accepted"), await socket.reply()
    assert (second["duplicate"], second["generation_id"]) == (True, first["generation_id"])
    assert events == again
    assert len(service.upstream.requests) == 1


async def test_duplicate_whose_log_is_gone_gets_the_conversation(service: Service) -> None:
    await service.start()
    message = service.message()
    async with service.socket() as socket:
        await socket.send("message", **message)
        await socket.reply()
        service.log.lose_everything()
        service.replica.sessions._feeds.clear()
        await socket.send("message", **message)
        assert (await socket.receive("accepted"))["duplicate"] is True
        gone = await socket.receive("not_resumable")
    assert [turn["role"] for turn in gone["conversation"]["turns"]] == ["user", "assistant"]


async def test_second_message_while_a_reply_runs_is_refused(service: Service) -> None:
    script(service, START, Hang())
    await service.start()
    async with service.socket() as socket:
        await socket.send("message", **service.message())
        accepted = await socket.receive("accepted")
        await socket.send("message", **service.message(conversation_id=accepted["conversation_id"]))
        refused = await socket.receive("error")
    assert refused["error"]["code"] == "generation_running"
    assert refused["client_message_id"] == "message-0002"


async def test_dropped_socket_stops_nothing_and_resume_gets_the_rest(service: Service) -> None:
    gate = asyncio.Event()
    script(service, START, UpstreamToken("a"), gate, UpstreamToken("b"), END)
    await service.start()
    async with service.socket() as socket:
        await socket.send("message", **service.message())
        accepted = await socket.receive("accepted")
        await socket.receive("token")
    gate.set()
    cursor = {key: accepted[key] for key in ("conversation_id", "generation_id")}
    async with service.socket() as socket:
        await socket.send("resume", **cursor, last_seq=2)
        back = await socket.receive("reconnected")
        events = await socket.reply()
    assert (back["last_seq"], back["generation_id"]) == (2, accepted["generation_id"])
    assert [(event["seq"], event.get("text")) for event in events] == [(3, "b"), (4, None)]


async def test_resume_without_a_generation_follows_the_running_one_from_its_beginning(service: Service) -> None:
    gate = asyncio.Event()
    script(service, START, UpstreamToken("a"), gate, END)
    await service.start()
    async with service.socket() as socket, service.socket() as other:
        await socket.send("message", **service.message())
        accepted = await socket.receive("accepted")
        await socket.receive("token")
        await other.send("resume", conversation_id=accepted["conversation_id"])
        assert (await other.receive("reconnected"))["generation_id"] == accepted["generation_id"]
        gate.set()
        assert [event["seq"] for event in await other.reply()] == [1, 2, 3]
        await socket.reply()
        await other.send("resume", conversation_id=accepted["conversation_id"])
        assert (await other.receive("reconnected"))["generation_id"] is None


async def test_resume_twice_on_one_socket_doubles_nothing(service: Service) -> None:
    gate = asyncio.Event()
    script(service, START, UpstreamToken("a"), gate, UpstreamToken("b"), END)
    await service.start()
    async with service.socket() as socket:
        await socket.send("message", **service.message())
        accepted = await socket.receive("accepted")
        await socket.receive("token")
        cursor = {key: accepted[key] for key in ("conversation_id", "generation_id")}
        for _ in range(3):
            await socket.send("resume", **cursor, last_seq=2)
            await socket.receive("reconnected")
        gate.set()
        assert [event["seq"] for event in await socket.reply()] == [3, 4]
        await socket.send("ping", nonce="after")
        assert (await socket.receive())["type"] == "pong"


async def test_resume_from_beyond_what_there_is(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pratique.orchestrator.api.service._CATCH_UP_SECONDS", 0.05)
    script(service, START, UpstreamToken("a"), Hang())
    await service.start()
    async with service.socket() as socket:
        await socket.send("message", **service.message())
        accepted = await socket.receive("accepted")
        await socket.receive("token")
        cursor = {key: accepted[key] for key in ("conversation_id", "generation_id")}
        await socket.send("resume", **cursor, last_seq=99)
        gone = await socket.receive("not_resumable")
    assert gone["conversation"]["active_generation_id"] == accepted["generation_id"]


async def test_resume_of_a_generation_of_another_conversation(service: Service) -> None:
    await service.start()
    async with service.socket() as socket:
        await socket.send("message", **service.message())
        await socket.reply()
        await socket.send("message", **service.message())
        accepted = await socket.receive("accepted")
        await socket.reply()
        first = (await service.get("/api/conversations"))["conversations"][-1]["conversation_id"]
        await socket.send("resume", conversation_id=first, generation_id=accepted["generation_id"])
        assert (await socket.receive("error"))["error"]["code"] == "generation_not_found"


async def test_cancel_ends_with_a_partial_turn(service: Service) -> None:
    script(service, START, UpstreamToken("a"), Hang())
    await service.start()
    async with service.socket() as socket:
        await socket.send("message", **service.message())
        accepted = await socket.receive("accepted")
        await socket.receive("token")
        await socket.send("cancel", generation_id=accepted["generation_id"])
        ended = await socket.receive("ended")
        assert ended["finish_reason"] == "cancelled"
        await socket.send("retry", conversation_id=accepted["conversation_id"], client_message_id="retry-0001")
        again = await socket.receive("accepted")
        assert again["user_turn_id"] == accepted["user_turn_id"]
        await socket.reply()
    turns = (await service.get(f"/api/conversations/{accepted['conversation_id']}"))["turns"]
    assert [turn["text"] for turn in turns] == ["one two three", echo_text("one two three")]


async def test_retry_of_a_whole_answer_is_refused(service: Service) -> None:
    await service.start()
    async with service.socket() as socket:
        await socket.send("message", **service.message())
        accepted = await socket.receive("accepted")
        await socket.reply()
        await socket.send("retry", conversation_id=accepted["conversation_id"], client_message_id="retry-0001")
        assert (await socket.receive("error"))["error"]["code"] == "nothing_to_retry"


async def test_ping_is_answered_with_its_nonce(service: Service) -> None:
    await service.start()
    async with service.socket() as socket:
        await socket.send("ping", nonce="abc")
        assert (await socket.receive("pong"))["nonce"] == "abc"


async def test_heart_beats(service: Service) -> None:
    await service.start(heartbeat_seconds=0.02)
    async with service.socket() as socket:
        assert (await socket.receive())["heartbeat_seconds"] == 0.02
        await socket.receive("heartbeat")
        await socket.receive("heartbeat")


async def test_model_state_is_said_on_every_change(service: Service) -> None:
    await service.start()
    async with service.socket() as socket:
        while not (await socket.receive("model_state"))["ready"]:
            pass
        service.model.state = "process_alive"
        changed = await socket.receive("model_state")
    assert (changed["ready"], changed["replicas"][0]["state"]) == (False, "process_alive")


async def test_malformed_frames_are_answered_and_too_many_in_a_row_end_it(service: Service) -> None:
    await service.start(max_bad_frames=3)
    async with service.socket() as socket:
        for frame in ("{", "[]"):
            await socket.raw.send_str(frame)
            assert (await socket.receive("error"))["error"]["code"] == "invalid_request"
        await socket.send("ping")
        await socket.receive("pong")
        for frame in ("", '{"type":"nope"}'):
            await socket.raw.send_str(frame)
            await socket.receive("error")
        await socket.raw.send_bytes(b"\xff\x00")
        assert (await socket.receive("error"))["error"]["code"] == "invalid_request"
        assert await socket.closed() == 4400


async def test_frame_as_bytes_is_a_frame(service: Service) -> None:
    await service.start()
    async with service.socket() as socket:
        await socket.raw.send_bytes(b'{"type":"ping","nonce":"b"}')
        assert (await socket.receive("pong"))["nonce"] == "b"


async def test_frame_beyond_the_bound_ends_it(service: Service) -> None:
    await service.start()
    async with service.socket() as socket:
        await socket.raw.send_str("x" * 500_000)
        assert await socket.closed() == 1009


async def test_nobody_known_is_not_let_in(service: Service) -> None:
    await service.start()
    async with aiohttp.ClientSession() as stranger, stranger.ws_connect(f"{service.url}/api/ws") as raw:
        message = await raw.receive()
        assert (message.type, raw.close_code) == (aiohttp.WSMsgType.CLOSE, 1008)
        assert message.extra == "unauthenticated"


async def test_foreign_page_is_not_let_in(service: Service) -> None:
    await service.start(allowed_origins=("https://chat.example.org",))
    async with service.socket(headers={"origin": "https://evil.example"}) as socket:
        assert await socket.closed() == 1008
    for origin in ("https://chat.example.org", service.url):
        async with service.socket(headers={"origin": origin}) as socket:
            assert (await socket.receive())["type"] == "hello"


async def test_api_key_opens_a_socket(service: Service) -> None:
    await service.start()
    async with service.socket(headers={"authorization": f"Bearer {service.key}"}) as socket:
        assert (await socket.receive())["principal_id"] == "key_test"


async def test_full_replica_sends_away(service: Service) -> None:
    await service.start(max_connections=1)
    async with service.socket() as socket:
        await socket.receive("hello")
        async with service.socket() as other:
            assert await other.closed() == 1013


async def test_full_of_replies_is_said_so(service: Service) -> None:
    script(service, START, Hang())
    await service.start(max_running_generations=1)
    async with service.socket() as socket:
        await socket.send("message", **service.message())
        await socket.receive("started")
        await socket.send("message", **service.message())
        refused = (await socket.receive("error"))["error"]
    assert refused["code"] == "overloaded"
    assert refused["retry_after_seconds"] > 0


async def test_one_socket_follows_so_many_replies_and_no_more(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pratique.orchestrator.api.websocket._MAX_FOLLOWED", 1)
    script(service, START, Hang())
    script(service, START, Hang())
    await service.start()
    async with service.socket() as socket:
        await socket.send("message", **service.message())
        await socket.receive("started")
        await socket.send("message", **service.message())
        await socket.receive("accepted")
        assert (await socket.receive("error"))["error"]["code"] == "overloaded"


async def test_store_that_is_away_is_said_so_and_nothing_accepted(service: Service) -> None:
    await service.start()
    async with service.socket() as socket:
        service.store.unavailable = True
        await socket.send("message", **service.message())
        refused = await socket.receive("error", "accepted")
        assert refused["error"]["code"] == "store_unavailable"
        service.store.unavailable = False
        await socket.send("message", **service.message())
        await socket.reply()


async def test_fault_of_ours_costs_one_frame_not_the_connection(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    await service.start()
    monkeypatch.setattr(service.store, "begin_turn", None)
    async with service.socket() as socket:
        await socket.send("message", **service.message())
        refused = await socket.receive("error")
        assert refused["error"]["code"] == "internal"
        assert "NoneType" not in json.dumps(refused)
        await socket.send("ping")
        await socket.receive("pong")


async def test_slow_reader_is_cut_and_resumes_without_loss(service: Service) -> None:
    piece = "x" * 2000
    gate = asyncio.Event()
    script(service, START, gate, *(UpstreamToken(piece) for _ in range(4000)), END)
    await service.start(slow_reader_bytes=16_384, log_max_bytes=64 * 2**20)
    async with service.socket(max_msg_size=2**24) as socket:
        await socket.send("message", **service.message(max_tokens=4000))
        accepted = await socket.receive("accepted")
        await socket.receive("started")
        # A client that stops reading: TCP itself does the rest.
        assert socket.raw._response.connection.transport is not None
        socket.raw._response.connection.transport.pause_reading()
        gate.set()
        metric = 'pratique_orchestrator_connections_cut_total{reason="slow_reader"} 1.0'
        async with asyncio.timeout(10):
            while metric not in await (await service.http.get("/metrics")).text():  # noqa: ASYNC110 - another client sees it
                await asyncio.sleep(0.02)
        socket.raw._response.connection.transport.resume_reading()
        last_seq = 1
        async with asyncio.timeout(10):
            while (message := await socket.raw.receive()).type is aiohttp.WSMsgType.TEXT:
                last_seq = json.loads(message.data).get("seq", last_seq)
        assert socket.raw.close_code == 1013
    assert last_seq < 4000
    cursor = {key: accepted[key] for key in ("conversation_id", "generation_id")}
    async with service.socket(max_msg_size=2**24) as socket:
        await socket.send("resume", **cursor, last_seq=last_seq)
        events = await socket.reply()
    assert [event["seq"] for event in events] == list(range(last_seq + 1, 4003))


async def test_reader_that_takes_nothing_at_all_is_cut(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pratique.orchestrator.api.websocket._CLOSE_SECONDS", 0.05)
    piece = "x" * 2000
    script(service, START, *(UpstreamToken(piece) for _ in range(4000)), END)
    await service.start(slow_reader_bytes=2**26, heartbeat_seconds=0.1, log_max_bytes=64 * 2**20)
    async with service.socket(max_msg_size=2**24) as socket:
        await socket.send("message", **service.message(max_tokens=4000))
        await socket.receive("accepted")
        socket.raw._response.connection.transport.pause_reading()
        async with asyncio.timeout(10):
            while service.replica.runtime.num_connections:  # noqa: ASYNC110 - seen from the other side
                await asyncio.sleep(0.02)
        socket.raw._response.connection.transport.resume_reading()


async def test_drain_says_so_and_closes(service: Service) -> None:
    await service.start()
    async with service.socket() as socket:
        await socket.receive("hello")
        draining = asyncio.ensure_future(service.replica.drain())
        assert (await socket.receive("going_away"))["reconnect_after_seconds"] > 0
        assert await socket.closed() == 1001
        await draining
    assert (await service.get("/readyz", status=503))["error"]["code"] == "draining"
    await service.post("/api/chat", service.message(), status=503)


async def test_deleted_conversation_ends_its_followers(service: Service) -> None:
    gate = asyncio.Event()
    script(service, START, UpstreamToken("a"), gate, END)
    await service.start()
    async with service.socket() as socket:
        await socket.send("message", **service.message())
        accepted = await socket.receive("accepted")
        await socket.receive("token")
        async with service.http.delete(f"/api/conversations/{accepted['conversation_id']}") as response:
            assert response.status == 204
        refused = await socket.receive("error")
    assert refused["error"]["code"] == "conversation_not_found"
    assert refused["generation_id"] == accepted["generation_id"]
    assert service.upstream.aborted or service.upstream.requests


async def test_sockets_leave_nothing_behind(service: Service) -> None:
    await service.start()
    before = len(asyncio.all_tasks())
    for _ in range(10):
        async with service.socket() as socket:
            await socket.send("message", **service.message())
            await socket.receive("token")
    # What is closed takes a moment to end, how long is the machine's affair; what is left behind never does.
    async with asyncio.timeout(5):
        while service.replica.runtime.num_connections or service.replica.sessions.num_running:  # noqa: ASYNC110 - seen from outside
            await asyncio.sleep(0.01)
        while len(asyncio.all_tasks()) > before:  # noqa: ASYNC110 - seen from outside
            await asyncio.sleep(0.01)


async def test_a_client_that_floods_pings_and_never_reads_is_cut(service: Service) -> None:
    await service.start()
    pings = (b"\x89\xfd\0\0\0\0" + b"p" * 125) * 500
    cookie = "; ".join(f"{one.key}={one.value}" for one in service.http.cookie_jar)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(service.url.rpartition(":")[2]), limit=4096)
    writer.write(
        f"GET /api/ws HTTP/1.1\r\nHost: x\r\nCookie: {cookie}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    assert b" 101 " in await reader.readuntil(b"\r\n\r\n")

    async def flood() -> None:
        for _ in range(40_000_000 // len(pings)):
            writer.write(pings)
            await writer.drain()

    with pytest.raises(ConnectionError):
        await flood()
    writer.transport.abort()
    async with asyncio.timeout(5):
        while service.replica.runtime.num_connections:  # noqa: ASYNC110 - seen from outside
            await asyncio.sleep(0.01)
