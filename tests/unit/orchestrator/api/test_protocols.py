"""What comes over the wire byte by byte: heads that two servers read differently, heads and frames that never end."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import struct
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.unit

Service = Any
HOST = b"Host: chat.example.org\r\n"


async def connect(service: Service) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = service.url.removeprefix("http://").split(":")
    return await asyncio.open_connection(host, int(port))


async def ask(service: Service, data: bytes, *, seconds: float = 2.0) -> bytes:
    """Send bytes; return what comes back up to the end of the first answer."""
    reader, writer = await connect(service)
    try:
        writer.write(data)
        async with asyncio.timeout(seconds):
            head = await reader.readuntil(b"\r\n\r\n")
            length = next((line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), b": 0")
            return head + await reader.readexactly(int(length.split(b":")[1]))
    finally:
        writer.close()


def post(*headers: bytes, body: bytes = b"") -> bytes:
    return b"POST /api/chat HTTP/1.1\r\n" + HOST + b"".join(line + b"\r\n" for line in headers) + b"\r\n" + body


CHUNKED = b"Transfer-Encoding: chunked"
SMUGGLED = {
    "length and chunked": post(b"Content-Length: 3", CHUNKED, body=b"0\r\n\r\n"),
    "chunked and length": post(CHUNKED, b"Content-Length: 3", body=b"0\r\n\r\n"),
    "two equal lengths": post(b"Content-Length: 2", b"Content-Length: 2", body=b"{}"),
    "two lengths": post(b"Content-Length: 2", b"Content-Length: 3", body=b"{}"),
    "list of lengths": post(b"Content-Length: 2, 2", body=b"{}"),
    "signed length": post(b"Content-Length: +2", body=b"{}"),
    "two codings": post(CHUNKED, CHUNKED, body=b"0\r\n\r\n"),
    "coding before a colon": post(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n"),
    "unknown coding": post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n"),
    "gzip then chunked": post(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"),
    "chunked then gzip": post(b"Transfer-Encoding: chunked, gzip", body=b"0\r\n\r\n"),
    "identity": post(b"Transfer-Encoding: identity"),
    "chunk with a bare line feed": post(CHUNKED, body=b"2\n{}\r\n0\r\n\r\n"),
    "two hosts": post(b"Host: evil.example"),
    "no host": b"GET /livez HTTP/1.1\r\n\r\n",
    "two credentials": post(b"Authorization: Bearer a", b"Authorization: Bearer b"),
    "two lines of cookies": post(b"Cookie: a=b", b"Cookie: c=d"),
    "folded header": post(b"X-A: b\r\n c: d"),
    "folded credential": post(b"Authorization:\r\n Bearer x"),
    "bare carriage return": post(b"X-A: b\rX-Admin: 1"),
    "bare line feeds": b"GET /livez HTTP/1.1\nHost: a\n\n",
    "null in a value": post(b"X-A: b\x00c"),
    "space in a name": post(b"X A: b"),
    "huge header": post(b"X-A: " + b"b" * 40_000),
    "many headers": post(*[b"X-A: b"] * 150),
    "http 0.9": b"GET /livez\r\n\r\n",
    "http 2 in words": b"GET /livez HTTP/2.0\r\n" + HOST + b"\r\n",
}


async def test_what_could_be_read_in_two_ways_is_refused(service: Service) -> None:
    await service.start()
    for name, data in SMUGGLED.items():
        answer = await ask(service, data)
        assert answer.startswith(b"HTTP/1.1 400 "), (name, answer)
    assert (await ask(service, b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n")).startswith(b"HTTP/1.1 200 ")


async def test_a_request_inside_a_body_is_not_answered(service: Service) -> None:
    await service.start()
    inner = b"GET /metrics HTTP/1.1\r\n" + HOST + b"\r\n"
    reader, writer = await connect(service)
    writer.write(
        b"GET /livez HTTP/1.1\r\n" + HOST + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(inner) + inner
    )
    async with asyncio.timeout(2):
        answers = await reader.read()
    writer.close()
    assert answers.count(b"HTTP/1.1 200") == 1
    assert b"pratique_" not in answers


async def test_a_head_that_has_no_end_is_cut_by_its_size(service: Service) -> None:
    await service.start()
    reader, writer = await connect(service)
    writer.write(b"GET / HTTP/1.1\r\n" + HOST + b"X-A: ")
    num_bytes, reading = 0, asyncio.ensure_future(reader.read())
    async with asyncio.timeout(5):
        while not reading.done() and num_bytes < 2**20:
            writer.write(b"b" * 4096)
            num_bytes += 4096
            await asyncio.sleep(0.001)
        # The connection's reset may overtake the answer.
        [answer] = await asyncio.gather(reading, return_exceptions=True)
    writer.close()
    assert num_bytes < 2**20
    assert isinstance(answer, OSError) or (isinstance(answer, bytes) and answer.startswith(b"HTTP/1.1 431 "))


@pytest.mark.parametrize("before", [b"", b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n"], ids=["first", "second"])
async def test_a_head_that_dribbles_is_cut_by_its_deadline(
    service: Service, monkeypatch: pytest.MonkeyPatch, before: bytes
) -> None:
    monkeypatch.setattr("pratique.orchestrator.protocols.HEAD_SECONDS", 0.2)
    await service.start()
    reader, writer = await connect(service)
    writer.write(before + b"GET / HTTP/1.1\r\nX-A: ")
    async with asyncio.timeout(5):
        dribbling = asyncio.create_task(_dribble(writer, b"b"))
        [answers] = await asyncio.gather(reader.read(), return_exceptions=True)
        dribbling.cancel()
    writer.close()
    # The connection's reset may overtake the answer.
    if not isinstance(answers, OSError):
        assert isinstance(answers, bytes)
        assert b"HTTP/1.1 408 " in answers
        assert answers.count(b"HTTP/1.1 200") == bool(before)


async def test_a_connection_that_says_nothing_is_not_kept(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pratique.orchestrator.protocols.HEAD_SECONDS", 0.1)
    await service.start()
    reader, writer = await connect(service)
    async with asyncio.timeout(5):
        assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
    writer.close()


def chat(service: Service, *, max_tokens: int, headers: bytes = b"", chunked: bool = False) -> bytes:
    """Return a request of the OpenAI API that streams; with `chunked` up to its last chunk, which is not there."""
    body = b'{"model":"scripted","messages":[],"stream":true,"max_tokens":%d}' % max_tokens
    head = b"POST /v1/chat/completions HTTP/1.1\r\n%bAuthorization: Bearer %b\r\n" % (HOST, service.key.encode())
    if chunked:
        return head + headers + CHUNKED + b"\r\n\r\n%x\r\n%b\r\n" % (len(body), body)
    return head + headers + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - seen from outside
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("path", [b"/api/chat", b"/v1/chat/completions"])
async def test_trailers_without_end_are_cut_by_their_size(service: Service, path: bytes) -> None:
    await service.start()
    reader, writer = await connect(service)
    key = b"Authorization: Bearer " + service.key.encode() + b"\r\n"
    writer.write(b"POST " + path + b" HTTP/1.1\r\n" + HOST + key + CHUNKED + b"\r\n\r\n2\r\n{}\r\n")
    await asyncio.sleep(0.05)
    writer.write(b"0\r\n")
    num_bytes, reading = 0, asyncio.ensure_future(reader.read())
    async with asyncio.timeout(5):
        while not reading.done() and num_bytes < 2**20:
            writer.write(b"x-a: b\r\n" * 512)
            num_bytes += 4096
            await asyncio.sleep(0.001)
        await asyncio.gather(reading, return_exceptions=True)
    writer.close()
    assert num_bytes < 2**20


async def test_trailers_are_not_read_as_headers(service: Service) -> None:
    await service.start()
    trailer = b"0\r\nx-request-id: from-a-trailer\r\nAuthorization: Bearer x\r\n\r\n"
    answer = await ask(service, chat(service, max_tokens=1, chunked=True) + trailer)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"from-a-trailer" not in answer
    without_key = b"POST /v1/chat/completions HTTP/1.1\r\n" + HOST + CHUNKED + b"\r\n\r\n"
    late_key = b"0\r\nAuthorization: Bearer " + service.key.encode() + b"\r\n\r\n"
    assert (await ask(service, without_key + late_key)).startswith(b"HTTP/1.1 401 ")


async def test_a_client_that_asks_twice_at_once_is_still_seen_to_leave(service: Service) -> None:
    await service.start()
    reader, writer = await connect(service)
    writer.write(chat(service, max_tokens=100_000))
    async with asyncio.timeout(5):
        await reader.readuntil(b"word-0")
    writer.write(chat(service, max_tokens=100_000))
    await asyncio.sleep(0.05)
    assert service.model.num_open == 1
    writer.close()
    await until(lambda: service.model.num_open == 0)


async def test_of_two_requests_at_once_the_first_is_answered_and_the_connection_ends(service: Service) -> None:
    await service.start()
    upgrade = b"GET /api/ws HTTP/1.1\r\n" + HOST + b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    for second in (chat(service, max_tokens=2), upgrade):
        reader, writer = await connect(service)
        writer.write(chat(service, max_tokens=2) + second)
        async with asyncio.timeout(5):
            answers = await reader.read()
        writer.close()
        assert answers.count(b"HTTP/1.1 ") == answers.count(b"HTTP/1.1 200 ") == 1
        assert answers.endswith(b"0\r\n\r\n")


async def test_a_request_that_goes_on_after_its_answer_is_cut(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pratique.orchestrator.protocols.LINGER_SECONDS", 0.2)
    await service.start()
    reader, writer = await connect(service)
    writer.write(post(b"Content-Length: 1000000"))
    async with asyncio.timeout(5):
        dribbling = asyncio.create_task(_dribble(writer, b"b"))
        [answers] = await asyncio.gather(reader.read(), return_exceptions=True)
        dribbling.cancel()
    writer.close()
    assert isinstance(answers, OSError) or (isinstance(answers, bytes) and answers.count(b"HTTP/1.1 401 ") == 1)


async def test_a_request_that_ends_soon_after_its_answer_keeps_its_connection(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pratique.orchestrator.protocols.LINGER_SECONDS", 0.2)
    await service.start()
    reader, writer = await connect(service)
    writer.write(post(b"Content-Length: 2"))
    async with asyncio.timeout(5):
        await reader.readuntil(b"HTTP/1.1 401 ")
        writer.write(b"{}")
        await asyncio.sleep(0.4)
        writer.write(b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n")
        await reader.readuntil(b"HTTP/1.1 200 ")
    writer.close()


async def test_a_client_that_leaves_within_its_body_is_no_fault_of_ours(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    await service.start()
    _, writer = await connect(service)
    key = b"Authorization: Bearer " + service.key.encode()
    writer.write(post(key, b"Content-Length: 1000", body=b"{"))
    await asyncio.sleep(0.05)
    writer.close()
    refused = 'pratique_orchestrator_frames_refused_total{code="invalid_request"} 1.0'
    async with aiohttp.ClientSession() as http, asyncio.timeout(5):
        while refused not in await (await http.get(f"{service.url}/metrics")).text():  # noqa: ASYNC110 - seen from outside
            await asyncio.sleep(0.01)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_empty_lines_do_not_hold_a_connection(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pratique.orchestrator.protocols.HEAD_SECONDS", 0.2)
    await service.start()
    reader, writer = await connect(service)
    writer.write(b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n")
    async with asyncio.timeout(5):
        await reader.readuntil(b"HTTP/1.1 200 ")
        dribbling = asyncio.create_task(_dribble(writer, b"\r\n"))
        await asyncio.gather(reader.read(), return_exceptions=True)
        dribbling.cancel()
    writer.close()


class RawSocket:
    """A WebSocket whose frames are made by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, service: Service) -> RawSocket:
        reader, writer = await connect(service)
        nonce = base64.b64encode(os.urandom(16)).decode()
        writer.write(
            (
                f"GET /api/ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Sec-WebSocket-Key: {nonce}\r\nSec-WebSocket-Version: 13\r\n"
                f"Authorization: Bearer {service.key}\r\n\r\n"
            ).encode()
        )
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        return cls(reader, writer)

    def send(self, opcode: int, data: bytes, *, fin: bool = True, only: int | None = None) -> None:
        """Send a frame; `only`: so many of its bytes."""
        assert len(data) < 126
        frame = bytes([opcode | (0x80 if fin else 0), 0x80 | len(data), 0, 0, 0, 0]) + data
        self.writer.write(frame[:only])

    async def receive(self) -> tuple[int, bytes]:
        first, second = await self.reader.readexactly(2)
        size = second & 0x7F
        if size == 126:
            [size] = struct.unpack("!H", await self.reader.readexactly(2))
        return first & 0x0F, await self.reader.readexactly(size)

    async def closed(self) -> int:
        """Read up to the close; return its code, or 1013 where the reset of a connection in use overtook it."""
        async with asyncio.timeout(5):
            while True:
                try:
                    opcode, data = await self.receive()
                except (OSError, asyncio.IncompleteReadError):
                    return 1013
                if opcode == 8:
                    return int(struct.unpack("!H", data[:2])[0])


