"""What servers send that they should not, and what the edge sends in their place."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from pratique.orchestrator.upstream.discipline.verdicts import Health, assess_health, was_taken
from pratique.orchestrator.upstream.http import HttpUpstream
from pratique.orchestrator.upstream.interface import (
    UpstreamEnd,
    UpstreamEvent,
    UpstreamGarbledError,
    UpstreamInterruptedError,
    UpstreamRefusedError,
    UpstreamRequest,
    UpstreamStart,
    UpstreamToken,
    UpstreamUnavailableError,
)
from pratique.orchestrator.upstream.scripted import Pause, ScriptedUpstream, Step
from pratique.orchestrator.upstream.scripted_server import ScriptedModelServer
from pratique.orchestrator.upstream.sse import SseMessage, SseParser

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.unit

Ask = Callable[..., UpstreamRequest]
_END = UpstreamEnd(finish_reason="stop", prompt_tokens=1, completion_tokens=2)
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
END = b'event: end\ndata: {"finish_reason":"stop","prompt_tokens":1,"completion_tokens":1}\n\n'


@asynccontextmanager
async def answering(*raw: bytes) -> AsyncIterator[HttpUpstream]:
    """An upstream whose server says exactly these bytes, each piece for itself, and hangs up."""
    writers: list[asyncio.StreamWriter] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        with contextlib.suppress(ConnectionError):  # nobody wants the rest
            for piece in raw:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.01 * (len(raw) > 1))
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, contextlib.aclosing(HttpUpstream(f"http://127.0.0.1:{port}/")) as upstream:
        yield upstream
    for writer in writers:
        writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def collect(upstream: HttpUpstream, request: UpstreamRequest) -> list[UpstreamEvent]:
    async with upstream.open(request) as stream:
        return [event async for event in stream]


def _slowly(*words: str) -> list[Step]:
    return [step for word in words for step in (Pause(0.01), UpstreamToken(word))]


def taking(into: list[str]) -> Callable[[str], bool]:
    """Return what takes all text."""

    def take(text: str) -> bool:
        into.append(text)
        return True

    return take


def refusing(status: int, body: bytes, kind: str = "text/plain") -> bytes:
    head = f"HTTP/1.1 {status} x\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (refusing(503, b"no healthy upstream"), UpstreamUnavailableError),
        (refusing(503, b"upstream connect error. reset reason: connection timeout"), UpstreamUnavailableError),
        (refusing(503, b"disconnect/reset before headers. connection termination"), UpstreamInterruptedError),
        (refusing(502, b""), UpstreamUnavailableError),
        (refusing(429, b'{"error":{"code":"overloaded"}}', "application/json"), UpstreamUnavailableError),
        (refusing(504, b"upstream request timeout"), UpstreamInterruptedError),
        (refusing(500, b"Internal Server Error"), UpstreamInterruptedError),
        (refusing(404, b'{"error":{"code":"model_not_found"}}', "application/json"), UpstreamRefusedError),
        (refusing(413, b"<html>"), UpstreamRefusedError),
        (refusing(200, b"<html>", "text/html"), UpstreamGarbledError),
        (b"", UpstreamInterruptedError),
        (b"nonsense\r\n\r\n", UpstreamInterruptedError),
        (STREAM, UpstreamInterruptedError),
        (STREAM + b"event: token\ndata: {\n\n", UpstreamGarbledError),
        (STREAM + b'event: token\ndata: {"text":1}\n\n', UpstreamGarbledError),
        (STREAM + b'event: start\ndata: {"prompt_tokens":-1}\n\n', UpstreamGarbledError),
        (STREAM + b'event: error\ndata: {"code":"x","message":"m","retryable":true}\n\n', UpstreamInterruptedError),
        (STREAM + b'event: error\ndata: {"code":"x","message":"m"}\n\n', UpstreamRefusedError),
        (STREAM + b"data: " + b"x" * 2_000_000, UpstreamGarbledError),
        (STREAM + b"data: x\n" * 300_000, UpstreamGarbledError),
        (
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            UpstreamInterruptedError,
        ),
    ],
)
async def test_wrong_answer_is_the_right_error(ask: Ask, raw: bytes, expected: type[Exception]) -> None:
    async with answering(raw) as upstream:
        with pytest.raises(expected) as raised:
            await collect(upstream, ask())
    assert type(raised.value) is expected


async def test_refusal_that_comes_in_pieces_is_read_whole(ask: Ask) -> None:
    whole = refusing(503, b'{"error":{"code":"overloaded","message":"Full.","fallback":"Later."}}', "application/json")
    async with answering(whole[:-20], whole[-20:]) as upstream:
        with pytest.raises(UpstreamUnavailableError) as raised:
            await collect(upstream, ask())
    assert (raised.value.is_serving, raised.value.fallback) == (True, "Later.")


async def test_refusal_that_is_longer_than_any_of_ours_is_not_read_to_its_end(ask: Ask) -> None:
    body = b'{"error":{"code":"overloaded","message":"' + b"x" * 100_000 + b'"}}'
    async with answering(refusing(503, body, "application/json")) as upstream:
        with pytest.raises(UpstreamUnavailableError, match="the edge says 503"):
            await collect(upstream, ask())


async def test_nobody_listens(ask: Ask) -> None:
    with pytest.raises(UpstreamUnavailableError):
        await collect(HttpUpstream("http://127.0.0.1:9"), ask())


async def test_events_of_a_later_version_and_comments_are_passed_over(ask: Ask) -> None:
    body = b': keep-alive\n\nevent: trace\ndata: {}\n\nevent: token\r\ndata: {"text":"a"}\r\n\r\n' + END
    async with answering(STREAM + body) as upstream:
        events = await collect(upstream, ask())
    assert events[0] == UpstreamToken("a")
    assert len(events) == 2


def token(text: str) -> bytes:
    return b'event: token\ndata: {"text":"%b"}\n\n' % text.encode()


@pytest.mark.parametrize(
    "pieces",
    [
        [token("b"), token("c"), END],
        [token("b")[:9], token("b")[9:], token("c"), END],
        [token("b") + token("c")[:20], token("c")[20:] + END],
        [token("b") + token("c") + END],
        [b": keep-alive\n\n", token("b").replace(b"\n", b"\r\n"), token("c") + END],
        [b'data: {"text":"b"}\nevent: token\n\n', token("c"), END],
        [b"event: trace\n", token("b"), token("c"), END],
    ],
)
async def test_text_is_handed_on_in_order_however_it_is_cut(ask: Ask, pieces: list[bytes]) -> None:
    said: list[str] = []
    async with answering(STREAM + token("a"), *pieces) as upstream, upstream.open(ask()) as stream:
        async for event in stream:
            if isinstance(event, UpstreamToken):
                said.append(event.text)
                stream.hand_on(taking(said))
    assert said == ["a", "b", "c"]


@pytest.mark.parametrize("wrong", [b'event: token\ndata: {"text":1}\n\n', b"event: token\ndata: {\n\n"])
async def test_garbled_text_ends_a_stream_that_is_handed_on(ask: Ask, wrong: bytes) -> None:
    taken: list[str] = []
    async with (
        answering(STREAM + token("a"), token("b"), wrong, token("c")) as upstream,
        upstream.open(ask()) as stream,
    ):
        await stream.__anext__()
        stream.hand_on(taking(taken))
        with pytest.raises(UpstreamGarbledError):
            await stream.__anext__()
    assert taken == ["b"]


async def test_connection_that_is_used_again_hands_nothing_to_who_had_it_before(ask: Ask) -> None:
    words = [[UpstreamStart(model="m", prompt_tokens=1), *_slowly("a", "b"), _END] for _ in range(2)]
    async with (
        ScriptedModelServer(ScriptedUpstream(words)).running() as server,
        contextlib.aclosing(HttpUpstream(server.url)) as upstream,
    ):
        taken: list[str] = []
        async with upstream.open(ask()) as stream:
            async for event in stream:
                if isinstance(event, UpstreamToken):
                    stream.hand_on(taking(taken))
        assert await collect(upstream, ask()) == [
            UpstreamStart(model="m", prompt_tokens=1),
            UpstreamToken("a"),
            UpstreamToken("b"),
            _END,
        ]
    assert taken == ["b"]


async def test_error_body_that_hangs_does_not_hang_us(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pratique.orchestrator.upstream.http._CLOSE_SECONDS", 0.05)
    released = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 503 x\r\ncontent-type: text/plain\r\ncontent-length: 100\r\n\r\n")
        await released.wait()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(UpstreamUnavailableError):
            await collect(HttpUpstream(f"http://127.0.0.1:{port}"), ask())
        released.set()


async def test_stream_that_was_never_opened(ask: Ask) -> None:
    upstream = HttpUpstream("http://127.0.0.1:9")
    stream = upstream.open(ask())
    with pytest.raises(UpstreamInterruptedError):
        await stream.__anext__()
    await stream.__aexit__(None, None, None)
    await upstream.aclose()


async def test_deadline_and_names_travel_with_the_request(ask: Ask) -> None:
    async with (
        ScriptedModelServer(ScriptedUpstream()).running() as server,
        contextlib.aclosing(HttpUpstream(server.url)) as upstream,
    ):
        await collect(upstream, ask(timeout_seconds=12.5))
        seen = server.headers_seen[0]
    assert seen["x-pratique-conversation"] == "conv_1"
    assert seen["x-pratique-request"] == "req_1"
    assert seen["x-pratique-timeout-seconds"] == "12.500"


async def test_connection_is_kept_and_one_that_was_closed_meanwhile_is_replaced(ask: Ask) -> None:
    asked: list[int] = []
    writers: list[asyncio.StreamWriter] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
                asked.append(len(writers))
                body = b'event: token\ndata: {"text":"a"}\n\n' + END
                writer.write(STREAM.replace(b"connection: close", b"content-length: %d" % len(body)) + body)
                if len(asked) == 2:
                    writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, contextlib.aclosing(HttpUpstream(f"http://127.0.0.1:{port}")) as upstream:
        for _ in range(3):
            assert (await collect(upstream, ask()))[0] == UpstreamToken("a")
    for writer in writers:
        writer.transport.abort()
    assert asked == [1, 1, 2]


async def test_stream_that_is_left_is_cut_and_its_server_sees_that(ask: Ask) -> None:
    gone = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(STREAM + b'event: token\ndata: {"text":"a"}\n\n')
        with contextlib.suppress(ConnectionError):
            await reader.read()
        gone.set()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    upstream = HttpUpstream(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    async with server, asyncio.timeout(3):
        async with upstream.open(ask()) as stream:
            assert await stream.__anext__() == UpstreamToken("a")
        await gone.wait()


async def test_more_requests_than_there_are_connections_are_turned_away_and_come_again(ask: Ask) -> None:
    upstream = HttpUpstream("http://127.0.0.1:9")
    upstream._pool._max_connections = 0
    with pytest.raises(UpstreamUnavailableError) as refused:
        await collect(upstream, ask())
    assert (refused.value.is_serving, refused.value.retry_after_seconds) == (True, 1.0)


async def test_name_that_would_be_two_headers_is_refused(ask: Ask) -> None:
    with pytest.raises(UpstreamRefusedError, match="header"):
        HttpUpstream("http://127.0.0.1:9").open(ask(affinity="a\r\nx: y"))


async def test_affinity_of_a_request_stands_in_for_its_conversation(ask: Ask) -> None:
    async with (
        ScriptedModelServer(ScriptedUpstream()).running() as server,
        contextlib.aclosing(HttpUpstream(server.url)) as upstream,
    ):
        await collect(upstream, ask(affinity="conv_1-2"))
        assert server.headers_seen[0]["x-pratique-conversation"] == "conv_1-2"


@pytest.mark.parametrize(
    ("status", "said", "seconds", "is_serving"),
    [
        (503, "7", 7.0, False),
        (429, "1", 1.0, True),
        (503, "Wed, 21 Oct 2015 07:28:00 GMT", None, False),
        (503, "-1", None, False),
        (503, "999999", None, False),
    ],
)
async def test_refusals_say_when_to_come_again(
    ask: Ask, status: int, said: str, seconds: float | None, is_serving: bool
) -> None:
    raw = f"HTTP/1.1 {status} x\r\nretry-after: {said}\r\ncontent-length: 0\r\n\r\n".encode()
    async with answering(raw) as upstream:
        with pytest.raises(UpstreamUnavailableError) as refused:
            await collect(upstream, ask())
    assert (refused.value.retry_after_seconds, refused.value.is_serving) == (seconds, is_serving)


@pytest.mark.parametrize(
    ("code", "health", "taken"),
    [("overloaded", Health.UNKNOWN, True), ("draining", Health.BAD, False), ("not_ready", Health.BAD, False)],
)
async def test_our_own_server_that_is_full_is_serving_and_one_that_is_not_ready_is_not(
    ask: Ask, code: str, health: Health, *, taken: bool
) -> None:
    body = b'{"error":{"code":"%s","message":"This model server takes no request now."}}' % code.encode()
    async with answering(refusing(503, body, "application/json")) as upstream:
        with pytest.raises(UpstreamUnavailableError) as refused:
            await collect(upstream, ask())
    assert assess_health(refused.value, is_cut_short=False) is health
    assert was_taken(refused.value, took_seconds=0.0, quick_refusal_seconds=2.0) is taken


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_messages_are_the_same_however_the_bytes_are_cut(size: int) -> None:
    raw = b"\n: c\n\nevent: a\nid: 1\ndata: x\ndata: y\n\ndata\n\ndata:z\r\n\r\nevent: lonely\n\ndata: \n\nretry: 1\n\n"
    parser = SseParser()
    found = [message for at in range(0, len(raw), size) for message in parser.feed(raw[at : at + size])]
    assert found == [
        SseMessage("a", b"x\ny"),
        SseMessage("message", b""),
        SseMessage("message", b"z"),
        SseMessage("message", b""),
    ]
