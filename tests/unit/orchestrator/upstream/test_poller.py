"""What model servers say of themselves, and that only changes are told."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from pratique.core.clock import ManualClock
from pratique.orchestrator.protocol.events import ModelReplica, ModelState
from pratique.orchestrator.upstream.poller import ModelPoller, StatusSource
from pratique.orchestrator.upstream.scripted import ScriptedUpstream
from pratique.orchestrator.upstream.scripted_server import ScriptedModelServer

pytestmark = pytest.mark.unit


async def test_states_are_told_as_they_change() -> None:
    clock = ManualClock()
    async with ScriptedModelServer(ScriptedUpstream()).running() as server, aiohttp.ClientSession() as session:
        addresses = [("inference-0", server.url), ("inference-1", "http://127.0.0.1:9")]
        poller = ModelPoller(StatusSource(session), addresses, clock=clock, poll_seconds=1)
        first = poller.state
        assert [one.state for one in first.replicas] == ["unreachable", "unreachable"]
        told: asyncio.Queue[ModelState] = asyncio.Queue()
        poller.listeners.add(told.put_nowait)
        running = asyncio.ensure_future(poller.run())
        ready = await told.get()
        assert (ready.ready, [one.state for one in ready.replicas]) == (True, ["traffic_ready", "unreachable"])
        server.state = "draining"
        await clock.advance(0.5)
        assert told.empty()
        await clock.advance(0.6)
        assert (await told.get()).ready is False
        running.cancel()


@pytest.mark.parametrize("body", [b"", b"[]", b'{"state":1}', b'{"state":"x","progress":7}'])
async def test_status_that_cannot_be_read_is_unreachable(body: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server, aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        found = await StatusSource(session).fetch("a", url)
    assert found == ModelReplica(name="a", state="unreachable")


async def test_status_that_comes_in_pieces_is_read_whole() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b'HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{"state":"traffic_')
        await writer.drain()
        await asyncio.sleep(0.01)
        writer.write(b'ready"}')
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server, aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        found = await StatusSource(session).fetch("a", url)
    assert found == ModelReplica(name="a", state="traffic_ready")


async def test_server_that_hangs_is_unreachable() -> None:
    released = asyncio.Event()

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await released.wait()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server, aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        found = await StatusSource(session, timeout_seconds=0.05).fetch("a", url)
        released.set()
    assert found.state == "unreachable"
