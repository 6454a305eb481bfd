"""Producers die, logs and stores go away: the reply goes on from what was said, or says that it broke off."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
import structlog

from pratique.orchestrator.conversations import Outcome
from pratique.orchestrator.protocol.events import FinishReason
from pratique.orchestrator.sessions.feed import FeedLostError
from pratique.orchestrator.sessions.log.interface import Lease, LogEntry, LogMissingError, WriteReceipt
from pratique.orchestrator.sessions.takeover import Janitor
from pratique.orchestrator.sessions.transcript import Transcript
from pratique.orchestrator.upstream.interface import UpstreamEnd, UpstreamStart, UpstreamToken
from pratique.orchestrator.upstream.scripted import Hang, ScriptedUpstream, echo_text

pytestmark = pytest.mark.unit

House = Any
Reader = Any
START = UpstreamStart(model="m", prompt_tokens=3)
END = UpstreamEnd(finish_reason="stop", prompt_tokens=3, completion_tokens=1)
WHOLE = echo_text("one two three")


def say_and_hang(num_words: int) -> list[Any]:
    pieces = [piece for piece in WHOLE.replace(" ", "\0 ").split("\0") if piece]
    return [START, *(UpstreamToken(piece) for piece in pieces[:num_words]), Hang()]


async def stored_text(house: House, begun: Any) -> str:
    stored = await house.store.load_conversation(begun.conversation_id)
    return str(stored.conversation.turns[-1].text)


async def test_other_replica_goes_on_where_the_dead_one_stopped(house: House, reader: Reader) -> None:
    house.upstream = ScriptedUpstream([say_and_hang(5)])
    here, there = await house.replica(), await house.replica()
    begun = await house.say()
    await reader.read(here.begin(begun.generation), until=6)
    await house.crash(0)
    feed = await there.find(await house.record(begun))
    await reader.read(feed)
    assert reader.kinds == ["Started", "Token", "Continued", "Token", "Ended"]
    assert reader.events[6].reason == "orchestrator_lost"
    assert reader.text == WHOLE == await stored_text(house, begun)


async def test_begun_reply_whose_replica_died_before_its_first_event(house: House, reader: Reader) -> None:
    house.upstream = ScriptedUpstream([[Hang()]])
    here, there = await house.replica(), await house.replica()
    begun = await house.say()
    here.begin(begun.generation)
    await asyncio.sleep(0.01)
    await house.crash(0)
    feed = await there.find(await house.record(begun))
    await reader.read(feed)
    assert reader.kinds == ["Started", "Token", "Ended"]
    assert reader.text == WHOLE


async def test_stored_message_that_nobody_began_to_answer(house: House, reader: Reader) -> None:
    there = await house.replica()
    begun = await house.say()

    async def is_asked() -> bool:
        return bool(house.upstream.requests)

    await house.until(is_asked)
    feed = await there.find(await house.record(begun))
    await reader.read(feed)
    assert reader.text == WHOLE == await stored_text(house, begun)


async def test_reply_that_was_stored_but_never_said_to_have_ended(house: House, reader: Reader) -> None:
    begun = await house.say()
    lease = await house.log.acquire(begun.generation_id, floor=1)
    await house.store.claim(begun.generation_id, epoch=lease.epoch, holder="dead")
    said = Transcript(begun.conversation_id, begun.generation_id)
    entries: list[LogEntry | None] = [said.started(START), said.token("one"), said.token(" two")]
    await house.log.append(lease, [entry for entry in entries if entry])
    outcome = Outcome(text="one two three", finish_reason=FinishReason.STOP)
    finished = await house.store.finish(begun.generation_id, epoch=lease.epoch, outcome=outcome)
    there = await house.replica()
    feed = await there.find(await house.record(begun))
    await reader.read(feed)
    assert reader.text == "one two three"
    assert reader.ended.turn_id == finished.turn_id
    assert house.upstream.requests == []


async def test_log_that_was_gone_for_a_moment_when_the_end_was_told(
    house: House, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    append: Callable[[Lease, Sequence[LogEntry]], Awaitable[WriteReceipt]] = house.log.append
    lost: list[int] = []

    async def append_later(lease: Lease, entries: Sequence[LogEntry]) -> WriteReceipt:
        if entries and entries[-1].is_end and not lost:
            lost.append(entries[-1].seq)
            raise LogMissingError("It is gone.")
        return await append(lease, entries)

    monkeypatch.setattr(house.log, "append", append_later)
    sessions = await house.replica()
    begun = await house.say()
    with structlog.testing.capture_logs() as logs:
        await reader.read(sessions.begin(begun.generation))
    assert "producer_failed" not in [line["event"] for line in logs]
    assert lost == [reader.ended.seq]
    assert (await house.log.read(begun.generation_id, after_seq=0)).has_ended


async def test_what_was_said_differs_from_what_is_stored(house: House) -> None:
    begun = await house.say()
    lease = await house.log.acquire(begun.generation_id, floor=1)
    await house.store.claim(begun.generation_id, epoch=lease.epoch, holder="dead")
    said = Transcript(begun.conversation_id, begun.generation_id)
    await house.log.append(lease, [said.token("something else")])
    outcome = Outcome(text="one two three", finish_reason=FinishReason.STOP)
    await house.store.finish(begun.generation_id, epoch=lease.epoch, outcome=outcome)
    there = await house.replica()
    feed = await there.find(await house.record(begun))
    assert feed is not None
    async with asyncio.timeout(2):
        with pytest.raises(FeedLostError):
            async for _ in feed.follow(feed.last_seq):
                pass


async def test_fenced_producer_stops_and_stores_nothing(house: House, reader: Reader) -> None:
    gate = asyncio.Event()
    house.upstream = ScriptedUpstream([[*say_and_hang(3)[:-1], gate, UpstreamToken(" stale"), END], [Hang()]])
    here = await house.replica()
    begun = await house.say()
    feed = here.begin(begun.generation)
    await reader.read(feed, until=4)
    log = house.log._logs[begun.generation_id]
    log.lease_until = 0
    lease = await house.log.acquire(begun.generation_id, floor=1)
    await house.store.claim(begun.generation_id, epoch=lease.epoch, holder="other")
    gate.set()

    async def has_stopped() -> bool:
        return not here.is_made_here(begun.generation_id)

    await house.until(has_stopped)
    assert (await house.record(begun)).epoch == lease.epoch
    assert (await house.record(begun)).outcome is None
    assert feed.last_seq == 4
    # Its readers follow the new producer.
    said = Transcript(begun.conversation_id, begun.generation_id)
    said.replay((await house.log.read(begun.generation_id, after_seq=0)).entries)
    await house.log.append(lease, [said.token(" fresh")])
    await reader.read(feed, until=5)
    assert reader.text.endswith(" fresh")


async def test_readers_go_on_while_the_log_is_away_and_it_is_written_later(house: House, reader: Reader) -> None:
    gates = [asyncio.Event(), asyncio.Event()]
    script = [*say_and_hang(3)[:-1], gates[0], UpstreamToken(" a"), UpstreamToken(" b"), gates[1], END]
    house.upstream = ScriptedUpstream([script])
    here = await house.replica()
    begun = await house.say()
    feed = here.begin(begun.generation)
    await reader.read(feed, until=4)
    house.log.break_down()
    gates[0].set()
    await reader.read(feed, until=6, seconds=2)
    house.log.break_down(is_down=False)

    async def has_caught_up() -> bool:
        return bool((await house.log.read(begun.generation_id, after_seq=0)).last_seq == 6)

    await house.until(has_caught_up)
    gates[1].set()
    await reader.read(feed)
    assert reader.text == "one-0 two-1 three-2 a b" == await stored_text(house, begun)
    assert (await house.log.read(begun.generation_id, after_seq=0)).has_ended


async def test_log_that_lost_everything_is_written_anew_from_memory(house: House, reader: Reader) -> None:
    gate = asyncio.Event()
    house.upstream = ScriptedUpstream([[*say_and_hang(3)[:-1], gate, UpstreamToken(" end"), END]])
    here, there = await house.replica(), await house.replica()
    begun = await house.say()
    feed = here.begin(begun.generation)
    await feed.wait_for(4)
    house.log.lose_everything()
    other = await there.find(await house.record(begun))
    assert other is not None
    await reader.read(other, until=4, seconds=3)
    gate.set()
    await reader.read(other)
    assert reader.text == "one-0 two-1 three-2 end" == await stored_text(house, begun)
    assert len(house.upstream.requests) == 1


async def test_reply_is_made_although_the_log_is_away_from_the_start(house: House, reader: Reader) -> None:
    house.log.break_down()
    here = await house.replica()
    begun = await house.say()
    await reader.read(here.begin(begun.generation))
    assert reader.text == WHOLE == await stored_text(house, begun)


async def test_lost_log_and_lost_producer_leave_an_explicit_end(house: House, reader: Reader) -> None:
    house.upstream = ScriptedUpstream([say_and_hang(3)])
    here = await house.replica()
    begun = await house.say()
    await reader.read(here.begin(begun.generation), until=4)
    await house.crash(0)
    house.log.lose_everything()
    await house.replica()

    async def has_ended() -> bool:
        return (await house.record(begun)).outcome is not None

    await house.until(has_ended)
    record = await house.record(begun)
    assert record.outcome.error.code == "interrupted"
    assert len(house.upstream.requests) == 1


async def test_log_of_a_conversation_that_is_gone_is_forgotten(house: House) -> None:
    begun = await house.say()
    await house.log.acquire(begun.generation_id, floor=1)
    await house.store.delete(owner=house.owner, conversation_id=begun.conversation_id)
    await house.replica()

    async def is_forgotten() -> bool:
        return bool(await house.log.missing([begun.generation_id]))

    await house.until(is_forgotten)


async def test_takeover_waits_for_a_store_that_is_away(house: House, reader: Reader) -> None:
    house.upstream = ScriptedUpstream([say_and_hang(3)])
    here, there = await house.replica(), await house.replica()
    begun = await house.say()
    await reader.read(here.begin(begun.generation), until=4)
    record = await house.record(begun)
    await house.crash(0)
    house.store.unavailable = True
    await asyncio.sleep(0.5)
    house.store.unavailable = False
    await reader.read(await there.find(record))
    assert reader.text == WHOLE


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_dies_whenever_nothing_is_lost_or_doubled(house: House, reader: Reader, seed: int) -> None:
    """Replicas and model servers die at random moments; every reader sees each event once, and what is stored."""
    dice = random.Random(seed)  # noqa: S311 - dice
    house.limits = type(house.limits)(model_wait_seconds=2, continue_wait_seconds=2, max_losses=50)
    house.upstream = ScriptedUpstream(words=30, pause_seconds=0.004)
    replicas = [await house.replica() for _ in range(2)]
    begun = await house.say(max_tokens=200)
    feed = replicas[0].begin(begun.generation)
    for _ in range(3):
        try:
            await reader.read(feed, until=reader.last_seq + dice.randint(1, 8))
        except FeedLostError:
            pytest.fail("a feed was lost")
        if reader.events and type(reader.events[-1]).__name__ == "Ended":
            break
        victim = dice.randrange(len(replicas))
        await house.crash(victim)
        replicas[victim] = await house.replica()
        house._stacks[victim], house._stacks[-1] = house._stacks[-1], house._stacks[victim]
        house._stacks.pop()
        feed = await replicas[dice.randrange(len(replicas))].find(await house.record(begun))
        assert feed is not None
    if type(reader.events[-1]).__name__ != "Ended":
        await reader.read(feed)
    assert reader.text == echo_text("one two three", words=30) == await stored_text(house, begun)


async def test_background_task_that_fails_is_told_at_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(_: Janitor) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Janitor, "run", broken)
    with structlog.testing.capture_logs() as logs, pytest.raises(ExceptionGroup):
        async with house.stopped_replica().running():
            await asyncio.sleep(5)
    assert [log["event"] for log in logs if log["log_level"] == "error"] == ["sessions_failed"]
