"""Every generation log keeps the same promises."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

import pytest

from pratique.core.errors import PratiqueError
from pratique.core.ids import GenerationId, RandomIds
from pratique.orchestrator.sessions.log.interface import (
    FencedError,
    GenerationLog,
    Lease,
    LeaseHeldError,
    LogEndedError,
    LogEntry,
    LogGapError,
    LogLimits,
    LogMissingError,
    LogUnavailableError,
    WriteReceipt,
)
from pratique.orchestrator.sessions.log.memory import MemoryLog
from pratique.orchestrator.sessions.log.valkey import ValkeyLog

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pratique.testkit.services.valkey import ValkeyNamespace

pytestmark = [pytest.mark.integration, pytest.mark.fast]

LEASE_SECONDS = 0.15
LIMITS = LogLimits(lease_seconds=LEASE_SECONDS, ttl_seconds=0.3, abandoned_seconds=30)


@pytest.fixture(params=["memory", "valkey"])
async def log(request: pytest.FixtureRequest) -> AsyncIterator[GenerationLog]:
    made: GenerationLog
    if request.param == "memory":
        made = MemoryLog(limits=LIMITS)
    else:
        valkey: ValkeyNamespace = request.getfixturevalue("valkey")
        made = ValkeyLog(valkey.url, limits=LIMITS, namespace=valkey.name)
    yield made
    await made.aclose()


@pytest.fixture
def reply() -> GenerationId:
    return GenerationId(RandomIds().new("gen"))


def events(first: int, last: int, *, ends: bool = False) -> list[LogEntry]:
    return [LogEntry(n, f'{{"seq":{n}}}'.encode(), is_end=ends and n == last) for n in range(first, last + 1)]


async def lease_expires() -> None:
    await asyncio.sleep(LEASE_SECONDS + 0.05)


async def test_events_are_read_back_in_order_after_any_cursor(log: GenerationLog, reply: GenerationId) -> None:
    lease = await log.acquire(reply, floor=1)
    await log.append(lease, events(1, 3))
    await log.append(lease, events(4, 5))
    for after in range(7):
        page = await log.read(reply, after_seq=after)
        assert list(page.entries) == events(after + 1, 5)
        assert (page.last_seq, page.has_ended) == (5, False)


async def test_new_lease_says_so_and_starts_at_the_floor(log: GenerationLog, reply: GenerationId) -> None:
    lease = await log.acquire(reply, floor=7)
    assert (lease.epoch, lease.last_seq, lease.is_new) == (7, 0, True)


async def test_lease_is_held_until_it_expires(log: GenerationLog, reply: GenerationId) -> None:
    first = await log.acquire(reply, floor=1)
    await log.append(first, events(1, 2))
    with pytest.raises(LeaseHeldError):
        await log.acquire(reply, floor=1)
    await lease_expires()
    second = await log.acquire(reply, floor=1)
    assert (second.epoch, second.last_seq, second.is_new) == (2, 2, False)


async def test_each_write_renews_the_lease(log: GenerationLog, reply: GenerationId) -> None:
    lease = await log.acquire(reply, floor=1)
    for _ in range(4):
        await asyncio.sleep(LEASE_SECONDS / 2)
        await log.append(lease, [])
    with pytest.raises(LeaseHeldError):
        await log.acquire(reply, floor=1)


async def test_fenced_producer_writes_nothing(log: GenerationLog, reply: GenerationId) -> None:
    old = await log.acquire(reply, floor=1)
    await log.append(old, events(1, 1))
    await lease_expires()
    new = await log.acquire(reply, floor=1)
    with pytest.raises(FencedError):
        await log.append(old, events(2, 2))
    with pytest.raises(FencedError):
        await log.restore(old, events(1, 2))
    await log.append(new, events(2, 3))
    assert (await log.read(reply, after_seq=0)).last_seq == 3


async def write(log: GenerationLog, lease: Lease, *batches: list[LogEntry]) -> list[WriteReceipt | PratiqueError]:
    """Write all batches with one pen, without waiting in between; return what was told of them."""
    pen, told = log.pen(lease), list[WriteReceipt | PratiqueError]()
    for batch in batches:
        pen.write(batch, told.append)
    assert told == []
    async with asyncio.timeout(2):
        while len(told) < len(batches):  # noqa: ASYNC110 - a pen tells by a callback only
            await asyncio.sleep(0.001)
    return told


async def test_pen_writes_in_order_and_tells_of_each_write(log: GenerationLog, reply: GenerationId) -> None:
    lease = await log.acquire(reply, floor=1)
    receipts = [WriteReceipt(cancel_requested=False)] * 3
    assert await write(log, lease, events(1, 2), events(3, 3), events(2, 4)) == receipts
    assert list((await log.read(reply, after_seq=0)).entries) == events(1, 4)
    await log.request_cancel(reply)
    assert await write(log, lease, events(5, 5, ends=True)) == [WriteReceipt(cancel_requested=True)]
    assert (await log.read(reply, after_seq=0)).has_ended


async def test_pen_tells_what_stands_against_a_write(log: GenerationLog, reply: GenerationId) -> None:
    old = await log.acquire(reply, floor=1)
    (gap,) = await write(log, old, events(2, 2))
    assert isinstance(gap, LogGapError)
    assert gap.last_seq == 0
    await lease_expires()
    await log.acquire(reply, floor=1)
    (fenced,) = await write(log, old, events(1, 1))
    assert isinstance(fenced, FencedError)
    await log.forget(reply)
    if isinstance(log, MemoryLog):
        log.lose_everything()
    (missing,) = await write(log, old, events(1, 1))
    assert isinstance(missing, LogMissingError)


async def test_pen_tells_that_the_server_is_away() -> None:
    log = ValkeyLog("redis://127.0.0.1:1/0", limits=LIMITS)
    lease = Lease(generation_id=GenerationId("gen_1"), epoch=1, last_seq=0, is_new=True)
    (away,) = await write(log, lease, events(1, 1))
    assert isinstance(away, LogUnavailableError)
    await log.aclose()


async def test_producer_whose_lease_expired_unnoticed_goes_on(log: GenerationLog, reply: GenerationId) -> None:
    lease = await log.acquire(reply, floor=1)
    await lease_expires()
    await log.append(lease, events(1, 1))
    with pytest.raises(LeaseHeldError):
        await log.acquire(reply, floor=1)


async def test_released_lease_can_be_taken_at_once(log: GenerationLog, reply: GenerationId) -> None:
    lease = await log.acquire(reply, floor=1)
    await log.append(lease, events(1, 2))
    await log.release(lease)
    assert reply in await log.expired(limit=1000)
    assert (await log.acquire(reply, floor=1)).epoch == lease.epoch + 1
    await log.release(lease)
    with pytest.raises(LeaseHeldError):
        await log.acquire(reply, floor=1)


async def test_writing_again_what_is_there_is_harmless(log: GenerationLog, reply: GenerationId) -> None:
    lease = await log.acquire(reply, floor=1)
    await log.append(lease, events(1, 3))
    await log.append(lease, events(2, 4))
    await log.append(lease, events(1, 4))
    assert list((await log.read(reply, after_seq=0)).entries) == events(1, 4)


async def test_gap_is_refused_and_says_where_the_log_ends(log: GenerationLog, reply: GenerationId) -> None:
    lease = await log.acquire(reply, floor=1)
    await log.append(lease, events(1, 2))
    with pytest.raises(LogGapError) as refused:
        await log.append(lease, events(4, 5))
    assert refused.value.last_seq == 2
    assert (await log.read(reply, after_seq=0)).last_seq == 2


async def test_ended_log_takes_neither_leases_nor_events(log: GenerationLog, reply: GenerationId) -> None:
    lease = await log.acquire(reply, floor=1)
    await log.append(lease, events(1, 2, ends=True))
    assert (await log.read(reply, after_seq=0)).has_ended
    assert (await log.read(reply, after_seq=0)).entries[-1].is_end
    with pytest.raises(LogGapError):
        await log.append(lease, events(3, 3))
    await lease_expires()
    assert reply not in await log.expired(limit=1000)
    with pytest.raises(LogEndedError):
        await log.acquire(reply, floor=1)


async def test_ended_log_disappears_after_its_time(log: GenerationLog, reply: GenerationId) -> None:
    lease = await log.acquire(reply, floor=1)
    await log.append(lease, events(1, 2, ends=True))
    assert list(await log.missing([reply])) == []
    await asyncio.sleep(LIMITS.ttl_seconds + 0.1)
    assert list(await log.missing([reply])) == [reply]
    with pytest.raises(LogMissingError):
        await log.read(reply, after_seq=0)


async def test_what_is_missing_is_said_to_be(log: GenerationLog, reply: GenerationId) -> None:
    lease = await log.acquire(reply, floor=1)
    await log.forget(reply)
    with pytest.raises(LogMissingError):
        await log.append(lease, events(1, 1))
    with pytest.raises(LogMissingError):
        await log.read(reply, after_seq=0)
    assert await log.request_cancel(reply) is False
    assert list(await log.missing([])) == []


async def test_lost_log_is_restored_with_the_same_epoch(log: GenerationLog, reply: GenerationId) -> None:
    lease = await log.acquire(reply, floor=3)
    await log.append(lease, events(1, 4))
    await log.forget(reply)
    await log.restore(lease, events(1, 5))
    await log.append(lease, events(6, 6))
    assert list((await log.read(reply, after_seq=0)).entries) == events(1, 6)
    await lease_expires()
    assert (await log.acquire(reply, floor=1)).epoch == 4


async def test_lost_log_that_somebody_began_anew_is_not_restored(log: GenerationLog, reply: GenerationId) -> None:
    lease = await log.acquire(reply, floor=1)
    await log.append(lease, events(1, 4))
    await log.forget(reply)
    await log.acquire(reply, floor=2)
    with pytest.raises(FencedError):
        await log.restore(lease, events(1, 4))


async def test_cancel_reaches_the_producer_with_its_next_write(log: GenerationLog, reply: GenerationId) -> None:
    lease = await log.acquire(reply, floor=1)
    assert (await log.append(lease, events(1, 1))).cancel_requested is False
    assert await log.request_cancel(reply) is True
    assert (await log.append(lease, [])).cancel_requested is True
    await log.append(lease, events(2, 2, ends=True))
    assert await log.request_cancel(reply) is False


async def test_cancel_outlives_a_change_of_producer(log: GenerationLog, reply: GenerationId) -> None:
    await log.acquire(reply, floor=1)
    await log.request_cancel(reply)
    await lease_expires()
    lease = await log.acquire(reply, floor=1)
    assert (await log.append(lease, [])).cancel_requested is True


async def test_only_expired_replies_are_listed(log: GenerationLog, reply: GenerationId) -> None:
    other = GenerationId(f"{reply}x")
    await log.acquire(reply, floor=1)
    await lease_expires()
    await log.acquire(other, floor=1)
    assert reply in await log.expired(limit=1000)
    assert other not in await log.expired(limit=1000)
    await log.forget(reply)
    assert reply not in await log.expired(limit=1000)


async def test_waiting_returns_what_is_there_already(log: GenerationLog, reply: GenerationId) -> None:
    lease = await log.acquire(reply, floor=1)
    await log.append(lease, events(1, 3))
    found = await log.wait_for_new({reply: 1}, timeout_seconds=1)
    assert {name: list(entries) for name, entries in found.items()} == {reply: events(2, 3)}


async def test_waiting_sees_a_write_at_once(log: GenerationLog, reply: GenerationId) -> None:
    lease = await log.acquire(reply, floor=1)
    waiting = asyncio.ensure_future(log.wait_for_new({reply: 0}, timeout_seconds=5))
    await asyncio.sleep(0.05)
    await log.append(lease, events(1, 1))
    async with asyncio.timeout(1):
        assert list((await waiting)[reply]) == events(1, 1)


async def test_waiting_ends_with_its_time_or_a_wake(log: GenerationLog, reply: GenerationId) -> None:
    assert not await log.wait_for_new({reply: 0}, timeout_seconds=0.05)
    waiting = asyncio.ensure_future(log.wait_for_new({reply: 0}, timeout_seconds=5))
    await asyncio.sleep(0.05)
    await log.wake()
    async with asyncio.timeout(1):
        assert not await waiting


async def test_wake_before_the_wait_is_not_lost(log: GenerationLog, reply: GenerationId) -> None:
    await log.wake()
    async with asyncio.timeout(1):
        assert not await log.wait_for_new({reply: 0}, timeout_seconds=5)


async def test_only_one_of_many_gets_the_lease(log: GenerationLog, reply: GenerationId) -> None:
    results = await asyncio.gather(*(log.acquire(reply, floor=1) for _ in range(10)), return_exceptions=True)
    assert sum(not isinstance(result, BaseException) for result in results) == 1
    assert all(isinstance(result, LeaseHeldError) for result in results if isinstance(result, BaseException))


async def test_epochs_only_grow_over_many_owners(log: GenerationLog, reply: GenerationId) -> None:
    epochs = []
    for floor in (1, 1, 5, 2):
        lease = await log.acquire(reply, floor=floor)
        epochs.append(lease.epoch)
        await log.release(lease)
    assert all(before < after for before, after in itertools.pairwise(epochs))
    assert epochs == [1, 2, 5, 6]


async def test_checking_a_server_that_is_there(log: GenerationLog) -> None:
    await log.check()
