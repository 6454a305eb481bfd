"""The parts that replies are made of: transcript, feed, writer, follower."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from pratique.core.clock import SystemClock
from pratique.core.ids import ConversationId, GenerationId
from pratique.core.metrics import Metrics
from pratique.orchestrator.conversations import Outcome
from pratique.orchestrator.protocol.events import FinishReason
from pratique.orchestrator.sessions.feed import Feed, FeedLostError
from pratique.orchestrator.sessions.follower import Follower
from pratique.orchestrator.sessions.instruments import Instruments
from pratique.orchestrator.sessions.log.interface import FencedError, Lease, LogEntry, WriteReceipt
from pratique.orchestrator.sessions.log.memory import MemoryLog
from pratique.orchestrator.sessions.transcript import Transcript
from pratique.orchestrator.sessions.writer import LogWriter, WriterSettings
from pratique.orchestrator.upstream.interface import UpstreamStart

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.unit

House = Any
REPLY = GenerationId("gen_1")


def transcript() -> Transcript:
    return Transcript(ConversationId("conv_1"), REPLY)


def entries(first: int, last: int) -> list[LogEntry]:
    return [LogEntry(n, b"{}") for n in range(first, last + 1)]


def test_transcript_counts_from_one_and_adds_up() -> None:
    said = transcript()
    made = [
        said.started(UpstreamStart(model="m", prompt_tokens=2, was_truncated=True, turns_dropped=1)),
        said.token("a"),
        said.continued("x"),
        said.token("b"),
        said.ended(FinishReason.STOP, turn_id="t", usage=None, error=None),
    ]
    assert said.started(UpstreamStart(model="other", prompt_tokens=9)) is None
    assert [entry.seq for entry in made if entry] == [1, 2, 3, 4, 5]
    assert [entry.is_end for entry in made if entry] == [False] * 4 + [True]
    again = transcript()
    again.replay(entry for entry in made if entry)
    for one in (said, again):
        assert (one.text, one.num_tokens, one.num_continued, one.model) == ("ab", 2, 1, "m")
        assert (one.was_truncated, one.turns_dropped, one.prompt_tokens) == (True, 1, 2)
        assert (one.has_started, one.has_ended, one.has_text) == (True, True, True)
    assert said.num_bytes == again.num_bytes
    with pytest.raises(ValueError, match="cannot follow"):
        said.token("after the end")


def test_transcript_of_nothing() -> None:
    said = transcript()
    assert (said.text, said.has_text, said.last_seq) == ("", False, 0)


def test_transcript_refuses_a_gap() -> None:
    said, other = transcript(), transcript()
    other.token("a")
    second = other.token("b")
    with pytest.raises(ValueError, match="cannot follow"):
        said.replay([second])


def test_feed_refuses_a_gap_and_passes_over_what_it_knows() -> None:
    feed = Feed(REPLY)
    feed.publish(entries(1, 2))
    feed.publish(entries(1, 3))
    feed.publish([])
    assert feed.last_seq == 3
    with pytest.raises(ValueError, match="cannot follow"):
        feed.publish(entries(5, 5))
    feed.publish([LogEntry(4, b"{}", is_end=True)])
    with pytest.raises(ValueError, match="cannot follow"):
        feed.publish(entries(5, 5))


async def test_feed_tells_its_readers_that_it_is_lost() -> None:
    feed = Feed(REPLY)
    feed.publish(entries(1, 1))

    async def read() -> int:
        last = 0
        async for batch in feed.follow(0):
            last = batch[-1].seq
        return last

    reading = asyncio.ensure_future(read())
    await asyncio.sleep(0)
    assert feed.num_readers == 1
    feed.lose()
    with pytest.raises(FeedLostError):
        await reading
    assert feed.num_readers == 0
    feed.publish(entries(2, 2))
    assert feed.last_seq == 1
    await feed.wait_for(9)


def test_feed_tells_its_listeners_what_is_new_and_that_it_is_lost() -> None:
    feed, heard = Feed(REPLY), list[list[int]]()
    feed.publish(entries(1, 1))
    with feed.heard_by(lambda fresh: heard.append([entry.seq for entry in fresh])):
        assert feed.num_readers == 1
        feed.publish(entries(1, 3))
        feed.publish(entries(2, 3))
        feed.lose()
    feed.publish(entries(4, 4))
    assert (heard, feed.num_readers) == ([[2, 3], []], 0)


class CountingLog(MemoryLog):
    """Counts its writes, and can refuse or delay them."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []
        self.delay = 0.0
        self.fails: Exception | None = None

    async def append(self, lease: Lease, entries: Sequence[LogEntry]) -> WriteReceipt:
        if self.delay:
            await asyncio.sleep(self.delay)
        if self.fails is not None:
            raise self.fails
        self.batches.append(len(entries))
        return await super().append(lease, entries)


