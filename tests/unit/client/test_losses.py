"""Lost connections, lost logs, refusals: the reply comes whole, or it is said why not."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pratique.client import (
    Accepted,
    ChatClient,
    Ended,
    FinishReason,
    ModelState,
    Reconnecting,
    Replaced,
    ReplyEvent,
    Resumed,
    Started,
    Token,
    TransportKind,
    errors,
)
from pratique.client._link import LinkLostError
from pratique.client._websocket import error_of_close
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


@pytest.mark.parametrize("how", ["ABORT", "SILENCE", "GOING_AWAY", "CLOSE_1001", "CLOSE_1013"])
@pytest.mark.parametrize("after", [1, 2, 5])
async def test_each_way_to_lose_a_connection_is_survived(
    kit: Any, service: Any, chat: ChatClient, how: str, after: int
) -> None:
    service.cuts.append(kit.Cut(after, kit.How[how]))
    stream = chat.send("hello")
    seen = await collect(stream)
    assert (text_of(seen), stream.text) == (TEXT, TEXT)
    assert [type(event) for event in seen if isinstance(event, Reconnecting | Resumed)] == [Reconnecting, Resumed]
    assert len(service.generations) == 1


@pytest.mark.parametrize("after", range(12))
@pytest.mark.parametrize(
    ("kind", "is_stored"),
    [(TransportKind.WEBSOCKET, True), (TransportKind.WEBSOCKET, False), (TransportKind.SSE, True)],
)
async def test_the_connection_is_cut_after_every_event(
    script: Any, chat: ChatClient, after: int, *, is_stored: bool, kind: TransportKind
) -> None:
    service, kit = script
    chat._choice.kind = kind
    service.cuts.append(kit.Cut(after, is_stored=is_stored))
    seen = await collect(chat.send("hello"))
    assert text_of(seen) == TEXT
    assert [event.seq for event in seen if isinstance(event, Started | Token | Ended)] == list(range(1, 9))
    assert len([event for event in seen if isinstance(event, Accepted)]) == 1
    assert len(service.generations) == 1


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cuts=st.lists(st.integers(0, 8), max_size=8),
    words=st.lists(st.text(min_size=1, max_size=8), max_size=6),
    overlap=st.integers(0, 4),
    skipped=st.none() | st.integers(1, 7),
)
async def test_nothing_is_lost_or_doubled_over_any_cuts(
    kit: Any, cuts: list[int], words: list[str], overlap: int, skipped: int | None
) -> None:
    service = kit.Service(words=tuple(words), overlap=overlap, skipped_seq=skipped)
    service.cuts.extend(kit.Cut(after) for after in cuts)
    server = await kit.serve(service)
    try:
        async with kit.client(server) as chat:
            stream = chat.send("hello")
            seen = await collect(stream)
    finally:
        await server.close()
    assert text_of(seen) == stream.text == "".join(words)
    numbers = [event.seq for event in seen if isinstance(event, Started | Token | Ended)]
    assert numbers == list(range(1, len(words) + 3))
    assert len(service.generations) == 1


async def test_an_unaccepted_message_is_sent_again_under_the_same_id(kit: Any, service: Any, chat: ChatClient) -> None:
    service.cuts.extend([kit.Cut(2, is_stored=False), kit.Cut(2), kit.Cut(3)])
    await chat.ask("hello")
    messages = [frame for _, frame in service.asked if isinstance(frame, frames.Message)]
    assert len({frame.client_message_id for frame in messages}) == 1
    assert len(messages) == 2, "stored at the second try, accepted at the third"
    assert isinstance(service.asked[-1][1], frames.Resume)


async def test_after_five_lost_sockets_the_client_goes_on_with_sse(kit: Any, service: Any, chat: ChatClient) -> None:
    service.cuts.extend([kit.Cut(0)] * 5)
    assert (await chat.ask("hello")).text == TEXT
    assert chat.transport is TransportKind.SSE
    assert [transport for transport, _ in service.asked] == ["sse"]


async def test_a_gateway_that_forbids_upgrades_leads_to_sse(service: Any, chat: ChatClient) -> None:
    service.handshake_statuses.extend([400] * 5)
    assert (await chat.ask("hello")).text == TEXT
    assert chat.transport is TransportKind.SSE


async def test_drains_and_missing_replicas_do_not_lead_to_sse(kit: Any, service: Any, chat: ChatClient) -> None:
    service.cuts.extend([kit.Cut(3, kit.How.CLOSE_1001)] * 6)
    service.handshake_statuses.extend([503] * 6)
    assert (await chat.ask("hello")).text == TEXT
    assert chat.transport is TransportKind.WEBSOCKET


async def test_a_cut_resume_over_sse_names_the_cursor(kit: Any, service: Any, chat: ChatClient) -> None:
    chat._choice.kind = TransportKind.SSE
    service.cuts.append(kit.Cut(4))
    await chat.ask("hello")
    frame = service.asked[-1][1]
    assert (frame.generation_id, frame.last_seq) == ("gen_1", 3)


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ("CLOSE_1008", errors.UnauthenticatedError),
        ("CLOSE_1009", errors.TooLargeError),
        ("CLOSE_4400", errors.ProtocolMismatchError),
    ],
)
async def test_a_close_that_refuses_is_an_error(
    kit: Any, service: Any, chat: ChatClient, how: str, error: type[Exception]
) -> None:
    service.cuts.append(kit.Cut(1, kit.How[how]))
    with pytest.raises(error, match="scripted"):
        await chat.ask("hello")


@pytest.mark.parametrize("code", [1001, 1012, 1013, 4401])
def test_a_close_that_is_nobodys_fault_is_a_loss_that_does_not_count_against_the_transport(code: int) -> None:
    lost = error_of_close(code, "said")
    assert isinstance(lost, LinkLostError)
    assert lost.is_blameless


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_handshake_is_an_error(service: Any, chat: ChatClient, status: int) -> None:
    service.handshake_statuses.append(status)
    with pytest.raises((errors.UnauthenticatedError, errors.ForbiddenError)):
        await chat.ask("hello")


@pytest.mark.parametrize("code", sorted(errors.WIRE_ERRORS))
@pytest.mark.parametrize("kind", list(TransportKind))
async def test_a_refusal_becomes_the_error_of_its_code(
    service: Any, chat: ChatClient, code: str, kind: TransportKind
) -> None:
    chat._choice.kind = kind
    service.refusals.extend([events.EventError(code=code, message="No.", hint="Ask later.")] * 6)
    with pytest.raises(errors.WIRE_ERRORS[code], match=r"No\. Hint: Ask later\.") as caught:
        await chat.ask("hello")
    assert (caught.value.wire_code, caught.value.reply) == (code, None)


async def test_not_now_is_tried_again(service: Any, chat: ChatClient) -> None:
    service.refusals.extend([events.EventError(code="store_unavailable", message="No.", retry_after_seconds=0.001)] * 5)
    seen = await collect(chat.send("hello"))
    assert text_of(seen) == TEXT
    assert [event.reason for event in seen if isinstance(event, Reconnecting)] == ["No."] * 5


async def test_a_refusal_in_the_middle_carries_what_was_said(kit: Any, service: Any, chat: ChatClient) -> None:
    service.cuts.append(kit.Cut(6))
    stream = chat.send("hello")
    async for event in stream:
        if isinstance(event, Reconnecting):
            break
    service.refusals.append(events.EventError(code="conversation_not_found", message="Deleted."))
    with pytest.raises(errors.ConversationNotFoundError) as caught:
        await stream.wait()
    assert caught.value.reply is not None
    assert caught.value.reply.text == "Paris is "
    assert stream.reply is None


async def test_refusals_of_others_are_not_ours(service: Any, chat: ChatClient) -> None:
    refused = events.EventError(code="invalid_request", message="No.")
    service.extra_messages += [
        msgspec.json.encode(events.ErrorEvent(error=refused, generation_id="gen_7")).decode(),
        msgspec.json.encode(events.ErrorEvent(error=refused, client_message_id="msg_other")).decode(),
        msgspec.json.encode(
            events.Token(conversation_id="cnv_7", generation_id="gen_7", seq=1, text="another's")
        ).decode(),
        '{"type":"invented_later","x":1}',
        '{"type":"pong"}',
    ]
    assert (await chat.ask("hello")).text == TEXT


@pytest.mark.parametrize("raw", ['{"type":"hello"}', "[1]", "nonsense"])
async def test_what_is_not_the_protocol_is_an_error(service: Any, chat: ChatClient, raw: str) -> None:
    service.extra_messages.append(raw)
    with pytest.raises(errors.ProtocolMismatchError, match="event of the chat protocol"):
        await chat.ask("hello")


async def test_the_log_is_gone_and_the_stored_turn_completes_the_text(kit: Any, service: Any, chat: ChatClient) -> None:
    service.cuts.append(kit.Cut(6))
    service.conversations["cnv_1"] = snapshot(turn(events.Role.ASSISTANT, TEXT, finish_reason=events.FinishReason.STOP))
    stream = chat.send("hello")
    seen: list[ReplyEvent] = []
    async for event in stream:
        seen.append(event)
        if isinstance(event, Reconnecting):
            service.generations["gen_1"].is_log_lost = True
    assert text_of(seen) == stream.text == TEXT
    assert isinstance(seen[-1], Ended)
    assert seen[-1].turn_id == "turn_2"
    assert not [event for event in seen if isinstance(event, Replaced)]


async def test_a_stored_text_that_differs_replaces_what_was_shown(kit: Any, service: Any, chat: ChatClient) -> None:
    service.cuts.append(kit.Cut(6))
    service.conversations["cnv_1"] = snapshot(turn(events.Role.ASSISTANT, "Lyon."))
    stream = chat.send("hello")
    seen: list[ReplyEvent] = []
    async for event in stream:
        seen.append(event)
        if isinstance(event, Reconnecting):
            service.generations["gen_1"].is_log_lost = True
    assert text_of(seen) == stream.text == "Lyon."


async def test_the_log_is_gone_while_the_reply_runs(kit: Any, service: Any, chat: ChatClient) -> None:
    service.cuts.append(kit.Cut(6))
    service.conversations["cnv_1"] = snapshot(turn(events.Role.USER, "hello"), active="gen_1")
    stream = chat.send("hello")
    waited = 0
    async for event in stream:
        if isinstance(event, Reconnecting):
            waited += 1
            service.generations["gen_1"].is_log_lost = True
        if waited == 3:
            service.conversations["cnv_1"] = snapshot(turn(events.Role.ASSISTANT, TEXT))
    assert stream.text == TEXT


async def test_a_reply_that_failed_before_its_first_word_ends_as_failed(
    kit: Any, service: Any, chat: ChatClient
) -> None:
    service.cuts.append(kit.Cut(3))
    service.conversations["cnv_1"] = snapshot(turn(events.Role.USER, "hello"))
    stream = chat.send("hello")
    async for event in stream:
        if isinstance(event, Reconnecting):
            service.generations["gen_1"].is_log_lost = True
    assert stream.reply is not None
    assert stream.reply.error is not None
    assert (stream.reply.finish_reason, stream.reply.error.code) == (FinishReason.ERROR, "interrupted")


async def test_a_reply_that_nobody_knows_any_more_is_lost(kit: Any, service: Any, chat: ChatClient) -> None:
    service.cuts.append(kit.Cut(3))
    service.conversations["cnv_1"] = snapshot()
    stream = chat.send("hello")
    async for event in stream:
        if isinstance(event, Reconnecting):
            break
    service.generations["gen_1"].is_log_lost = True
    with pytest.raises(errors.ReplyLostError, match="gen_1"):
        await stream.wait()


async def test_resume_from_a_cursor_brings_the_rest(chat: ChatClient) -> None:
    await chat.ask("hello")
    stream = chat.resume("cnv_1", generation_id="gen_1", last_seq=4)
    assert (await stream.wait()).text == "capital of France."


async def test_resume_from_a_cursor_without_a_log_replaces_the_text(service: Any, chat: ChatClient) -> None:
    await chat.ask("hello")
    service.generations["gen_1"].is_log_lost = True
    service.conversations["cnv_1"] = snapshot(turn(events.Role.ASSISTANT, TEXT))
    seen = await collect(chat.resume("cnv_1", generation_id="gen_1", last_seq=4))
    assert text_of(seen) == TEXT
    assert any(isinstance(event, Replaced) for event in seen)


async def test_resume_where_nothing_runs_ends_at_once(service: Any, chat: ChatClient) -> None:
    stream = chat.resume("cnv_1")
    assert [event for event in await collect(stream) if not isinstance(event, ModelState)] == []
    with pytest.raises(errors.GenerationNotFoundError):
        await chat.resume("cnv_1").wait()
    service.conversations["cnv_1"] = snapshot()
    with pytest.raises(errors.GenerationNotFoundError):
        await chat.resume("cnv_1").wait()


async def test_resume_of_a_reply_that_nobody_knows_is_lost(chat: ChatClient) -> None:
    with pytest.raises(errors.ReplyLostError):
        await chat.resume("cnv_1", generation_id="gen_9").wait()


async def test_nobody_there_ends_in_a_connection_error(kit: Any, server: Any) -> None:
    async with kit.client(server, reconnect_timeout_seconds=0.05, request_timeout_seconds=0.05) as chat:
        await server.close()
        with pytest.raises(errors.ConnectionLostError, match="could not be had again"):
            await chat.ask("hello")
        with pytest.raises(errors.ConnectionLostError, match="cannot be reached"):
            await chat.conversations()
        assert chat.transport is TransportKind.WEBSOCKET, "sockets were not at fault"


@pytest.mark.parametrize("kind", list(TransportKind))
async def test_a_server_that_goes_away_for_good(kit: Any, server: Any, kind: TransportKind) -> None:
    async with kit.client(server, reconnect_timeout_seconds=0.05) as chat:
        chat._choice.kind = kind
        await chat.session()
        await server.close()
        with pytest.raises(errors.ConnectionLostError, match="could not be had again"):
            await chat.ask("hello")


@pytest.mark.parametrize("kind", list(TransportKind))
async def test_a_server_that_does_not_answer_in_time_is_asked_again(
    kit: Any, server: Any, service: Any, kind: TransportKind
) -> None:
    async with kit.client(server, connect_timeout_seconds=0.05) as chat:
        chat._choice.kind = kind
        await chat.session()
        service.stalls = 1
        assert (await chat.ask("hello")).text == TEXT


async def test_a_body_without_end_is_refused(service: Any, chat: ChatClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pratique.client._http._BODY_LIMIT_BYTES", 100)
    service.http_errors.append(web.Response(text="x" * 200))
    with pytest.raises(errors.ProtocolMismatchError, match="larger than 100 bytes"):
        await chat.conversations()


async def test_calls_are_repeated_over_a_gateway_that_has_nobody_behind_it(service: Any, chat: ChatClient) -> None:
    service.http_errors.extend([web.Response(status=503, text="no healthy upstream"), web.Response(status=502)])
    assert (await chat.conversations()).conversations == ()


@pytest.mark.parametrize("kind", list(TransportKind))
async def test_streams_outlive_a_gateway_that_has_nobody_behind_it(
    service: Any, chat: ChatClient, kind: TransportKind
) -> None:
    chat._choice.kind = kind
    await chat.session()
    service.http_errors.extend([web.Response(status=503, text="no healthy upstream"), web.Response(status=502)])
    assert (await chat.ask("hello")).text == TEXT


async def test_an_event_stream_that_just_ends_is_asked_for_again(service: Any, chat: ChatClient) -> None:
    chat._choice.kind = TransportKind.SSE
    await chat.session()
    service.http_errors.append(web.Response(body=b"", content_type="text/event-stream"))
    assert (await chat.ask("hello")).text == TEXT


@pytest.mark.parametrize("url", ["", "ftp://x", "http://", "8080", "http://[::1"])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(errors.InvalidRequestError, match="Expected a URL"):
        ChatClient(url)
