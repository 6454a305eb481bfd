"""The runtime API and the runtime that speaks to it, in one process; misuse by raw sockets first."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import resource
import signal
import sys
import types
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from awslambdaric import bootstrap  # type: ignore[import-untyped]  # AWS has no types
from awslambdaric.lambda_runtime_client import LambdaRuntimeClient  # type: ignore[import-untyped]  # as above
from awslambdaric.lambda_runtime_marshaller import LambdaMarshaller  # type: ignore[import-untyped]  # as above

from pratique.orchestrator.forward.interface import ForwardUnavailableError
from pratique.orchestrator.lanes import runtime
from pratique.orchestrator.lanes.handler import StreamedAnswer
from pratique.orchestrator.lanes.invocation import Invocation, failure_of
from pratique.orchestrator.lanes.payload import open_answer
from pratique.orchestrator.lanes.runtime_api import RuntimeApi

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from pratique.orchestrator.lanes.runtime_api import Desk

pytestmark = pytest.mark.unit

API = "2018-06-01/runtime"


class Answer(StreamedAnswer):
    """A streamed answer without a server behind it."""

    def __init__(self, *pieces: bytes | Exception) -> None:
        self.status = 200
        self.headers = {"content-type": "text/event-stream"}
        self.is_closed = False
        self._pieces = pieces

    def chunks(self) -> Iterator[bytes]:
        for piece in self._pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    def close(self) -> None:
        self.is_closed = True


@asynccontextmanager
async def serving(**changes: Any) -> AsyncIterator[tuple[RuntimeApi, Desk]]:
    async with RuntimeApi(**{"max_connections": 4, **changes}).running() as api:
        yield api, api.open_desk()


def invocation(seconds: float = 5.0) -> Invocation:
    deadline = asyncio.get_running_loop().time() + seconds
    return Invocation("i-1", b'{"a":1}', deadline=deadline, deadline_epoch=1_700_000_000.5)


async def raw(api: RuntimeApi, sent: bytes) -> bytes:
    """Send bytes; return what comes until the other side closes, or has answered once."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api._port)
    try:
        writer.write(sent)
        async with asyncio.timeout(3):
            return await reader.read(4096)
    finally:
        writer.close()
        await writer.wait_closed()