async def make_writer(log: CountingLog, **settings: Any) -> tuple[LogWriter, Feed]:
    lease = await log.acquire(REPLY, floor=1)
    feed = Feed(REPLY)

    async def confirm() -> None: ...

    writer = LogWriter(
        log,
        lease,
        feed,
        confirm=confirm,
        settings=WriterSettings(**settings),
        clock=SystemClock(),
        instruments=Instruments(Metrics()),
    )
    return writer, feed


async def test_first_event_goes_at_once_and_then_one_write_a_window() -> None:
    log = CountingLog()
    writer, feed = await make_writer(log, window_seconds=0.5)
    running = asyncio.ensure_future(writer.run())
    await writer.emit(LogEntry(1, b"{}"))
    async with asyncio.timeout(0.4):
        await feed.wait_for(1)
    for number in range(2, 60):
        await writer.emit(LogEntry(number, b"{}"))
        await asyncio.sleep(0.001)
    await writer.settle()
    assert feed.last_seq == 59
    assert len(log.batches) <= 4
    running.cancel()


async def test_nothing_to_say_is_nothing() -> None:
    log = CountingLog()
    writer, feed = await make_writer(log)
    await writer.emit(None)
    assert (feed.last_seq, writer.is_behind) == (0, False)


async def test_too_much_at_once_waits_for_the_log() -> None:
    log = CountingLog()
    writer, feed = await make_writer(log, max_pending=3)
    for number in range(1, 5):
        await writer.emit(LogEntry(number, b"{}"))
    assert feed.last_seq == 4
    assert log.batches == [4]


async def test_quiet_writer_keeps_its_lease() -> None:
    log = CountingLog()
    writer, _ = await make_writer(log, renew_seconds=0.01, window_seconds=0.0)
    tasks = [asyncio.ensure_future(writer.run()), asyncio.ensure_future(writer.keep())]
    await asyncio.sleep(0.1)
    assert 1 <= len(log.batches) <= 11
    assert set(log.batches) == {0}
    for task in tasks:
        task.cancel()


async def test_nothing_is_shown_that_the_log_refused() -> None:
    log = CountingLog()
    writer, feed = await make_writer(log)
    log.fails = FencedError("newer")
    await writer.emit(LogEntry(1, b"{}"))
    with pytest.raises(FencedError):
        await writer.settle()
    assert feed.last_seq == 0


async def test_log_that_hangs_is_as_good_as_away_and_is_not_asked_for_each_event() -> None:
    log = CountingLog()
    writer, feed = await make_writer(log, write_timeout_seconds=0.02, renew_seconds=0.2)
    log.delay = 10
    began = asyncio.get_running_loop().time()
    for number in range(1, 20):
        await writer.emit(LogEntry(number, b"{}"))
        await writer.settle()
    assert asyncio.get_running_loop().time() - began < 0.3
    assert (feed.last_seq, writer.is_behind) == (19, True)
    log.delay = 0
    await asyncio.sleep(0.12)
    await writer.emit(LogEntry(20, b"{}"))
    await writer.settle()
    assert writer.is_behind is False
    assert (await log.read(REPLY, after_seq=0)).last_seq == 20


async def test_write_whose_answer_was_lost_is_not_doubled() -> None:
    log = CountingLog()
    writer, feed = await make_writer(log)
    await writer.emit(LogEntry(1, b"{}"))
    await writer.settle()
    # The server fell back to an older state: it holds less than was acknowledged.
    log._logs[REPLY].entries.clear()
    await writer.emit(LogEntry(2, b"{}"))
    await writer.settle()
    assert [entry.seq for entry in (await log.read(REPLY, after_seq=0)).entries] == [1, 2]
    assert feed.last_seq == 2


