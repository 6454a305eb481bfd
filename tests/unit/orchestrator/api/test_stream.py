"""A reply's events on their way to one client: what is there at its pace, what comes at once where that is possible."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from pratique.core.ids import GenerationId, PrincipalId
from pratique.orchestrator.access import Principal, PrincipalKind
from pratique.orchestrator.api.stream import CloseConnectionError, EventStream, Outgoing
from pratique.orchestrator.protocol.events import Heartbeat
from pratique.orchestrator.sessions.feed import Feed, FeedLostError
from pratique.orchestrator.sessions.log.interface import LogEntry

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.unit

REPLY = GenerationId("gen_1")
MAX_BYTES = 4096
ANN = Principal(principal_id=PrincipalId("usr_ann"), kind=PrincipalKind.SESSION, name="ann")


class Client:
    """Takes what is sent, by either way, while it is told to."""

    def __init__(self) -> None:
        self.got: list[str] = []
        self.num_at_once = 0
        self.takes_now = True
        self.gate = asyncio.Event()
        self.gate.set()

    def send_now(self, texts: Sequence[bytes]) -> bool:
        if self.takes_now:
            self.got += [text.decode() for text in texts]
            self.num_at_once += len(texts)
        return self.takes_now

    async def write(self, batch: Sequence[Outgoing]) -> None:
        await self.gate.wait()
        self.got += [item.data.decode() for item in batch]


def event(seq: int, *, size: int = 0, ends: bool = False) -> LogEntry:
    return LogEntry(seq, str(seq).encode().rjust(size), is_end=ends)


@pytest.fixture
async def runtime(service: Any) -> Any:
    await service.start(slow_reader_bytes=MAX_BYTES)
    return service.replica.runtime


async def test_what_is_there_is_queued_and_what_follows_goes_at_once_in_order(runtime: Any) -> None:
    client, feed = Client(), Feed(REPLY)
    stream = EventStream(runtime, client.write, principal=ANN, transport="websocket", send_now=client.send_now)
    feed.publish([event(1), event(2)])
    following = asyncio.ensure_future(stream.follow(REPLY, feed, 0))
    await asyncio.sleep(0)
    # Nothing passes what still waits.
    feed.publish([event(3)])
    sending = asyncio.ensure_future(stream.send_all())
    await stream.flush()
    assert (client.got, client.num_at_once) == (["1", "2", "3"], 0)
    feed.publish([event(4), event(5)])
    assert (client.got[3:], client.num_at_once) == (["4", "5"], 2)
    client.takes_now = False
    feed.publish([event(6)])
    client.takes_now = True
    feed.publish([event(7, ends=True)])
    await asyncio.wait_for(following, 2)
    await stream.flush()
    assert client.got == ["1", "2", "3", "4", "5", "6", "7"]
    assert feed.num_readers == 0
    sending.cancel()


async def test_reader_that_falls_behind_is_cut_and_publishing_goes_on(runtime: Any) -> None:
    client, feed = Client(), Feed(REPLY)
    client.takes_now = False
    stream = EventStream(runtime, client.write, principal=ANN, transport="websocket", send_now=client.send_now)
    following = asyncio.ensure_future(stream.follow(REPLY, feed, 0))
    await asyncio.sleep(0)
    for seq in range(1, 6):
        feed.publish([event(seq, size=MAX_BYTES // 2)])
    with pytest.raises(CloseConnectionError, match="slow_reader"):
        await asyncio.wait_for(following, 2)
    assert (feed.last_seq, feed.num_readers) == (5, 0)


async def test_fault_of_one_connection_ends_it_and_not_the_reply(runtime: Any) -> None:
    def send_now(_: Sequence[bytes]) -> bool:
        raise RuntimeError("broken")

    feed, other = Feed(REPLY), Client()
    following = [
        asyncio.ensure_future(
            EventStream(runtime, other.write, principal=ANN, transport="x", send_now=send).follow(REPLY, feed, 0)
        )
        for send in (send_now, other.send_now)
    ]
    await asyncio.sleep(0)
    feed.publish([event(1, ends=True)])
    with pytest.raises(RuntimeError, match="broken"):
        await following[0]
    await following[1]
    assert other.got == ["1"]


async def test_what_was_cut_gets_nothing_at_once(runtime: Any) -> None:
    client, feed = Client(), Feed(REPLY)
    stream = EventStream(runtime, client.write, principal=ANN, transport="websocket", send_now=client.send_now)
    following = asyncio.ensure_future(stream.follow(REPLY, feed, 0))
    await asyncio.sleep(0)
    stream._outbox.end(CloseConnectionError(1001, "draining"))
    feed.publish([event(1)])
    assert client.got == []
    following.cancel()


@pytest.mark.parametrize("is_lost_before", [True, False])
async def test_feed_that_is_lost_is_said_to_be(runtime: Any, *, is_lost_before: bool) -> None:
    feed = Feed(REPLY)
    feed.publish([event(1)])
    stream = EventStream(runtime, Client().write, principal=ANN, transport="sse")
    if is_lost_before:
        feed.lose()
    following = asyncio.ensure_future(stream.follow(REPLY, feed, 0))
    await asyncio.sleep(0)
    feed.lose()
    with pytest.raises(FeedLostError):
        await asyncio.wait_for(following, 2)


async def test_reply_that_has_ended_is_sent_to_its_end(runtime: Any) -> None:
    client, feed = Client(), Feed(REPLY)
    feed.publish([event(1), event(2, ends=True)])
    stream = EventStream(runtime, client.write, principal=ANN, transport="sse")
    stream.say(Heartbeat())
    await asyncio.wait_for(stream.follow(REPLY, feed, 1), 2)
    sending = asyncio.ensure_future(stream.send_all())
    await stream.flush()
    assert client.got[1:] == ["2"]
    sending.cancel()
