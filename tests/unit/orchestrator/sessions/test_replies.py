"""One reply, from its beginning to its end: what readers see is what is stored, whatever happens on the way."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
import structlog

from pratique.core.ids import ConversationId
from pratique.orchestrator.conversations import (
    BegunTurn,
    GenerationNotFoundError,
    GenerationStatus,
    StoredConversation,
)
from pratique.orchestrator.protocol.events import FinishReason, TurnStatus
from pratique.orchestrator.sessions.feed import FeedLostError
from pratique.orchestrator.sessions.log.interface import LogLimits, LogUnavailableError
from pratique.orchestrator.sessions.sessions import DrainingError, OverloadedError
from pratique.orchestrator.sessions.writer import WriterSettings
from pratique.orchestrator.upstream.interface import (
    UpstreamEnd,
    UpstreamInterruptedError,
    UpstreamRefusedError,
    UpstreamStart,
    UpstreamToken,
    UpstreamUnavailableError,
)
from pratique.orchestrator.upstream.scripted import Hang, Pause, ScriptedUpstream, echo_text

pytestmark = pytest.mark.unit

House = Any
Reader = Any
START = UpstreamStart(model="m", prompt_tokens=3)
END = UpstreamEnd(finish_reason="stop", prompt_tokens=3, completion_tokens=1)
WHOLE = echo_text("one two three")


def cut_after(num_words: int) -> list[Any]:
    """Say the beginning of the echo, and die."""
    pieces = [piece for piece in WHOLE.replace(" ", "\0 ").split("\0") if piece]
    return [START, *(UpstreamToken(piece) for piece in pieces[:num_words]), UpstreamInterruptedError("killed")]


async def stored_text(house: House, begun: Any) -> str:
    stored = await house.store.load_conversation(begun.conversation_id)
    return str(stored.conversation.turns[-1].text)


async def test_reply_is_streamed_then_stored_then_ended(house: House, reader: Reader) -> None:
    sessions = await house.replica()
    begun = await house.say()
    await reader.read(sessions.begin(begun.generation))
    assert reader.kinds == ["Started", "Token", "Ended"]
    assert reader.text == WHOLE == await stored_text(house, begun)
    turn = (await house.store.load_conversation(begun.conversation_id)).conversation.turns[-1]
    assert (turn.turn_id, turn.status) == (reader.ended.turn_id, TurnStatus.COMPLETE)
    assert reader.ended.finish_reason is FinishReason.STOP
    assert reader.ended.usage is not None
    assert house.written[-1].conversation.turns[-1] == turn
    log = await house.log.read(begun.generation_id, after_seq=0)
    assert (log.has_ended, log.last_seq) == (True, reader.last_seq)


async def test_reader_that_comes_later_gets_everything_after_its_cursor(
    house: House, reader: Reader, request: pytest.FixtureRequest
) -> None:
    sessions = await house.replica()
    begun = await house.say()
    feed = sessions.begin(begun.generation)
    await reader.read(feed)
    for cursor in range(reader.last_seq + 1):
        late = type(reader)()
        late.events = reader.events[:cursor]
        await late.read(feed)
        assert late.events == reader.events


async def test_lost_model_server_is_continued_without_loss_or_double(house: House, reader: Reader) -> None:
    house.upstream = ScriptedUpstream([cut_after(4)])
    sessions = await house.replica()
    begun = await house.say()
    await reader.read(sessions.begin(begun.generation))
    assert reader.kinds == ["Started", "Token", "Continued", "Token", "Ended"]
    assert reader.text == WHOLE == await stored_text(house, begun)
    assert house.upstream.requests[1].prefix == "one-0 two-1 three-2 one-3"
    assert house.upstream.requests[1].max_tokens == 96
    assert reader.ended.usage.completion_tokens == 20


async def test_server_lost_before_its_first_word_is_simply_asked_again(house: House, reader: Reader) -> None:
    house.upstream = ScriptedUpstream([cut_after(0)])
    sessions = await house.replica()
    begun = await house.say()
    await reader.read(sessions.begin(begun.generation))
    assert reader.kinds == ["Started", "Token", "Ended"]
    assert reader.text == WHOLE


async def test_servers_lost_too_often_leave_an_explicit_partial(house: House, reader: Reader) -> None:
    house.upstream = ScriptedUpstream([cut_after(2)] + [[START, UpstreamInterruptedError("killed")]] * 9)
    sessions = await house.replica()
    begun = await house.say()
    await reader.read(sessions.begin(begun.generation))
    assert reader.ended.finish_reason is FinishReason.ERROR
    assert reader.ended.error.code == "interrupted"
    assert reader.text == "one-0 two-1" == await stored_text(house, begun)
    turn = (await house.store.load_conversation(begun.conversation_id)).conversation.turns[-1]
    assert turn.status is TurnStatus.PARTIAL
    assert len(house.upstream.requests) == house.limits.max_losses + 1


async def test_model_that_warms_up_is_waited_for(house: House, reader: Reader) -> None:
    house.upstream = ScriptedUpstream([[UpstreamUnavailableError("loading")]] * 3)
    sessions = await house.replica()
    begun = await house.say()
    await reader.read(sessions.begin(begun.generation))
    assert reader.text == WHOLE


async def test_model_that_never_comes_is_said_so(house: House, reader: Reader) -> None:
    house.upstream = ScriptedUpstream([[UpstreamUnavailableError("loading")]] * 99)
    sessions = await house.replica()
    begun = await house.say()
    await reader.read(sessions.begin(begun.generation))
    assert reader.kinds == ["Ended"]
    assert (reader.ended.error.code, reader.ended.turn_id) == ("model_unavailable", None)
    stored = await house.store.load_conversation(begun.conversation_id)
    assert len(stored.conversation.turns) == 1
    assert stored.conversation.active_generation_id is None


async def test_silent_model_is_a_first_token_timeout(house: House, reader: Reader) -> None:
    house.limits = type(house.limits)(model_wait_seconds=0.4, answer_seconds=0.5)
    house.upstream = ScriptedUpstream([[START, Hang()]] * 9)
    sessions = await house.replica()
    begun = await house.say()
    await reader.read(sessions.begin(begun.generation))
    assert len(house.upstream.requests) == 2
    assert reader.kinds == ["Started", "Ended"]
    assert reader.ended.finish_reason is FinishReason.TIMEOUT
    assert reader.ended.error.code == "first_token_timeout"
    assert len(house.upstream.aborted) == 2


async def test_retry_is_marked_as_one_given_less_time_and_sent_elsewhere(house: House, reader: Reader) -> None:
    house.limits = type(house.limits)(answer_seconds=2.0)
    house.upstream = ScriptedUpstream([[START, Hang()]])
    sessions = await house.replica()
    begun = await house.say()
    await reader.read(sessions.begin(begun.generation))
    assert reader.text == WHOLE
    first, second = house.upstream.requests
    assert (first.is_retry, second.is_retry) == (False, True)
    assert first.first_text_seconds == pytest.approx(1.96)
    assert second.first_text_seconds < 1.7
    assert second.timeout_seconds < first.timeout_seconds
    assert (first.affinity, second.affinity) == ("", f"{begun.conversation_id}-2")


async def test_model_that_falls_silent_is_continued_elsewhere(house: House, reader: Reader) -> None:
    house.upstream = ScriptedUpstream([[*cut_after(3)[:-1], Hang()]])
    sessions = await house.replica()
    begun = await house.say()
    await reader.read(sessions.begin(begun.generation))
    assert reader.kinds == ["Started", "Token", "Continued", "Token", "Ended"]
    assert reader.text == WHOLE
    assert len(house.upstream.aborted) == 1


async def test_models_that_all_fall_silent_are_an_inter_token_timeout(house: House, reader: Reader) -> None:
    silences: list[list[Any]] = [[START, UpstreamToken("x"), Hang()] for _ in range(9)]
    house.upstream = ScriptedUpstream([[*cut_after(3)[:-1], Hang()], *silences])
    sessions = await house.replica()
    begun = await house.say()
    await reader.read(sessions.begin(begun.generation))
    assert reader.ended.finish_reason is FinishReason.TIMEOUT
    assert reader.ended.error.code == "inter_token_timeout"
    assert reader.text == await stored_text(house, begun)


@pytest.mark.parametrize(
    ("refused", "said"), [("context_length_exceeded", "context_length_exceeded"), ("invalid_request", "engine_error")]
)
async def test_refusal_is_not_repeated(house: House, reader: Reader, refused: str, said: str) -> None:
    house.upstream = ScriptedUpstream([[UpstreamRefusedError("too long", refused_code=refused, hint="shorter")]])
    sessions = await house.replica()
    begun = await house.say()
    await reader.read(sessions.begin(begun.generation))
    assert (reader.ended.error.code, reader.ended.error.hint) == (said, "shorter")
    assert len(house.upstream.requests) == 1


async def test_limit_of_tokens_holds_across_continuations(house: House, reader: Reader) -> None:
    house.upstream = ScriptedUpstream([cut_after(4), cut_after(0)])
    sessions = await house.replica()
    begun = await house.say(max_tokens=4)
    await reader.read(sessions.begin(begun.generation))
    assert reader.ended.finish_reason is FinishReason.LENGTH
    assert reader.text == "one-0 two-1 three-2 one-3"


async def test_reply_that_outgrows_its_log_ends_there(house: House, reader: Reader) -> None:
    house.max_bytes = 1000
    sessions = await house.replica()
    begun = await house.say()
    await reader.read(sessions.begin(begun.generation))
    assert reader.ended.finish_reason is FinishReason.LENGTH
    assert WHOLE.startswith(reader.text)
    assert reader.text == await stored_text(house, begun)


async def test_model_that_outruns_the_log_is_not_read_on_until_there_is_room(house: House, reader: Reader) -> None:
    words = [UpstreamToken(f"{number} ") for number in range(2000)]
    steps: list[Any] = [START, *words, UpstreamEnd(finish_reason="stop", prompt_tokens=3, completion_tokens=2000)]
    house.upstream = ScriptedUpstream([steps])
    append, gate = house.log.append, asyncio.Event()

    async def gated(*arguments: Any) -> Any:
        await gate.wait()
        return await append(*arguments)

    house.log.append = gated
    sessions = await house.replica()
    begun = await house.say(max_tokens=2000)
    opened: list[Any] = []
    open_stream = house.upstream.open

    def opening(request: Any) -> Any:
        opened.append(open_stream(request))
        return opened[-1]

    house.upstream.open = opening
    feed = sessions.begin(begun.generation)
    await asyncio.sleep(0.05)  # less than after which the log counts as away
    assert len(opened[0]._steps) > 2000 - WriterSettings().max_pending - 10
    gate.set()
    await reader.read(feed)
    assert reader.text == "".join(word.text for word in words)
    assert reader.text == await stored_text(house, begun)


async def test_fault_of_ours_ends_the_reply(house: House, reader: Reader) -> None:
    house.upstream = ScriptedUpstream([[START, UpstreamToken("a"), ZeroDivisionError("ours")]])
    sessions = await house.replica()
    begun = await house.say()
    await reader.read(sessions.begin(begun.generation))
    assert (reader.ended.error.code, reader.text) == ("engine_error", "a")


async def test_history_is_read_through_the_caches(house: House, reader: Reader) -> None:
    begun: BegunTurn = await house.say()
    recalled: list[ConversationId] = []

    async def recall(name: ConversationId) -> StoredConversation:
        recalled.append(name)
        return begun.conversation

    house.recall = recall
    await reader.read((await house.replica()).begin(begun.generation))
    assert recalled == [begun.conversation_id]
    assert house.upstream.requests[0].query == "one two three"


async def test_cached_conversation_without_the_question_is_not_enough(house: House, reader: Reader) -> None:
    old: BegunTurn = await house.say("before")

    async def recall(_: ConversationId) -> StoredConversation:
        return old.conversation

    house.recall = recall
    begun = await house.say()
    await reader.read((await house.replica()).begin(begun.generation))
    assert house.upstream.requests[0].query == "one two three"


async def test_cancel_here_stops_at_once_and_keeps_what_was_said(house: House, reader: Reader) -> None:
    house.upstream = ScriptedUpstream([[*cut_after(3)[:-1], Hang()]])
    sessions = await house.replica()
    begun = await house.say()
    feed = sessions.begin(begun.generation)
    await reader.read(feed, until=4)
    assert await sessions.cancel(await house.record(begun)) is True
    await reader.read(feed, seconds=1)
    assert reader.ended.finish_reason is FinishReason.CANCELLED
    assert reader.text == "one-0 two-1 three-2" == await stored_text(house, begun)
    assert len(house.upstream.aborted) == 1
    assert await sessions.cancel(await house.record(begun)) is False


async def test_cancel_from_another_replica(house: House, reader: Reader) -> None:
    house.upstream = ScriptedUpstream([[*cut_after(3)[:-1], Hang()]])
    here, there = await house.replica(), await house.replica()
    begun = await house.say()
    await reader.read(here.begin(begun.generation), until=4)
    assert await there.cancel(await house.record(begun)) is True
    followed = await there.find(await house.record(begun))
    await reader.read(followed, seconds=2)
    assert reader.ended.finish_reason is FinishReason.CANCELLED
    assert len(house.upstream.aborted) == 1


async def test_cancel_of_what_nobody_began(house: House, reader: Reader) -> None:
    sessions = await house.replica()
    begun = await house.say()
    assert await sessions.cancel(begun.generation) is True
    feed = await sessions.find(await house.record(begun))
    assert feed is not None
    await reader.read(feed)
    assert reader.ended.finish_reason is FinishReason.CANCELLED
    assert house.upstream.requests == [] or house.upstream.aborted


async def test_other_replica_follows_live(house: House, reader: Reader) -> None:
    gate = asyncio.Event()
    house.upstream = ScriptedUpstream([[*cut_after(3)[:-1], gate, UpstreamToken(" end"), END]])
    here, there = await house.replica(), await house.replica()
    begun = await house.say()
    local = here.begin(begun.generation)
    await local.wait_for(4)
    feed = await there.find(await house.record(begun))
    await reader.read(feed, until=4)
    gate.set()
    await reader.read(feed, seconds=2)
    assert reader.text == "one-0 two-1 three-2 end"
    assert not there.is_made_here(begun.generation_id)
    # Only the replica that did not make it may have missed what it did to the conversation.
    assert house.distrusted == [begun.conversation_id]


async def test_second_begin_elsewhere_finds_the_lease_held(house: House, reader: Reader) -> None:
    gate = asyncio.Event()
    house.upstream = ScriptedUpstream([[*cut_after(2)[:-1], gate, END]])
    here, there = await house.replica(), await house.replica()
    begun = await house.say()
    first, second = here.begin(begun.generation), there.begin(begun.generation)
    await first.wait_for(3)
    gate.set()
    await reader.read(second)
    assert reader.text == "one-0 two-1"
    assert len(house.upstream.requests) == 1


async def test_deleted_conversation_stops_its_reply(house: House) -> None:
    gate = asyncio.Event()
    house.upstream = ScriptedUpstream([[*cut_after(2)[:-1], gate, END]])
    sessions = await house.replica()
    begun = await house.say()
    feed = sessions.begin(begun.generation)
    await feed.wait_for(3)
    await house.store.delete(owner=house.owner, conversation_id=begun.conversation_id)
    gate.set()
    with pytest.raises(FeedLostError):
        async for _ in feed.follow(3):
            pass
    assert list(await house.log.missing([begun.generation_id])) == [begun.generation_id]
    with pytest.raises(GenerationNotFoundError):
        await house.record(begun)


async def test_store_that_is_away_at_the_end_is_waited_for(house: House, reader: Reader) -> None:
    gate = asyncio.Event()
    house.upstream = ScriptedUpstream([[*cut_after(2)[:-1], gate, END]])
    sessions = await house.replica()
    begun = await house.say()
    feed = sessions.begin(begun.generation)
    await feed.wait_for(3)
    house.store.unavailable = True
    gate.set()
    await asyncio.sleep(0.05)
    assert not feed.has_ended
    house.store.unavailable = False
    await reader.read(feed)
    assert reader.text == "one-0 two-1" == await stored_text(house, begun)


async def test_full_replica_takes_no_more(house: House) -> None:
    house.max_running = 1
    house.upstream = ScriptedUpstream([[Hang()]])
    sessions = await house.replica()
    sessions.verify_room()
    sessions.begin((await house.say()).generation)
    with pytest.raises(OverloadedError):
        sessions.verify_room()


async def test_drain_waits_for_replies_that_end_in_time(house: House, reader: Reader) -> None:
    house.upstream = ScriptedUpstream([[START, Pause(0.05), UpstreamToken("late"), END]])
    sessions = await house.replica()
    begun = await house.say()
    feed = sessions.begin(begun.generation)
    await sessions.drain(seconds=2)
    assert feed.has_ended
    assert (await house.record(begun)).status is GenerationStatus.FINISHED
    with pytest.raises(DrainingError):
        sessions.verify_room()


async def test_drain_hands_over_what_does_not(house: House, reader: Reader) -> None:
    house.log._limits = LogLimits(lease_seconds=30)
    house.upstream = ScriptedUpstream([[*cut_after(3)[:-1], Pause(0.1), Pause(0.1), Hang()]])
    here = await house.replica()
    begun = await house.say()
    feed = here.begin(begun.generation)
    await reader.read(feed, until=4)
    await house.replica()
    await here.drain(seconds=0.01)
    # Its readers here see the other replica go on, without a wait for the lease to run out.
    await reader.read(feed, seconds=5)
    assert reader.kinds == ["Started", "Token", "Continued", "Token", "Ended"]
    assert reader.text == WHOLE == await stored_text(house, begun)


async def test_drain_returns_where_a_store_that_hangs_keeps_a_reply(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(*_: object, **__: object) -> None:
        asked.set()
        await asyncio.Event().wait()

    asked = asyncio.Event()
    monkeypatch.setattr(house.store, "claim", hang)
    sessions = await house.replica()
    sessions._settings = replace(sessions._settings, hand_over_seconds=0.02)
    sessions.begin((await house.say()).generation)
    await asyncio.wait_for(asked.wait(), 2)
    with structlog.testing.capture_logs() as logs:
        await asyncio.wait_for(sessions.drain(seconds=0.01), 2)
    assert [(entry["event"], entry["num_running"]) for entry in logs][-1] == ("replies_not_handed_over", 1)


async def test_finished_reply_whose_log_cannot_be_read(house: House) -> None:
    here, there = await house.replica(), await house.replica()
    begun = await house.say()
    feed = here.begin(begun.generation)
    async with asyncio.timeout(2):
        async for _ in feed.follow(0):
            pass
    record = await house.record(begun)
    house.log.break_down()
    with pytest.raises(LogUnavailableError):
        await there.find(record)
    house.log.break_down(is_down=False)
    house.log.lose_everything()
    assert await there.find(record) is None
    assert await here.find(record) is feed


async def test_old_feeds_leave_memory(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = await house.replica()
    sessions._settings = type(sessions._settings)(max_kept_bytes=1)
    for _ in range(3):
        feed = sessions.begin((await house.say()).generation)
        await feed.wait_for(99)
    await sessions.drain(seconds=1)
    assert len(sessions._feeds) <= 1


async def test_lost_feeds_that_nobody_reads_leave_memory(house: House) -> None:
    sessions = await house.replica()
    sessions._look_for_lost_at = 2
    lost = sessions.begin((await house.say()).generation)
    await lost.wait_for(99)
    lost.lose()
    kept = sessions.begin((await house.say()).generation)
    await kept.wait_for(99)
    await sessions.drain(seconds=1)
    assert list(sessions._feeds.values()) == [kept]
    assert sessions._ended_bytes == kept.num_bytes
