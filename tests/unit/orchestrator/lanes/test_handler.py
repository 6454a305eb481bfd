"""The Lambda handler, in threads, before a small model server: what it sends on, and how it fails."""

from __future__ import annotations

import asyncio
import base64
import json
import types
from contextlib import asynccontextmanager
from http.client import HTTPSConnection
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from pratique.orchestrator.lanes import handler

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    Serve = Callable[[web.Request], Coroutine[Any, Any, web.StreamResponse]]

pytestmark = pytest.mark.unit


@asynccontextmanager
async def serving(serve: Serve, monkeypatch: pytest.MonkeyPatch, *, prefix: str = "") -> AsyncIterator[str]:
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", serve)
    runner = web.AppRunner(application, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}{prefix}"
        monkeypatch.setenv("PRATIQUE_BURST_INFERENCE_URL", url)
        yield url
    finally:
        await asyncio.sleep(0.01)  # a connection that was just accepted is closed by the server only once it knows it
        await runner.cleanup()


def event(**changes: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "rawPath": "/v1/embeddings",
        "rawQueryString": "",
        "headers": {"content-type": "application/json"},
        "requestContext": {"http": {"method": "POST"}},
        "body": '{"input":"é"}',
        "isBase64Encoded": False,
    }
    return {**plain, **changes}


def context(seconds: float = 10.0) -> Any:
    return types.SimpleNamespace(get_remaining_time_in_millis=lambda: seconds * 1000)


async def handle(asked: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return await asyncio.to_thread(handler.handle, asked, context(**changes))


async def test_request_is_sent_on_without_credentials_and_hop_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, dict[str, str], bytes]] = []

    async def serve(request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        seen.append((request.raw_path, headers, await request.read()))
        return web.Response(body=b"\x00\xff", headers={"x-kept": "1", "set-cookie": "a=b"})

    headers = {"Authorization": "Bearer secret", "Cookie": "a=b", "Connection": "x", "X-Trace": "7", "Host": "evil"}
    asked = event(
        headers=headers, rawQueryString="a=1%202", body=base64.b64encode(b"raw").decode(), isBase64Encoded=True
    )
    async with serving(serve, monkeypatch, prefix="/base/"):
        answer = await handle(asked)
    path, sent, body = seen[0]
    assert (path, body) == ("/base/v1/embeddings?a=1%202", b"raw")
    assert sent["x-trace"] == "7"
    assert sent["host"] != "evil"
    assert not {"authorization", "cookie", "connection"} & set(sent)
    assert (answer["statusCode"], answer["isBase64Encoded"]) == (200, True)
    assert base64.b64decode(answer["body"]) == b"\x00\xff"
    assert answer["headers"]["x-kept"] == "1"
    assert not {"set-cookie", "server", "date", "content-length"} & set(answer["headers"])


async def test_text_body_and_repeated_answer_headers_survive(monkeypatch: pytest.MonkeyPatch) -> None:
    async def serve(request: web.Request) -> web.StreamResponse:
        response = web.Response(body=await request.read())
        response.headers.add("x-a", "1")
        response.headers.add("x-a", "2")
        return response

    async with serving(serve, monkeypatch):
        answer = await handle(event())
    assert json.loads(base64.b64decode(answer["body"])) == {"input": "é"}
    assert answer["headers"]["x-a"] == "1, 2"


async def test_chunks_are_not_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    may_end = asyncio.Event()

    async def serve(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"one")
        await may_end.wait()
        await response.write(b"two")
        return response

    async with serving(serve, monkeypatch):
        answer = await asyncio.to_thread(handler.stream, event(), context())
        chunks = answer.chunks()
        assert await asyncio.to_thread(next, chunks) == b"one"
        may_end.set()
        assert await asyncio.to_thread(list, chunks) == [b"two"]
        answer.close()


@pytest.mark.parametrize("how", ["edge", "refused", "nothing"])
async def test_no_answer_raises_before_the_first_byte(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    async def serve(request: web.Request) -> web.StreamResponse:
        if how == "edge":
            return web.Response(status=503, text="no healthy upstream")
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with serving(serve, monkeypatch):
        if how == "refused":
            monkeypatch.setenv("PRATIQUE_BURST_INFERENCE_URL", "http://127.0.0.1:9")
        with pytest.raises(handler.UnreachableError):
            await handle(event())


async def test_model_servers_own_503_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def serve(request: web.Request) -> web.StreamResponse:
        return web.json_response({"error": "not ready"}, status=503)

    async with serving(serve, monkeypatch):
        assert (await handle(event()))["statusCode"] == 503


@pytest.mark.parametrize("limit", ["context", "header", "over"])
async def test_time_budget_ends_the_wait(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    async def serve(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(5)
        return web.Response()

    headers = {"x-pratique-timeout-ms": "50"} if limit == "header" else {}
    seconds = {"context": 0.3, "header": 10.0, "over": 0.1}[limit]
    async with serving(serve, monkeypatch):
        with pytest.raises(handler.UnreachableError, match=r"timed out|time is up"):
            await handle(event(headers=headers), seconds=seconds)


@pytest.mark.parametrize("framing", ["chunked", "length"])
async def test_answer_that_breaks_off_is_never_a_whole_one(monkeypatch: pytest.MonkeyPatch, framing: str) -> None:
    async def serve(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-length": "100"} if framing == "length" else {})
        await response.prepare(request)
        await response.write(b"part")
        await asyncio.sleep(0.02)
        assert request.transport is not None
        request.transport.close()
        return response

    async with serving(serve, monkeypatch):
        with pytest.raises(handler.UnreachableError, match="broke off"):
            await handle(event())


def test_https_is_spoken_where_the_url_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRATIQUE_BURST_INFERENCE_URL", "https://127.0.0.1:8443/base")
    connection = handler._connection()
    assert isinstance(connection, HTTPSConnection)
    assert (connection.host, connection.port) == ("127.0.0.1", 8443)