async def _dribble(writer: asyncio.StreamWriter, data: bytes) -> None:
    while not writer.is_closing():
        writer.write(data)
        await asyncio.sleep(0.02)


async def _opcodes(socket: RawSocket, num_pongs: int) -> AsyncIterator[int]:
    while num_pongs:
        opcode, _ = await socket.receive()
        num_pongs -= opcode == 10
        yield opcode


UPGRADE = (
    b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        (b"/api/ws", b"Content-Length: 2\r\n\r\n{}", b"400"),
        (b"/api/ws", b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"400"),
        (b"/api/ws", b"Cookie: a=" + b"b" * 9_000 + b"\r\n\r\n", b"431"),
        (b"/api/ws", b"X-A: b\r\n" * 200 + b"\r\n", b"431"),
        (b"/api/ws?" + b"a" * 9_000, b"\r\n", b"414"),
    ],
    ids=["length", "chunked", "long header", "many headers", "long path"],
)
async def test_a_handshake_that_cannot_be_taken_is_answered_and_the_connection_ends(
    service: Service, path: bytes, headers: bytes, status: bytes
) -> None:
    await service.start()
    reader, writer = await connect(service)
    writer.write(b"GET " + path + b" HTTP/1.1\r\n" + HOST + UPGRADE + headers)
    async with asyncio.timeout(5):
        answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 " + status + b" ")
    assert b"\r\nconnection: close\r\n" in answer.lower()


