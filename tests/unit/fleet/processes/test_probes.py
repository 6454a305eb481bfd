"""Asking services how they are."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp import web

from pratique.fleet.processes.probes import HttpProbe, ModelStatusProbe, RedisProbe

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

pytestmark = pytest.mark.unit


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as made:
        yield made


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[Callable[[web.Request], Awaitable[web.StreamResponse]]], Awaitable[str]]]:
    runners: list[web.AppRunner] = []

    async def start(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> str:
        app = web.Application()
        app.router.add_get("/{path:.*}", handler)
        runner = web.AppRunner(app, shutdown_timeout=0.05)
        runners.append(runner)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        assert site._server is not None
        return f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"  # type: ignore[attr-defined]  # asyncio's

    yield start
    for runner in runners:
        await runner.cleanup()


async def test_ready_is_a_200(session: aiohttp.ClientSession, serve: Callable[..., Awaitable[str]]) -> None:
    codes = [503, 200]

    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=codes.pop(0))

    probe = HttpProbe(session, await serve(handler))
    first, second = await probe.ask(), await probe.ask()
    assert (first.ready, first.detail) == (False, "listens, not ready (status 503)")
    assert second.ready


async def test_nobody_listens(session: aiohttp.ClientSession) -> None:
    for probe in (HttpProbe(session, "http://127.0.0.1:9/x"), ModelStatusProbe(session, "http://127.0.0.1:9")):
        assert (await probe.ask()).detail == "starting the process"


async def test_no_answer_in_time(session: aiohttp.ClientSession, serve: Callable[..., Awaitable[str]]) -> None:
    async def handler(request: web.Request) -> web.Response:
        await asyncio.sleep(5)
        return web.Response()

    url = await serve(handler)
    for probe in (HttpProbe(session, url, timeout_seconds=0.02), ModelStatusProbe(session, url, timeout_seconds=0.02)):
        assert (await probe.ask()).detail == "does not answer"


@pytest.mark.parametrize(
    ("body", "ready", "detail"),
    [
        ({"state": "traffic_ready", "detail": "ready", "new_field": 1}, True, "ready"),
        ({"state": "process_alive", "detail": "loading weights", "progress": 0.4}, False, "loading weights"),
        ({"state": "model_loaded"}, False, "model loaded"),
        ({"state": "failed", "error": {"code": "x", "message": "no such file", "hint": None}}, False, "no such file"),
        ({"state": "failed", "error": {"code": "x"}}, False, "failed"),
    ],
)
async def test_model_server_speaks_for_itself(
    session: aiohttp.ClientSession,
    serve: Callable[..., Awaitable[str]],
    body: dict[str, object],
    ready: bool,
    detail: str,
) -> None:
    async def handler(request: web.Request) -> web.Response:
        assert request.path == "/status"
        return web.json_response(body)

    health = await ModelStatusProbe(session, await serve(handler)).ask()
    assert (health.ready, health.detail, health.progress) == (ready, detail, body.get("progress"))
    assert health.model is not None
    assert health.model.state == body["state"]


@pytest.mark.parametrize("text", ["", "<html>", json.dumps({"no": "state"})])
async def test_something_else_answers_on_the_port(
    session: aiohttp.ClientSession, serve: Callable[..., Awaitable[str]], text: str
) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(text=text)

    health = await ModelStatusProbe(session, await serve(handler)).ask()
    assert (health.ready, "something else" in health.detail) == (False, True)


@pytest.mark.parametrize(
    ("answers", "ready", "detail"),
    [
        (b"+OK\r\n+PONG\r\n", True, ""),
        (b"-WRONGPASS\r\n-NOAUTH\r\n", False, "-WRONGPASS\r\n -NOAUTH"),
        (b"", False, ""),
    ],
)
async def test_valkey_is_asked_with_its_password(answers: bytes, ready: bool, detail: str) -> None:
    asked: list[bytes] = []

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.write(answers)
        writer.close()

    server = await asyncio.start_server(reply, "127.0.0.1", 0)
    async with server:
        health = await RedisProbe("127.0.0.1", server.sockets[0].getsockname()[1], "sesame").ask()
    assert (health.ready, health.detail) == (ready, detail)
    assert asked == [b"AUTH sesame\r\n"]
    assert (await RedisProbe("127.0.0.1", 9, "x").ask()).detail == "starting the process"