async def test_follower_drops_what_nobody_reads(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pratique.orchestrator.sessions.follower._ROUND_SECONDS", 0.02)
    follower = Follower(house.log, house.store, clock=house.clock)
    running = asyncio.ensure_future(follower.run())
    await house.log.acquire(REPLY, floor=1)
    feed = Feed(REPLY)
    await follower.add(feed)

    async def is_dropped() -> bool:
        return follower.num_followed == 0

    await house.until(is_dropped)
    assert feed.is_lost
    await follower.add(feed)
    assert follower.num_followed == 0
    running.cancel()


async def test_follower_loses_a_reply_whose_log_and_record_are_gone(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pratique.orchestrator.sessions.follower._ROUND_SECONDS", 0.02)
    follower = Follower(house.log, house.store, clock=house.clock)
    running = asyncio.ensure_future(follower.run())
    feed = Feed(REPLY)
    reading = asyncio.ensure_future(_read(feed))
    await follower.add(feed)
    with pytest.raises(FeedLostError):
        await asyncio.wait_for(reading, 2)
    running.cancel()


async def test_follower_waits_for_a_log_that_is_away(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pratique.orchestrator.sessions.follower._RETRY_SECONDS", 0.01)
    follower = Follower(house.log, house.store, clock=house.clock)
    running = asyncio.ensure_future(follower.run())
    lease = await house.log.acquire(REPLY, floor=1)
    house.log.break_down()
    feed = Feed(REPLY)
    await follower.add(feed)
    await asyncio.sleep(0.03)
    house.log.break_down(is_down=False)
    await house.log.append(lease, [LogEntry(1, b"{}", is_end=True)])
    await asyncio.wait_for(feed.wait_for(1), 2)
    assert follower.num_followed == 0
    running.cancel()


async def test_follower_loses_what_ended_while_the_log_is_away_and_keeps_what_runs(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pratique.orchestrator.sessions.follower._ROUND_SECONDS", 0.02)
    monkeypatch.setattr("pratique.orchestrator.sessions.follower._RETRY_SECONDS", 0.005)
    ended, running = await house.say(), await house.say()
    for begun in (ended, running):
        await house.store.claim(begun.generation_id, epoch=1, holder="elsewhere")
        await house.log.acquire(begun.generation_id, floor=1)
    follower = Follower(house.log, house.store, clock=house.clock)
    feeds = [Feed(ended.generation_id), Feed(running.generation_id)]
    following = asyncio.ensure_future(follower.run())
    reading = [asyncio.ensure_future(_read(feed)) for feed in feeds]
    for feed in feeds:
        await follower.add(feed)
    house.log.break_down()
    house.store.unavailable = True
    await asyncio.sleep(0.05)
    assert not any(feed.is_lost for feed in feeds)
    house.store.unavailable = False
    outcome = Outcome(text="hi", finish_reason=FinishReason.STOP)
    await house.store.finish(ended.generation_id, epoch=1, outcome=outcome)
    with pytest.raises(FeedLostError):
        await asyncio.wait_for(reading[0], 2)
    await asyncio.sleep(0.05)
    assert (feeds[1].is_lost, follower.num_followed) == (False, 1)
    for task in (following, reading[1]):
        task.cancel()


async def test_follower_waits_no_longer_than_a_round_for_a_store_that_hangs(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pratique.orchestrator.sessions.follower._ROUND_SECONDS", 0.02)
    monkeypatch.setattr("pratique.orchestrator.sessions.follower._RETRY_SECONDS", 0.005)
    asked = asyncio.Event()

    async def hang(_: GenerationId) -> None:
        asked.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(house.store, "load_generation", hang)
    lease = await house.log.acquire(REPLY, floor=1)
    follower = Follower(house.log, house.store, clock=house.clock)
    following = asyncio.ensure_future(follower.run())
    feed = Feed(REPLY)
    reading = asyncio.ensure_future(_read(feed))
    await follower.add(feed)
    house.log.break_down()
    await asyncio.wait_for(asked.wait(), 2)
    house.log.break_down(is_down=False)
    await house.log.append(lease, [LogEntry(1, b"{}", is_end=True)])
    await asyncio.wait_for(reading, 2)
    following.cancel()


async def test_follower_loses_a_feed_that_went_on_differently(house: House) -> None:
    follower = Follower(house.log, house.store, clock=house.clock)
    feed = Feed(REPLY)
    follower._feeds[REPLY] = feed
    follower._take({REPLY: entries(5, 6), GenerationId("gen_other"): entries(1, 1)})
    assert feed.is_lost
    assert follower.num_followed == 0


async def _read(feed: Feed) -> None:
    async for _ in feed.follow(0):
        pass
