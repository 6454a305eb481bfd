"""Writes without a task that waits: shown once the log has them, and settled by the long way where it does not."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest

from pratique.core.clock import SystemClock
from pratique.core.ids import GenerationId
from pratique.core.metrics import Metrics
from pratique.orchestrator.sessions.feed import Feed
from pratique.orchestrator.sessions.instruments import Instruments
from pratique.orchestrator.sessions.log.interface import (
    FencedError,
    Lease,
    LogEntry,
    LogUnavailableError,
    WriteReceipt,
)
from pratique.orchestrator.sessions.log.memory import MemoryLog
from pratique.orchestrator.sessions.windows import Windows
from pratique.orchestrator.sessions.writer import LogWriter, WriterSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

pytestmark = pytest.mark.unit

REPLY = GenerationId("gen_1")


def event(seq: int) -> LogEntry:
    return LogEntry(seq, b"{}")


class GatedLog(MemoryLog):
    """Lets writes through, or the next ones fail, while its gate is open."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()
        self.failures: list[Exception] = []
        self.batches: list[list[int]] = []

    async def append(self, lease: Lease, entries: Sequence[LogEntry]) -> WriteReceipt:
        self.batches.append([entry.seq for entry in entries])
        await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)
        return await super().append(lease, entries)

    async def last_seq(self) -> int:
        return (await self.read(REPLY, after_seq=0)).last_seq


class Desk:
    """A writer whose `run` runs, with what it writes to."""

    def __init__(self, log: GatedLog, writer: LogWriter, feed: Feed) -> None:
        self.log = log
        self.writer = writer
        self.feed = feed
        self.running = asyncio.ensure_future(writer.run())

    async def say(self, *seqs: int) -> None:
        for seq in seqs:
            await self.writer.emit(event(seq))

    async def shown(self, seq: int) -> None:
        async with asyncio.timeout(2):
            await self.feed.wait_for(seq)

    async def asked(self, num_batches: int) -> None:
        async with asyncio.timeout(2):
            while len(self.log.batches) < num_batches:  # noqa: ASYNC110 - the log signals nobody
                await asyncio.sleep(0.001)


@asynccontextmanager
async def desk(**settings: Any) -> AsyncIterator[Desk]:
    log = GatedLog()
    lease, feed = await log.acquire(REPLY, floor=1), Feed(REPLY)

    async def confirm() -> None: ...

    made = Desk(
        log,
        LogWriter(
            log,
            lease,
            feed,
            confirm=confirm,
            settings=WriterSettings(**{"window_seconds": 0.005, **settings}),
            clock=SystemClock(),
            instruments=Instruments(Metrics()),
        ),
        feed,
    )
    await asyncio.sleep(0)
    yield made
    made.running.cancel()
    with suppress(asyncio.CancelledError, FencedError):
        await made.running


async def test_what_is_said_at_one_moment_goes_together_and_is_shown_when_the_log_has_it() -> None:
    async with desk() as here:
        here.log.gate.clear()
        await here.say(1, 2)
        await here.asked(1)
        await here.say(3)
        assert (here.log.batches, here.feed.last_seq) == ([[1, 2]], 0)
        here.log.gate.set()
        await here.shown(3)
        assert here.log.batches == [[1, 2], [3]]
        assert await here.log.last_seq() == 3
        assert not here.writer.is_behind


async def test_cancel_that_somebody_asked_for_comes_with_the_receipt() -> None:
    async with desk() as here:
        await here.log.request_cancel(REPLY)
        await here.say(1)
        async with asyncio.timeout(2):
            await here.writer.cancel_requested.wait()


async def test_fenced_writer_ends_and_shows_nothing() -> None:
    async with desk() as here:
        await here.log.release(Lease(generation_id=REPLY, epoch=1, last_seq=0, is_new=True))
        await here.log.acquire(REPLY, floor=2)
        await here.say(1)
        with pytest.raises(FencedError):
            await asyncio.wait_for(here.running, 2)
        assert here.feed.last_seq == 0
        with pytest.raises(FencedError):
            await here.writer.settle()