async def test_invocation_is_handed_to_the_desk_that_asks(capsys: Any) -> None:
    async with serving() as (api, desk):
        desk.hand(invocation())
        said = await raw(api, f"GET /{desk.token}/{API}/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert desk.asked.is_set()
    head, _, body = said.partition(b"\r\n\r\n")
    assert body == b'{"a":1}'
    assert b"lambda-runtime-aws-request-id: i-1" in head.lower()
    assert b"lambda-runtime-deadline-ms: 1700000000500" in head.lower()


async def test_desk_that_is_closed_sends_its_worker_away() -> None:
    async with serving() as (api, desk):
        asking = asyncio.ensure_future(
            raw(api, f"GET /{desk.token}/{API}/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        )
        await asyncio.wait_for(desk.asked.wait(), 2)
        api.close_desk(desk, "retired")
        assert b" 410 " in await asking


async def test_invocation_handed_to_a_closed_desk_fails_at_once_instead_of_waiting() -> None:
    async with serving() as (api, desk):
        api.close_desk(desk, "ended (exited)")
        desk.hand(made := invocation())
        assert made.is_over
        with pytest.raises(ForwardUnavailableError, match=r"ended \(exited\)"):
            await made.head()


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("invocation/other/response", b" 404 "),
        ("invocation/i-1/else", b" 404 "),
        ("invocation/i-1", b" 404 "),
        ("restore/next", b" 404 "),
    ],
)
async def test_answer_to_what_was_not_asked_is_not_taken(path: str, status: bytes) -> None:
    async with serving() as (api, desk):
        desk.hand(made := invocation())
        sent = f"POST /{desk.token}/{API}/{path} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}".encode()
        assert status in await raw(api, sent)
        assert not made.is_over


async def test_connections_that_say_nothing_keep_no_worker_out() -> None:
    async with serving(max_connections=2) as (api, desk):
        silent = [await asyncio.open_connection("127.0.0.1", api._port) for _ in range(6)]
        desk.hand(invocation())
        said = await raw(api, f"GET /{desk.token}/{API}/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert b'{"a":1}' in said
        for _, writer in silent:
            writer.close()


async def test_connections_of_workers_have_a_bound() -> None:
    async with serving(max_connections=2) as (api, desk):
        asked = f"GET /{desk.token}/{API}/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        waiting = [asyncio.create_task(raw(api, asked)) for _ in range(2)]
        await asyncio.sleep(0.05)
        assert await raw(api, asked) == b""
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_without_a_desks_path_nothing_is_answered() -> None:
    async with serving() as (api, desk):
        desk.hand(invocation())
        for path in (API, f"guess/{API}", f"../{API}", f"%2e/{desk.token}/{API}"):
            assert b" 403 " in await raw(api, f"GET /{path}/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert not desk.asked.is_set()


@pytest.mark.parametrize("sent", [b"nonsense\r\n\r\n", b"\x16\x03\x01", b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n"])
async def test_nonsense_ends_its_connection_only(sent: bytes) -> None:
    async with serving() as (api, desk):
        if sent.startswith(b"\x16"):
            reader, writer = await asyncio.open_connection("127.0.0.1", api._port)
            writer.write(sent)
            writer.close()
            await writer.wait_closed()
            assert await reader.read() == b""
        else:
            with pytest.raises((ConnectionError, AssertionError)):
                assert await raw(api, sent)
        desk.hand(invocation())
        assert b" 200 " in await raw(
            api, f"GET /{desk.token}/{API}/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        )


async def test_connections_that_say_nothing_have_a_bound() -> None:
    async with serving(max_connections=1) as (api, _):
        opened = []
        for _ in range(2):
            opened.append(await asyncio.open_connection("127.0.0.1", api._port))
            await asyncio.sleep(0.02)
        async with asyncio.timeout(2):
            assert await opened[0][0].read() == b""
        assert not opened[1][0].at_eof()
        for _, writer in opened:
            writer.close()


async def test_error_that_is_too_long_is_not_read() -> None:
    async with serving() as (api, desk):
        desk.hand(made := invocation())
        head = f"POST /{desk.token}/{API}/invocation/i-1/error HTTP/1.1\r\nHost: x\r\nContent-Length: 400000\r\n\r\n"
        with pytest.raises((ConnectionError, AssertionError)):
            assert await raw(api, head.encode() + b"x" * 400_000)
        assert not made.is_over


async def test_client_that_waits_to_be_told_to_go_on_is_told() -> None:
    async with serving() as (api, desk):
        desk.hand(invocation())
        path = f"/{desk.token}/{API}/invocation/i-1/error"
        sent = f"POST {path} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        assert b" 100 " in await raw(api, sent.encode())


async def test_error_reported_by_the_runtime_fails_the_invocation() -> None:
    async with serving() as (api, desk):
        desk.hand(made := invocation())
        client = runtime.StreamingRuntimeClient(api.address_of(desk))
        said = {"errorType": "UnreachableError", "errorMessage": "No server."}
        await asyncio.to_thread(client.call_rapid, "POST", f"/{API}/invocation/i-1/error", 202, said)
        with pytest.raises(ForwardUnavailableError, match=r"UnreachableError: No server\."):
            await made.head()


async def test_worker_that_cannot_begin_says_why() -> None:
    async with serving() as (api, desk):
        client = runtime.StreamingRuntimeClient(api.address_of(desk))
        said = {"errorType": "Runtime.ImportModuleError", "errorMessage": "No module."}
        await asyncio.to_thread(client.post_init_error, said)
        assert desk.asked.is_set()
        assert desk.failure == "Runtime.ImportModuleError: No module."


async def test_unexpected_status_of_the_runtime_api_is_an_error() -> None:
    async with serving() as (api, desk):
        address = api.address_of(desk)
        client = runtime.StreamingRuntimeClient(address.partition("/")[0])
        with pytest.raises(ConnectionError, match="403"):
            await asyncio.to_thread(client.call_rapid, "GET", f"/{API}/invocation/next", 200)


async def read(made: Invocation) -> bytes:
    answer = await open_answer(await made.head(), made.pieces())
    return b"".join([chunk async for chunk in answer.chunks()])


async def test_streamed_answer_arrives_whole() -> None:
    async with serving() as (api, desk):
        desk.hand(made := invocation())
        client = runtime.StreamingRuntimeClient(api.address_of(desk))
        answer = Answer(b"one", b"two")
        posting = asyncio.ensure_future(asyncio.to_thread(client.post_invocation_result, "i-1", answer, "x"))
        assert await read(made) == b"onetwo"
        await posting
        assert answer.is_closed


async def test_answer_that_breaks_off_is_told_in_the_trailers() -> None:
    async with serving() as (api, desk):
        desk.hand(made := invocation())
        client = runtime.StreamingRuntimeClient(api.address_of(desk))
        answer = Answer(b"one", TimeoutError("slow"))
        posting = asyncio.ensure_future(asyncio.to_thread(client.post_invocation_result, "i-1", answer))
        with pytest.raises(ForwardUnavailableError, match="after its first byte"):
            await read(made)
        await posting
        assert answer.is_closed


async def test_invoker_that_is_gone_ends_the_answer_quietly() -> None:
    async with serving() as (api, desk):
        client = runtime.StreamingRuntimeClient(api.address_of(desk))
        api.close_desk(desk, "gone")
        answer = Answer(*[b"x" * 10_000] * 1000)
        await asyncio.to_thread(client.post_invocation_result, "i-1", answer)
        assert answer.is_closed


async def test_connection_that_breaks_mid_answer_is_a_worker_that_is_gone() -> None:
    async with serving() as (api, desk):
        desk.hand(made := invocation())
        _, writer = await asyncio.open_connection("127.0.0.1", api._port)
        head = f"POST /{desk.token}/{API}/invocation/i-1/response HTTP/1.1\r\nHost: x\r\n"
        writer.write(f"{head}Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n".encode())
        await writer.drain()
        await made.head()
        writer.close()
        await writer.wait_closed()
        with pytest.raises(ForwardUnavailableError, match="broke its answer off"):  # noqa: PT012 - the loop is it
            async for piece in made.pieces():
                assert piece == b"one"
        assert desk.failure


def test_other_results_are_marshalled_as_ever() -> None:
    marshaller = runtime._Marshaller()
    assert marshaller.marshal_response({"a": 1}) == LambdaMarshaller().marshal_response({"a": 1})
    answer = Answer()
    assert marshaller.marshal_response(answer) == (answer, runtime.STREAMED_CONTENT_TYPE)


def test_buffered_results_go_the_base_clients_way(monkeypatch: pytest.MonkeyPatch) -> None:
    posted: list[Any] = []
    base = LambdaRuntimeClient
    monkeypatch.setattr(base, "post_invocation_result", lambda _self, *given, **more: posted.append((given, more)))
    runtime.StreamingRuntimeClient("127.0.0.1:1").post_invocation_result(
        "i-1", "{}", "application/json", invocation_id="x"
    )
    assert posted == [(("i-1", "{}", "application/json"), {"invocation_id": "x"})]


def test_main_runs_the_streaming_handler_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    monkeypatch.setattr(bootstrap, "run", lambda handler, _client: ran.append(handler))
    monkeypatch.setenv("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:1")
    monkeypatch.delenv("PRATIQUE_BURST_PARENT", raising=False)
    monkeypatch.delenv("PRATIQUE_BURST_MEMORY_BYTES", raising=False)
    monkeypatch.setattr(sys, "argv", ["runtime"])
    runtime.main()
    monkeypatch.setenv("_HANDLER", "other.handle")
    runtime.main()
    monkeypatch.setattr(sys, "argv", ["runtime", "third.handle"])
    runtime.main()
    assert ran == ["pratique.orchestrator.lanes.handler.stream", "other.handle", "third.handle"]


def test_worker_ends_with_its_parent_and_has_a_bound_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []
    library = types.SimpleNamespace(prctl=lambda *given: calls.append(given))
    monkeypatch.setattr(ctypes, "CDLL", lambda _: library)
    monkeypatch.setattr(resource, "setrlimit", lambda *given: calls.append(given))
    monkeypatch.setenv("PRATIQUE_BURST_PARENT", str(os.getppid()))
    monkeypatch.setenv("PRATIQUE_BURST_MEMORY_BYTES", "1000")
    runtime._confine()
    assert calls == [(1, signal.SIGKILL), (resource.RLIMIT_AS, (1000, 1000))]
    monkeypatch.setenv("PRATIQUE_BURST_PARENT", "1000000000")  # it ended before this process could ask
    with pytest.raises(SystemExit):
        runtime._confine()


async def test_writer_waits_for_a_reader_that_is_behind() -> None:
    made = invocation()
    made.begin("x")

    async def write() -> None:
        for _ in range(100):
            await made.put(b"x")
        made.finish("")

    writing = asyncio.ensure_future(write())
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(made._pieces) == 32
    assert len([piece async for piece in made.pieces()]) == 100
    await writing


async def test_reader_gives_up_at_the_deadline() -> None:
    made = invocation(0.01)
    with pytest.raises(ForwardUnavailableError, match="too long"):
        await made.head()
    made.begin("x")
    with pytest.raises(ForwardUnavailableError, match="too long"):
        await anext(made.pieces())


def test_first_end_counts() -> None:
    made = Invocation("i", b"", deadline=0.0, deadline_epoch=0.0)
    made.finish("first")
    made.finish("")
    assert made._failure == "first"


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b'{"errorType": 1}'])
def test_error_that_cannot_be_read_is_still_a_failure(body: bytes) -> None:
    assert "cannot be read" in failure_of(body)


def test_error_message_has_a_bound() -> None:
    assert len(failure_of(json.dumps({"errorType": "E", "errorMessage": "x" * 10_000}).encode())) == 500