class TestFrames:
    @pytest.fixture(autouse=True)
    def _short(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("pratique.orchestrator.protocols.MESSAGE_SECONDS", 0.2)

    async def test_half_a_frame_is_cut_by_its_deadline(self, service: Service) -> None:
        await service.start()
        socket = await RawSocket.open(service)
        socket.send(1, b'{"type":"ping"}', only=8)
        assert await socket.closed() == 1013
        socket.writer.close()

    async def test_a_message_in_ever_more_pieces_is_cut_by_its_deadline(self, service: Service) -> None:
        await service.start()
        socket = await RawSocket.open(service)
        socket.send(1, b'{"type":', fin=False)

        async def go_on() -> None:
            while True:
                socket.send(0, b" ", fin=False)
                socket.send(9, b"")
                await asyncio.sleep(0.02)

        going = asyncio.create_task(go_on())
        assert await socket.closed() == 1013
        going.cancel()
        socket.writer.close()

    async def test_whole_messages_with_a_piece_of_the_next_are_not_cut(self, service: Service) -> None:
        await service.start()
        socket = await RawSocket.open(service)
        ping = b'{"type":"ping","nonce":"x"}'
        frame = bytes([0x81, 0x80 | len(ping), 0, 0, 0, 0]) + ping
        socket.writer.write(frame[:1])
        for _ in range(15):
            socket.writer.write(frame[1:] + frame[:1])
            await asyncio.sleep(0.03)
        num_pongs = 0
        async with asyncio.timeout(5):
            while num_pongs < 15:
                opcode, data = await socket.receive()
                assert opcode == 1
                num_pongs += json.loads(data)["type"] == "pong"
        socket.writer.close()

    @pytest.mark.parametrize(("opcode", "first"), [(9, None), (10, None), (0, 1)], ids=["pings", "pongs", "pieces"])
    async def test_frames_that_are_no_message_are_paced(self, service: Service, opcode: int, first: int | None) -> None:
        await service.start()
        socket = await RawSocket.open(service)
        for _ in range(150):
            socket.send(9, b"")
        if first is not None:
            socket.send(first, b"", fin=False)
        for _ in range(100):
            socket.send(opcode, b"", fin=opcode != 0)
        assert await socket.closed() in {1008, 1013}  # a reset may overtake it
        socket.writer.close()

    async def test_as_many_pings_as_anybody_sends_are_answered(self, service: Service) -> None:
        await service.start()
        socket = await RawSocket.open(service)
        for _ in range(100):
            socket.send(9, b"")
        async with asyncio.timeout(5):
            assert [opcode async for opcode in _opcodes(socket, 100)].count(10) == 100
        socket.writer.close()

    async def test_an_idle_socket_is_no_slow_frame(self, service: Service) -> None:
        await service.start()
        async with service.socket() as socket:
            await asyncio.sleep(0.5)
            await socket.send("ping")
            await socket.receive("pong")

    async def test_a_frame_that_is_too_large_closes_the_socket(self, service: Service) -> None:
        await service.start()
        async with service.socket() as socket:
            await socket.raw.send_str("x" * 500_000)
            assert await socket.closed() == 1009


async def test_two_credentials_on_a_socket_are_refused(service: Service) -> None:
    await service.start()
    headers = [("authorization", f"Bearer {service.key}"), ("authorization", "Bearer x")]
    async with aiohttp.ClientSession(service.url) as http, http.ws_connect("/api/ws", headers=headers) as socket:
        first = await socket.receive()
        assert (first.type, socket.close_code) == (aiohttp.WSMsgType.CLOSE, 1008)


async def test_headers_that_only_our_parts_may_send_do_not_reach_a_model_server(service: Service) -> None:
    await service.start()
    headers = {"authorization": f"Bearer {service.key}", "x-pratique-budget": "9", "openai-project": "1"}
    body = {"model": "scripted", "messages": [], "stream": True, "max_tokens": 1}
    async with service.http.post("/v1/chat/completions", json=body, headers=headers) as response:
        await response.read()
    seen = service.model.headers_seen[-1]
    assert seen["openai-project"] == "1"
    assert "x-pratique-budget" not in seen