async def test_log_that_fell_back_or_was_lost_is_filled_again_from_what_was_shown() -> None:
    async with desk() as here:
        await here.say(1)
        await here.shown(1)
        here.log._logs[REPLY].entries.clear()
        await here.say(2)
        await here.shown(2)
        assert await here.log.last_seq() == 2
        here.log.lose_everything()
        await here.say(3)
        await here.shown(3)
        assert await here.log.last_seq() == 3


async def test_server_that_is_away_stops_no_reader_and_gets_all_of_it_later() -> None:
    async with desk(renew_seconds=0.02) as here:
        here.log.failures = [LogUnavailableError("away")]
        await here.say(1)
        await here.shown(1)
        assert (here.feed.last_seq, here.writer.is_behind) == (1, True)
        await here.say(2)
        await here.shown(2)
        await asyncio.sleep(0.015)
        await here.say(3)
        await here.shown(3)
        assert (await here.log.last_seq(), here.writer.is_behind) == (3, False)


async def test_write_that_hangs_is_given_up_in_time_and_what_comes_of_it_later_is_passed_over() -> None:
    async with desk(write_timeout_seconds=0.03, renew_seconds=0.02) as here:
        here.log.gate.clear()
        await here.say(1)
        await here.shown(1)
        assert here.writer.is_behind
        here.log.gate.set()
        await asyncio.sleep(0.02)
        await here.say(2)
        await here.shown(2)
        await here.writer.settle()
        assert (here.feed.last_seq, await here.log.last_seq(), here.writer.is_behind) == (2, 2, False)


async def test_settling_waits_for_the_write_under_way_but_not_for_ever() -> None:
    async with desk(write_timeout_seconds=0.05, window_seconds=10.0) as here:
        here.log.gate.clear()
        await here.say(1)
        await here.asked(1)
        settling = asyncio.ensure_future(here.writer.settle())
        await asyncio.sleep(0.01)
        assert not settling.done()
        assert here.log.batches == [[1]]
        here.log.gate.set()
        await asyncio.wait_for(settling, 2)
        assert here.feed.last_seq == 1
        here.writer._is_resting = False
        here.log.gate.clear()
        await here.say(2)
        await here.asked(2)
        await asyncio.wait_for(here.writer.settle(), 2)
        assert (here.feed.last_seq, here.writer.is_behind) == (2, True)


async def test_nothing_is_begun_or_shown_once_the_writer_was_stopped() -> None:
    async with desk() as here:
        here.log.gate.clear()
        await here.say(1)
        await here.asked(1)
        await here.say(2)
        here.running.cancel()
        await asyncio.gather(here.running, return_exceptions=True)
        here.log.gate.set()
        await asyncio.sleep(0.02)
        assert (here.log.batches, here.feed.last_seq) == ([[1]], 0)


async def test_windows_end_together_at_multiples_of_their_length_and_not_twice() -> None:
    loop = asyncio.get_running_loop()
    windows, ended = Windows(0.01), list[tuple[str, float]]()

    def again() -> None:
        ended.append(("a", loop.time()))
        if len(ended) < 6:
            windows.at_end(again)

    windows.at_end(again)
    windows.at_end(lambda: ended.append(("b", loop.time())))
    async with asyncio.timeout(2):
        while len(ended) < 6:  # noqa: ASYNC110 - the callbacks signal nobody
            await asyncio.sleep(0.001)
    assert [name for name, _ in ended] == ["a", "b", "a", "a", "a", "a"]
    # Three ends later: the first of them may be near, the two after it are a window each.
    assert ended[5][1] - ended[2][1] > 0.018


async def test_windows_of_no_length_end_at_once() -> None:
    windows, ended = Windows(0), asyncio.Event()
    windows.at_end(ended.set)
    assert not ended.is_set()
    await asyncio.wait_for(ended.wait(), 1)
