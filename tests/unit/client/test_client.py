"""Replies, conversations, waiting, deadlines over connections that mostly hold."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web

from pratique.client import (
    Accepted,
    ChatClient,
    Ended,
    FinishReason,
    ModelState,
    ModelStatus,
    Replaced,
    ReplyEvent,
    Started,
    Token,
    TransportKind,
    errors,
)
from pratique.core.ids import SequentialIds
from pratique.orchestrator.protocol import events, frames

pytestmark = pytest.mark.unit

TEXT = "Paris is the capital of France."


@pytest.fixture
def script(service: Any, kit: Any) -> tuple[Any, Any]:
    return service, kit


async def collect(stream: Any) -> list[ReplyEvent]:
    return [event async for event in stream]


def text_of(seen: list[ReplyEvent]) -> str:
    text = ""
    for event in seen:
        if isinstance(event, Token):
            text += event.text
        elif isinstance(event, Replaced):
            text = event.text
    return text


def snapshot(*turns: events.Turn, active: str | None = None) -> events.Conversation:
    return events.Conversation(
        conversation_id="cnv_1",
        title="Capitals",
        created_at=1.0,
        updated_at=2.0,
        version=3,
        turns=turns,
        active_generation_id=active,
    )


def turn(role: events.Role, text: str, **fields: Any) -> events.Turn:
    return events.Turn(
        turn_id="turn_2",
        role=role,
        text=text,
        status=events.TurnStatus.COMPLETE,
        created_at=1.0,
        generation_id="gen_1",
        **fields,
    )


async def test_a_reply_over_a_good_connection(chat: ChatClient) -> None:
    stream = chat.send("What is the capital of France?")
    seen = await collect(stream)
    assert [type(event) for event in seen] == [ModelState, Accepted, Started, *[Token] * 6, Ended]
    assert stream.reply is not None
    assert (stream.text, stream.reply.text, stream.last_seq) == (TEXT, TEXT, 8)
    assert (stream.reply.model, stream.reply.turns_dropped, stream.reply.was_truncated) == ("small", 2, True)
    assert stream.reply.first_token_seconds is not None
    assert stream.reply.total_seconds >= stream.reply.first_token_seconds >= 0
    assert (stream.reply.reconnects, stream.conversation_id, stream.generation_id) == (0, "cnv_1", "gen_1")


async def test_ask_returns_the_whole_reply(chat: ChatClient) -> None:
    reply = await chat.ask("What is the capital of France?", conversation_id="cnv_9", max_tokens=8, temperature=0.5)
    assert (reply.text, reply.finish_reason, reply.conversation_id) == (TEXT, FinishReason.STOP, "cnv_9")
    assert (reply.user_turn_id, reply.turn_id) == ("turn_1", "turn_2")


async def test_cookies_of_an_ip_address_are_kept_so_that_the_edge_keeps_us_on_a_replica(
    chat: ChatClient, service: Any
) -> None:
    await chat.ask("one")
    assert service.cookies_seen == [{}, {"pratique_affinity": "seven", "pratique_session": "signed"}]
    await chat.ask("two")
    assert service.keys_seen == [None, None, None]


async def test_an_api_key_goes_with_every_request(kit: Any, server: Any, service: Any) -> None:
    async with kit.client(server, api_key="pk_1") as chat:
        await chat.ask("hello")
    assert service.keys_seen == ["Bearer pk_1"] * 2


async def test_a_failed_reply_raises_with_what_was_said(service: Any, chat: ChatClient) -> None:
    service.final = {
        "finish_reason": events.FinishReason.TIMEOUT,
        "error": events.EventError(code="inter_token_timeout", message="Nothing for 10 s."),
    }
    with pytest.raises(errors.ReplyTimeoutError) as caught:
        await chat.ask("hello")
    assert caught.value.reply is not None
    assert (caught.value.reply.text, caught.value.reply.finish_reason) == (TEXT, FinishReason.TIMEOUT)


async def test_cancel_ends_the_reply_as_cancelled(service: Any, chat: ChatClient) -> None:
    service.is_holding = True
    stream = chat.send("hello")
    async for event in stream:
        if isinstance(event, Token) and event.seq == 4:
            assert await stream.cancel()
    assert stream.reply is not None
    assert stream.reply.finish_reason is FinishReason.CANCELLED
    assert not await stream.cancel()
    assert not await chat.cancel("gen_1")


async def test_cancel_before_the_message_is_accepted_happens_once_it_is(service: Any, chat: ChatClient) -> None:
    service.is_holding = True
    stream = chat.send("hello")
    assert await stream.cancel()
    assert (await stream.wait()).finish_reason is FinishReason.CANCELLED


async def test_retry_follows_the_new_reply(chat: ChatClient, service: Any) -> None:
    assert (await chat.retry("cnv_1").wait()).text == TEXT
    assert isinstance(service.asked[0][1], frames.Retry)
    chat._choice.kind = TransportKind.SSE
    assert (await chat.retry("cnv_1").wait()).text == TEXT


@pytest.mark.parametrize("kind", list(TransportKind))
async def test_resume_follows_the_running_reply(service: Any, chat: ChatClient, kind: TransportKind) -> None:
    chat._choice.kind = kind
    service.is_holding = True
    async for event in chat.send("hello"):
        if isinstance(event, Token):
            break
    stream = chat.resume("cnv_1")
    async for event in stream:
        if isinstance(event, Token) and event.seq == 7:
            await stream.cancel()
    assert stream.text == TEXT


async def test_a_call_has_a_deadline(kit: Any, server: Any, service: Any) -> None:
    service.stalls = 1
    async with kit.client(server, request_timeout_seconds=0.05) as chat:
        with pytest.raises(errors.ConnectionLostError, match="no answer in time"):
            await chat.conversations()


async def test_a_reply_has_a_deadline(kit: Any, service: Any, server: Any) -> None:
    service.is_holding = True
    async with kit.client(server, reply_timeout_seconds=0.3) as chat:
        with pytest.raises(errors.ReplyTimeoutError) as caught:
            await chat.ask("hello")
    assert caught.value.reply is not None
    assert caught.value.reply.text == TEXT


async def test_leaving_early_closes_the_connection(kit: Any, service: Any, server: Any) -> None:
    service.is_holding = True
    async with kit.client(server) as chat:
        async with chat.send("hello") as stream:
            async for event in stream:
                if isinstance(event, Token):
                    break
        assert [event async for event in stream] == []
        left_open = chat.send("again")
        await anext(left_open)
    assert left_open._connection is None
    with pytest.raises(RuntimeError, match="async with"):
        chat.send("after the end")


async def test_cancelling_the_task_closes_the_connection(service: Any, chat: ChatClient) -> None:
    service.is_holding = True
    stream = chat.send("hello")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await stream.wait()
    assert stream._connection is None


async def test_several_replies_at_once(chat: ChatClient, service: Any) -> None:
    replies = await asyncio.gather(*(chat.ask(f"number {number}") for number in range(5)))
    assert {reply.text for reply in replies} == {TEXT}
    assert len(service.generations) == 5
    assert service.cookies_seen.count({}) == 1, "one session for all"


async def test_the_conversation_api(service: Any, chat: ChatClient) -> None:
    service.conversations["cnv_1"] = snapshot(turn(events.Role.USER, "hello"))
    page = await chat.conversations(limit=10, before="3")
    assert (page.conversations[0].title, page.next) == ("Capitals", "2")
    assert (await chat.conversation("cnv_1")).turns[0].text == "hello"
    assert (await chat.rename("cnv_1", "Cities")).title == "Cities"
    await chat.delete("cnv_1")
    with pytest.raises(errors.ConversationNotFoundError):
        await chat.conversation("cnv_1")
    assert (await chat.session()).principal_id == "usr_1"


async def test_another_kind_of_server_is_recognised(service: Any, chat: ChatClient) -> None:
    service.http_errors.append(web.Response(text="<html>Welcome</html>", content_type="text/html"))
    with pytest.raises(errors.ProtocolMismatchError, match="did not answer as a chat service"):
        await chat.conversations()
    service.http_errors.append(web.Response(status=418))
    with pytest.raises(errors.ProtocolMismatchError, match="418"):
        await chat.conversations()
    chat._choice.kind = TransportKind.SSE
    await chat.session()
    service.http_errors.append(web.Response(text="<html>Welcome</html>", content_type="text/html"))
    with pytest.raises(errors.ProtocolMismatchError, match="text/event-stream"):
        await chat.ask("hello")


async def test_bad_event_streams_are_recognised(kit: Any, service: Any, chat: ChatClient) -> None:
    chat._choice.kind = TransportKind.SSE
    for body in (b"data: \xff\n\n", b"data: nonsense\n\n"):
        await chat.session()
        service.http_errors.append(web.Response(body=body, content_type="text/event-stream"))
        with pytest.raises(errors.ProtocolMismatchError):
            await chat.ask("hello")


async def test_waiting_until_a_model_is_ready_tells_what_it_waits_for(service: Any, chat: ChatClient) -> None:
    replica = events.ModelReplica(name="inference-0", state="process_alive", detail="loading weights", progress=0.4)
    service.model = events.ModelState(ready=False, replicas=(replica,))
    told: list[ModelStatus] = []

    def on_change(model: ModelStatus) -> None:
        told.append(model)
        service.model = events.ModelState(ready=True, replicas=())

    assert (await chat.wait_until_ready(timeout_seconds=5, on_change=on_change)).model.ready
    assert [model.replicas[0].detail for model in told] == ["loading weights"]


async def test_waiting_for_a_model_has_an_end(service: Any, chat: ChatClient, kit: Any, server: Any) -> None:
    service.model = events.ModelState(ready=False, replicas=(events.ModelReplica(name="inference-0", state="failed"),))
    with pytest.raises(errors.ModelUnavailableError, match="inference-0: failed"):
        await chat.wait_until_ready(timeout_seconds=0.1)
    async with kit.client(server, request_timeout_seconds=0.01) as lonely:
        await server.close()
        with pytest.raises(errors.ConnectionLostError):
            await lonely.wait_until_ready(timeout_seconds=0.1)


async def test_a_client_makes_up_its_own_message_ids(kit: Any, service: Any, server: Any) -> None:
    async with ChatClient(str(server.make_url("/"))) as chat:
        await chat.ask("hello")
    frame = service.asked[0][1]
    assert len(frame.client_message_id) == 30
    async with ChatClient(str(server.make_url("/")), ids=SequentialIds()) as chat:
        await chat.send("hello", client_message_id="my-own-id").wait()
    assert service.asked[1][1].client_message_id == "my-own-id"
