"""What waits for one client: bounded, in order, ended after what was said."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from pratique.orchestrator.api.stream import CloseConnectionError, Outbox, Outgoing
from pratique.orchestrator.api.websocket import WebSocketEndpoint

if TYPE_CHECKING:
    from starlette.types import Message

pytestmark = pytest.mark.unit


def item(size: int) -> Outgoing:
    return Outgoing(b"x" * size)


async def test_offering_beyond_the_bound_is_refused_and_putting_waits() -> None:
    outbox = Outbox(10)
    outbox.offer(item(20))  # a first one always fits, or nothing ever would
    with pytest.raises(CloseConnectionError, match="slow_reader"):
        outbox.offer(item(1))
    putting = [asyncio.ensure_future(outbox.put(item(5))) for _ in range(3)]
    flushing = asyncio.ensure_future(outbox.flushed())
    await asyncio.sleep(0)
    assert not any(task.done() for task in (*putting, flushing))
    taken = await outbox.take()
    assert not flushing.done()
    outbox.sent(taken)
    await asyncio.sleep(0.01)
    assert flushing.done()
    # Two fit, the third waits for them.
    assert sum(task.done() for task in putting) == 2
    outbox.sent(await outbox.take())
    await asyncio.gather(*putting)
    outbox.sent(await outbox.take())
    await outbox.flushed()


async def test_end_comes_after_what_was_said_and_the_first_counts() -> None:
    outbox = Outbox(100)
    outbox.offer(item(1))
    outbox.end(CloseConnectionError(1001, "draining"))
    outbox.end(CloseConnectionError(1013, "slow_reader"))
    assert await outbox.take() == [item(1)]
    with pytest.raises(CloseConnectionError, match="draining"):
        await outbox.take()


async def test_who_is_cut_is_sent_nothing_more_of_what_waits_or_is_still_said() -> None:
    outbox = Outbox(100)
    outbox.offer(item(1))
    outbox.end(CloseConnectionError(1001, "draining"))
    outbox.cut(CloseConnectionError(4401, "credential_expired"))
    outbox.offer(item(1))
    for _ in range(2):
        with pytest.raises(CloseConnectionError, match="credential_expired"):
            await outbox.take()


async def test_end_wakes_who_waits() -> None:
    outbox = Outbox(100)
    taking = asyncio.ensure_future(outbox.take())
    await asyncio.sleep(0)
    outbox.end(CloseConnectionError(1001, "draining"))
    with pytest.raises(CloseConnectionError):
        await taking


async def test_heartbeat_that_finds_no_room_and_drain_end_the_connection(service: Any) -> None:
    await service.start(heartbeat_seconds=0.02, slow_reader_bytes=4096)
    runtime = service.replica.runtime
    async with service.socket() as socket:
        await socket.receive("heartbeat")
        assert (len(runtime.poller.listeners), len(runtime.drain.listeners)) == (1, 1)
        runtime.drain.begin()
        await socket.receive("going_away")
        assert await socket.closed() == 1001
    async with service.socket() as late:
        await late.receive("going_away")
        assert await late.closed() == 1001
    assert (len(runtime.poller.listeners), len(runtime.drain.listeners)) == (0, 0)


async def test_server_without_our_extension_gets_one_message_each(service: Any) -> None:
    await service.start()
    sent: list[Message] = []
    left = asyncio.Event()
    first = True

    async def receive() -> Message:
        nonlocal first
        if first:
            first = False
            return {"type": "websocket.connect"}
        await left.wait()
        return {"type": "websocket.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)
        if len(sent) > 2:
            left.set()

    headers = [(b"host", b"localhost"), (b"authorization", f"Bearer {service.key}".encode())]
    scope = {"type": "websocket", "path": "/api/ws", "headers": headers}
    async with asyncio.timeout(3):
        await WebSocketEndpoint(service.replica.runtime)(scope, receive, send)
    assert [message["type"] for message in sent[:3]] == ["websocket.accept", "websocket.send", "websocket.send"]
    assert '"hello"' in sent[1]["text"]
