"""The HTTP client of the baseline lane, against servers that say exactly what they are told to."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pratique.core.errors import CallerError
from pratique.orchestrator.forward._pool import Pool
from pratique.orchestrator.forward.http import HttpForwarder
from pratique.orchestrator.forward.interface import (
    ForwardRequest,
    ForwardTimeoutError,
    ForwardUnavailableError,
    ShedError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

pytestmark = pytest.mark.unit

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nx-trailer: 1\r\n\r\n"
ASK = ForwardRequest(
    method="POST", path="/v1/completions?a=%20b", headers=[("x-one", "1")], body=b"{}", affinity="me", timeout_seconds=5
)


class Server:
    """Answers the n-th request it gets with the n-th script: bytes to write, None to close, a float to wait."""

    def __init__(self, *scripts: Sequence[bytes | float | None]) -> None:
        self.scripts = list(scripts)
        self.requests: list[bytes] = []
        self.num_connections = 0
        self.num_lost = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
                self.requests.append(head + await reader.readexactly(length))
                for step in self.scripts.pop(0):
                    if step is None:
                        return
                    if isinstance(step, bytes):
                        writer.write(step)
                        await writer.drain()
                    else:
                        await asyncio.sleep(step)
        except (asyncio.IncompleteReadError, OSError):
            self.num_lost += 1
        finally:
            writer.close()


@asynccontextmanager
async def serving(
    *scripts: Sequence[bytes | float | None], path: str = ""
) -> AsyncIterator[tuple[Server, HttpForwarder]]:
    server = Server(*scripts)
    async with await asyncio.start_server(server.serve, "127.0.0.1", 0) as listener:
        server.port = listener.sockets[0].getsockname()[1]
        forwarder = HttpForwarder(f"http://127.0.0.1:{server.port}{path}", connect_timeout_seconds=1)
        try:
            yield server, forwarder
        finally:
            await forwarder.aclose()


async def ask(forwarder: HttpForwarder, request: ForwardRequest = ASK) -> tuple[int, dict[bytes, bytes], bytes]:
    async with asyncio.timeout(5), forwarder.open(request) as answer:
        body = b"".join([chunk async for chunk in answer.chunks()])
        return answer.status, dict(answer.headers), body


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - seen from outside
            await asyncio.sleep(0.005)


async def test_request_arrives_as_it_was_and_the_connection_is_used_again() -> None:
    async with serving([OK], [OK]) as (server, forwarder):
        assert await ask(forwarder) == (200, {b"content-length": b"2"}, b"ok")
        await ask(forwarder)
    assert server.num_connections == 1
    line, *headers = server.requests[0].split(b"\r\n")
    assert line == b"POST /v1/completions?a=%20b HTTP/1.1"
    assert f"host: 127.0.0.1:{server.port}".encode() in headers
    assert {b"x-one: 1", b"x-pratique-conversation: me", b"accept-encoding: identity", b"content-length: 2"} <= set(
        headers
    )
    assert server.requests[0].endswith(b"\r\n\r\n{}")


async def test_get_has_no_body_and_a_base_path_goes_before() -> None:
    async with serving([OK], path="/base/") as (server, forwarder):
        await ask(forwarder, replace(ASK, method="GET", body=b""))
    assert server.requests[0].startswith(b"GET /base/v1/completions?a=%20b HTTP/1.1\r\n")
    assert b"content-length" not in server.requests[0]


async def test_chunked_answer_in_single_bytes_is_whole() -> None:
    steps: list[bytes | float | None] = []
    for number in range(len(CHUNKED)):
        steps += [CHUNKED[number : number + 1], 0.0]
    async with serving(steps, [OK]) as (server, forwarder):
        status, headers, body = await ask(forwarder)
        assert (status, body) == (200, b"abcdefg")
        assert b"transfer-encoding" not in headers
        await ask(forwarder)
    assert server.num_connections == 1


async def test_trailers_are_not_taken_for_headers() -> None:
    async with serving([CHUNKED[:-2] + b"x-more: 1\r\n" * 200 + b"\r\n"], [OK]) as (server, forwarder):
        status, headers, body = await ask(forwarder)
        assert (status, body) == (200, b"abcdefg")
        assert not {b"x-trailer", b"x-more"} & set(headers)
        await ask(forwarder)
    assert server.num_connections == 1


async def test_body_without_a_length_ends_with_the_connection() -> None:
    async with serving([b"HTTP/1.1 200 OK\r\n\r\nall", b" of it", None], [OK]) as (server, forwarder):
        assert (await ask(forwarder))[2] == b"all of it"
        await ask(forwarder)
    assert server.num_connections == 2


@pytest.mark.parametrize("interim", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"])
async def test_interim_answers_are_passed_over(interim: bytes) -> None:
    async with serving([interim, 0.01, interim + OK], [OK]) as (server, forwarder):
        assert await ask(forwarder) == (200, {b"content-length": b"2"}, b"ok")
        await ask(forwarder)
    assert server.num_connections == 1


async def test_no_content_and_headers_of_the_hop() -> None:
    head = b"HTTP/1.1 204 x\r\nConnection: keep-alive, x-secret\r\nX-Secret: 1\r\n"
    head += b"Server: s\r\nSet-Cookie: a=b\r\nX-Kept: 1\r\n\r\n"
    async with serving([head], [OK]) as (server, forwarder):
        assert await ask(forwarder) == (204, {b"x-kept": b"1"}, b"")
        await ask(forwarder)
    assert server.num_connections == 1


async def test_server_that_closes_after_its_answer_is_connected_to_again() -> None:
    closing = OK.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
    async with serving([closing, None], [OK]) as (server, forwarder):
        await ask(forwarder)
        await ask(forwarder)
    assert server.num_connections == 2


async def test_connection_closed_at_rest_is_not_used() -> None:
    async with serving([OK, 0.02, None], [OK]) as (server, forwarder):
        await ask(forwarder)
        await asyncio.sleep(0.1)
        assert (await ask(forwarder))[2] == b"ok"
    assert len(server.requests) == 2


async def test_connection_closed_as_it_is_used_again_is_tried_once_more_on_a_fresh_one() -> None:
    async with serving([OK], [None], [OK]) as (server, forwarder):
        await ask(forwarder)
        assert (await ask(forwarder))[2] == b"ok"
    assert (len(server.requests), server.num_connections) == (3, 2)


async def test_fresh_connection_closed_without_an_answer_is_not_tried_again() -> None:
    async with serving([None], [OK]) as (server, forwarder):
        with pytest.raises(ForwardUnavailableError, match="closed the connection"):
            await ask(forwarder)
        assert len(server.requests) == 1


async def test_second_loss_on_a_fresh_connection_is_the_end() -> None:
    async with serving([OK], [None], [None], [OK]) as (server, forwarder):
        await ask(forwarder)
        with pytest.raises(ForwardUnavailableError):
            await ask(forwarder)
        assert len(server.requests) == 3


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\nZZ\r\n",
    ],
)
async def test_answer_that_breaks_off_is_an_error_after_what_came(answer: bytes) -> None:
    async with serving([answer, None]) as (_, forwarder), forwarder.open(ASK) as found:
        chunks = found.chunks()
        assert await anext(chunks) == b"half"
        with pytest.raises(ForwardUnavailableError):
            await anext(chunks)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"x: 1\r\n" * 200 + b"\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"x" * 300_000, "head has more than 65536 bytes"),
        (CHUNKED[:-2] + b"x-a: " + b"x" * 600_000, "part behind the body has more than 65536 bytes"),
        (CHUNKED[:-2] + b"x-a: b\r\n" * 100_000, "part behind the body has more than 65536 bytes"),
    ],
)
async def test_nonsense_is_refused(answer: bytes, problem: str) -> None:
    async with serving([answer, 1.0]) as (_, forwarder):
        with pytest.raises(ForwardUnavailableError, match=problem):
            await ask(forwarder)


@pytest.mark.parametrize("more", [b"x", OK])
async def test_bytes_behind_an_answer_end_the_connection(more: bytes) -> None:
    async with serving([OK + more], [OK]) as (server, forwarder):
        assert (await ask(forwarder))[2] == b"ok"
        assert (await ask(forwarder))[2] == b"ok"
    assert server.num_connections == 2


async def test_bytes_at_rest_end_the_connection() -> None:
    async with serving([OK, 0.02, b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"], [OK]) as (server, forwarder):
        await ask(forwarder)
        await asyncio.sleep(0.1)
        assert (await ask(forwarder))[2] == b"ok"
    assert server.num_connections == 2


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"])
async def test_leaving_early_cuts_the_connection(begun: bytes) -> None:
    async with serving([begun, 0.0, 0.0]) as (server, forwarder):

        async def work() -> None:
            async with forwarder.open(ASK) as answer:
                async for _ in answer.chunks():
                    pass

        task = asyncio.ensure_future(work())
        await until(lambda: server.requests)
        await asyncio.sleep(0.02)
        task.cancel()
        await until(lambda: server.num_lost)
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_hanging_server_is_given_up_at_the_deadline() -> None:
    async with serving([5.0], [b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", 5.0]) as (_, forwarder):
        for _ in range(2):
            with pytest.raises(ForwardTimeoutError):
                await ask(forwarder, replace(ASK, timeout_seconds=0.1))


async def test_slow_reader_holds_the_server_back() -> None:
    written = 0
    piece = b"x" * 65536

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await reader.readuntil(b"{}")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n")
        try:
            while True:
                writer.write(piece)
                await writer.drain()
                written += len(piece)
        except OSError:
            writer.close()

    async with await asyncio.start_server(flood, "127.0.0.1", 0) as listener:
        forwarder = HttpForwarder(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}", connect_timeout_seconds=1)
        async with forwarder.open(ASK) as answer:
            before = -1
            while before != written:
                before = written
                await asyncio.sleep(0.1)
            assert written < 32 * 2**20  # the kernel's buffers, and ours
            chunks = answer.chunks()
            assert len(await anext(chunks)) < 2**20
            await until(lambda: written > before)
        await forwarder.aclose()


async def test_nobody_there() -> None:
    forwarder = HttpForwarder("http://127.0.0.1:9", connect_timeout_seconds=1)
    with pytest.raises(ForwardUnavailableError, match="could be reached"):
        await ask(forwarder)


@pytest.mark.parametrize(
    ("status", "kind", "error"),
    [
        (503, b"text/plain", ForwardUnavailableError),
        (504, b"text/plain", ForwardTimeoutError),
        (503, b"application/json", None),
        (500, b"text/plain", None),
    ],
)
async def test_words_of_the_edge_are_told_from_those_of_the_server(
    status: int, kind: bytes, error: type[Exception] | None
) -> None:
    answer = b"HTTP/1.1 %d x\r\ncontent-type: %b\r\ncontent-length: 2\r\n\r\nno" % (status, kind)
    async with serving([answer]) as (_, forwarder):
        if error is None:
            assert (await ask(forwarder))[0] == status
        else:
            with pytest.raises(error):
                await ask(forwarder)


@pytest.mark.parametrize(
    "bad",
    [
        replace(ASK, headers=[("x", "1\r\nevil: 1")]),
        replace(ASK, path="/v1 \n"),
        replace(ASK, affinity="a\rb"),
    ],
)
async def test_line_breaks_are_not_sent(bad: ForwardRequest) -> None:
    async with serving([OK]) as (server, forwarder):
        with pytest.raises(CallerError, match="line break"):
            await ask(forwarder, bad)
    assert not server.requests


async def test_connections_are_bounded_and_old_ones_not_used() -> None:
    async with serving([OK], [OK]) as (server, _):
        pool = Pool(f"http://127.0.0.1:{server.port}", connect_timeout_seconds=1, rest_seconds=0.05, max_connections=1)
        first = await pool.acquire()
        with pytest.raises(ShedError):
            await pool.acquire()
        pool.release(first)
        assert await pool.acquire() is first
        pool.release(first)
        await asyncio.sleep(0.1)
        second = await pool.acquire()
        assert second is not first
        pool.close()
        await until(lambda: server.num_lost == 2)


async def test_each_request_on_a_connection_has_a_deadline_of_its_own() -> None:
    async with serving([OK], [0.4, OK], [5.0]) as (server, forwarder):
        await ask(forwarder, replace(ASK, timeout_seconds=0.2))
        assert (await ask(forwarder, replace(ASK, timeout_seconds=5)))[0] == 200
        began = asyncio.get_running_loop().time()
        with pytest.raises(ForwardTimeoutError):
            await ask(forwarder, replace(ASK, timeout_seconds=0.1))
        assert asyncio.get_running_loop().time() - began < 2
        assert server.num_connections == 1


async def test_closing_ends_requests_in_flight() -> None:
    async with serving([5.0]) as (server, forwarder):
        asking = asyncio.ensure_future(ask(forwarder))
        await until(lambda: server.requests)
        await forwarder.aclose()
        with pytest.raises(ForwardUnavailableError):
            await asking


def test_tls_is_spoken_where_the_url_says_so() -> None:
    assert Pool("https://model.example/v1", connect_timeout_seconds=1)._port == 443
    assert Pool("https://model.example/v1", connect_timeout_seconds=1)._tls is not None
