"""The contract of conversation stores, over every one of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from pratique.core.ids import ConversationId, GenerationId
from pratique.orchestrator.conversations import (
    ClientMessageConflictError,
    ConversationNotFoundError,
    FencedError,
    GenerationFinishedError,
    GenerationNotFoundError,
    GenerationOptions,
    GenerationRunningError,
    GenerationStatus,
    InvalidCursorError,
    InvalidTitleError,
    NothingToRetryError,
    Outcome,
    StoreUnavailableError,
)
from pratique.orchestrator.protocol.events import EventError, FinishReason, Role, TurnStatus, Usage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

pytestmark = pytest.mark.unit

# A `Talk` of conftest.py, which importlib mode keeps from being imported by name.
Talk = Any

STOPPED = Outcome(
    text="Paris.",
    finish_reason=FinishReason.STOP,
    usage=Usage(prompt_tokens=9, completion_tokens=2),
    was_truncated=True,
    turns_dropped=3,
    model="small",
)
CUT = Outcome(text="Par", finish_reason=FinishReason.CANCELLED)
FAILED = Outcome(
    text="", finish_reason=FinishReason.ERROR, error=EventError(code="model_unavailable", message="no model", hint="h")
)
NOWHERE = ConversationId("conv_none")


class TestAttacks:
    async def test_another_principals_conversation_is_not_found_by_any_write(self, talk: Talk) -> None:
        begun = await talk.say()
        await talk.store.finish(begun.generation_id, epoch=1, outcome=CUT)
        there = begun.conversation_id
        attempts: list[Awaitable[object]] = [
            talk.say("mine now", to=there, by=talk.bob),
            talk.store.begin_retry(owner=talk.bob, conversation_id=there, client_message_id="steal-0001"),
            talk.store.rename(owner=talk.bob, conversation_id=there, title="mine"),
            talk.store.delete(owner=talk.bob, conversation_id=there),
        ]
        for attempt in attempts:
            with pytest.raises(ConversationNotFoundError) as refused:
                await attempt
            assert "usr_" not in str(refused.value)
        assert (await talk.store.load_conversation(there)).version == 2

    async def test_an_unknown_conversation_looks_like_another_principals(self, talk: Talk) -> None:
        begun = await talk.say()
        with pytest.raises(ConversationNotFoundError) as unknown:
            await talk.say("x", to=NOWHERE, by=talk.bob)
        with pytest.raises(ConversationNotFoundError) as foreign:
            await talk.say("x", to=begun.conversation_id, by=talk.bob)
        assert str(unknown.value).replace(NOWHERE, "") == str(foreign.value).replace(begun.conversation_id, "")

    async def test_a_stale_epoch_can_neither_claim_nor_finish(self, talk: Talk) -> None:
        begun = await talk.say()
        await talk.store.claim(begun.generation_id, epoch=5, holder="b")
        for stale in (1, 4):
            with pytest.raises(FencedError) as fenced:
                await talk.store.claim(begun.generation_id, epoch=stale, holder="a")
            assert fenced.value.stored_epoch == 5
            with pytest.raises(FencedError):
                await talk.store.finish(begun.generation_id, epoch=stale, outcome=STOPPED)
        record = await talk.store.load_generation(begun.generation_id)
        assert (record.status, record.epoch) == (GenerationStatus.RUNNING, 5)

    async def test_the_same_epoch_from_another_holder_is_fenced(self, talk: Talk) -> None:
        begun = await talk.say()
        await talk.store.claim(begun.generation_id, epoch=2, holder="a")
        with pytest.raises(FencedError):
            await talk.store.claim(begun.generation_id, epoch=2, holder="b")
        assert (await talk.store.claim(begun.generation_id, epoch=2, holder="a")).epoch == 2

    async def test_epoch_zero_claims_nothing(self, talk: Talk) -> None:
        begun = await talk.say()
        with pytest.raises(FencedError):
            await talk.store.claim(begun.generation_id, epoch=0)

    @pytest.mark.parametrize("cursor", ["", "x", "é", "=", "AAAA", "W10", "WzEsMl0", "bnVsbA", "a" * 5000])
    async def test_a_forged_cursor_is_refused(self, talk: Talk, cursor: str) -> None:
        with pytest.raises(InvalidCursorError):
            await talk.store.list_conversations(owner=talk.ann, limit=5, before=cursor)

    async def test_the_same_message_id_with_something_else_is_a_conflict(self, talk: Talk) -> None:
        first = await talk.say("one", message="message-x")
        await talk.store.finish(first.generation_id, epoch=1, outcome=CUT)
        other = await talk.say("two")
        for text, to in (("two", None), ("one", other.conversation_id)):
            with pytest.raises(ClientMessageConflictError):
                await talk.say(text, to=to, message="message-x")
        with pytest.raises(ClientMessageConflictError):
            await talk.store.begin_retry(
                owner=talk.ann, conversation_id=first.conversation_id, client_message_id="message-x"
            )

    async def test_a_message_into_a_conversation_does_not_repeat_as_a_new_conversation(self, talk: Talk) -> None:
        first = await talk.say("one")
        await talk.store.finish(first.generation_id, epoch=1, outcome=STOPPED)
        await talk.say("two", to=first.conversation_id, message="message-x")
        with pytest.raises(ClientMessageConflictError):
            await talk.say("two", message="message-x")

    async def test_hostile_text_is_stored_as_it_is(self, talk: Talk) -> None:
        text = "'); DROP TABLE turns; --\x00\u202e\U0001d54f\U0001f468\u200d\U0001f469\r\n"
        begun = await talk.say(text)
        assert (await talk.store.load_conversation(begun.conversation_id)).conversation.turns[0].text == text

    async def test_what_utf8_cannot_hold_is_replaced(self, talk: Talk) -> None:
        begun = await talk.say("a\ud800b")
        assert begun.conversation.conversation.turns[0].text == "a\ufffdb"
        ended = await talk.store.finish(
            begun.generation_id, epoch=1, outcome=Outcome(text="\udc00c", finish_reason=FinishReason.STOP)
        )
        assert ended.conversation.conversation.turns[1].text == "\ufffdc"


class TestBegin:
    async def test_a_first_message_begins_a_titled_conversation_with_a_running_generation(self, talk: Talk) -> None:
        begun = await talk.say("What is\nthe capital of France?")
        conversation = begun.conversation.conversation
        assert begun.conversation.owner == talk.ann
        assert (conversation.title, conversation.version) == ("What is the capital of France?", 1)
        assert conversation.active_generation_id == begun.generation_id
        (turn,) = conversation.turns
        assert (turn.role, turn.status, turn.turn_id) == (Role.USER, TurnStatus.COMPLETE, begun.user_turn_id)
        assert turn.generation_id == begun.generation_id
        assert begun.generation.epoch == 0
        assert begun.generation.outcome is None
        assert begun.duplicate is False
        assert await talk.store.load_conversation(begun.conversation_id) == begun.conversation
        assert await talk.store.load_generation(begun.generation_id) == begun.generation

    async def test_a_second_message_while_a_reply_is_made_is_refused(self, talk: Talk) -> None:
        begun = await talk.say()
        with pytest.raises(GenerationRunningError) as refused:
            await talk.say("and?", to=begun.conversation_id)
        assert refused.value.generation_id == begun.generation_id
        assert await talk.store.load_conversation(begun.conversation_id) == begun.conversation

    async def test_a_repeated_message_is_stored_once(self, talk: Talk) -> None:
        first = await talk.say("one", message="message-x")
        again = await talk.say("one", message="message-x")
        named = await talk.say("one", message="message-x", to=first.conversation_id)
        assert again.duplicate
        assert named.duplicate
        assert again.generation == named.generation == first.generation
        assert again.conversation == first.conversation

    async def test_a_repeat_after_the_end_shows_the_end(self, talk: Talk) -> None:
        first = await talk.say("one", message="message-x")
        await talk.store.finish(first.generation_id, epoch=1, outcome=STOPPED)
        again = await talk.say("one", message="message-x")
        assert again.duplicate
        assert again.generation.outcome == STOPPED
        assert again.conversation.version == 2

    async def test_two_principals_may_use_the_same_message_id(self, talk: Talk) -> None:
        first = await talk.say("one", message="message-x")
        second = await talk.say("two", message="message-x", by=talk.bob)
        assert not second.duplicate
        assert second.conversation_id != first.conversation_id

    async def test_of_many_at_once_with_one_id_one_is_stored(self, talk: Talk) -> None:
        begun = await asyncio.gather(*(talk.say("one", message="message-x") for _ in range(20)))
        assert sum(not one.duplicate for one in begun) == 1
        assert len({one.generation_id for one in begun}) == 1

    async def test_of_many_at_once_in_one_conversation_one_begins(self, talk: Talk) -> None:
        first = await talk.say()
        await talk.store.finish(first.generation_id, epoch=1, outcome=STOPPED)
        told = await asyncio.gather(
            *(talk.say("more", to=first.conversation_id) for _ in range(10)), return_exceptions=True
        )
        assert sum(isinstance(one, GenerationRunningError) for one in told) == 9
        assert len((await talk.store.load_conversation(first.conversation_id)).conversation.turns) == 3


class TestFinish:
    async def test_the_reply_is_stored_with_all_that_is_known_of_it(self, talk: Talk) -> None:
        begun = await talk.say()
        await talk.clock.advance(3)
        ended = await talk.store.finish(begun.generation_id, epoch=1, outcome=STOPPED)
        turn = ended.conversation.conversation.turns[1]
        assert turn.turn_id == ended.turn_id == ended.generation.turn_id
        assert (turn.role, turn.text, turn.status) == (Role.ASSISTANT, "Paris.", TurnStatus.COMPLETE)
        assert (turn.finish_reason, turn.generation_id) == (FinishReason.STOP, begun.generation_id)
        assert (turn.was_truncated, turn.turns_dropped, turn.error) == (True, 3, None)
        assert turn.created_at == ended.conversation.conversation.updated_at == talk.clock.epoch()
        assert ended.conversation.version == 2
        assert ended.conversation.conversation.active_generation_id is None
        assert not ended.already
        assert await talk.store.load_generation(begun.generation_id) == ended.generation
        assert await talk.store.load_conversation(begun.conversation_id) == ended.conversation

    @pytest.mark.parametrize("reason", list(FinishReason))
    async def test_all_but_stop_and_length_leave_a_partial_turn(self, talk: Talk, reason: FinishReason) -> None:
        begun = await talk.say()
        outcome = Outcome(text="Par", finish_reason=reason)
        ended = await talk.store.finish(begun.generation_id, epoch=1, outcome=outcome)
        whole = reason in {FinishReason.STOP, FinishReason.LENGTH}
        expected = TurnStatus.COMPLETE if whole else TurnStatus.PARTIAL
        assert ended.conversation.conversation.turns[1].status is expected

    async def test_a_failure_before_the_first_token_marks_the_user_turn(self, talk: Talk) -> None:
        begun = await talk.say()
        ended = await talk.store.finish(begun.generation_id, epoch=1, outcome=FAILED)
        assert ended.turn_id is None
        (turn,) = ended.conversation.conversation.turns
        assert (turn.role, turn.finish_reason, turn.error) == (Role.USER, FinishReason.ERROR, FAILED.error)
        assert ended.generation.outcome == FAILED

    async def test_an_empty_reply_that_stopped_is_a_reply(self, talk: Talk) -> None:
        begun = await talk.say()
        ended = await talk.store.finish(
            begun.generation_id, epoch=1, outcome=Outcome(text="", finish_reason=FinishReason.STOP)
        )
        assert ended.turn_id is not None

    async def test_a_second_end_changes_nothing_whatever_its_epoch(self, talk: Talk) -> None:
        begun = await talk.say()
        first = await talk.store.finish(begun.generation_id, epoch=3, outcome=STOPPED)
        for epoch in (1, 3, 9):
            again = await talk.store.finish(begun.generation_id, epoch=epoch, outcome=CUT)
            assert again.already
            assert (again.generation, again.conversation) == (first.generation, first.conversation)

    async def test_a_finished_generation_cannot_be_claimed(self, talk: Talk) -> None:
        begun = await talk.say()
        ended = await talk.store.finish(begun.generation_id, epoch=1, outcome=STOPPED)
        with pytest.raises(GenerationFinishedError) as refused:
            await talk.store.claim(begun.generation_id, epoch=9)
        assert refused.value.record == ended.generation

    async def test_of_many_ends_at_once_one_counts(self, talk: Talk) -> None:
        begun = await talk.say()
        ends = await asyncio.gather(
            *(
                talk.store.finish(
                    begun.generation_id, epoch=1, outcome=Outcome(text=f"{n}", finish_reason=FinishReason.STOP)
                )
                for n in range(10)
            )
        )
        assert sum(not end.already for end in ends) == 1
        assert len({end.turn_id for end in ends}) == 1

    async def test_the_next_message_follows_the_reply(self, talk: Talk) -> None:
        begun = await talk.say()
        await talk.store.finish(begun.generation_id, epoch=1, outcome=STOPPED)
        more = await talk.say("and of Spain?", to=begun.conversation_id)
        turns = more.conversation.conversation.turns
        assert [turn.text for turn in turns] == ["hello", "Paris.", "and of Spain?"]
        assert more.conversation.version == 3

    async def test_unknown_generations_are_not_found(self, talk: Talk) -> None:
        unknown = GenerationId("gen_none")
        attempts: list[Awaitable[object]] = [
            talk.store.claim(unknown, epoch=1),
            talk.store.finish(unknown, epoch=1, outcome=STOPPED),
            talk.store.load_generation(unknown),
        ]
        for attempt in attempts:
            with pytest.raises(GenerationNotFoundError):
                await attempt


class TestRetry:
    async def test_a_partial_reply_is_hidden_and_the_same_turn_answered_again(self, talk: Talk) -> None:
        begun = await talk.say()
        old = await talk.store.finish(begun.generation_id, epoch=1, outcome=CUT)
        retried = await talk.store.begin_retry(
            owner=talk.ann, conversation_id=begun.conversation_id, client_message_id="retry-0001"
        )
        assert retried.user_turn_id == begun.user_turn_id
        assert retried.generation_id != begun.generation_id
        assert retried.generation.options == GenerationOptions(max_tokens=64, temperature=0.5)
        (turn,) = retried.conversation.conversation.turns
        assert turn.generation_id == retried.generation_id
        assert retried.conversation.version == 3
        ended = await talk.store.finish(retried.generation_id, epoch=1, outcome=STOPPED)
        assert [turn.text for turn in ended.conversation.conversation.turns] == ["hello", "Paris."]
        assert await talk.store.load_generation(begun.generation_id) == old.generation

    async def test_a_failed_reply_is_answered_again_and_its_error_gone(self, talk: Talk) -> None:
        begun = await talk.say()
        await talk.store.finish(begun.generation_id, epoch=1, outcome=FAILED)
        retried = await talk.store.begin_retry(
            owner=talk.ann, conversation_id=begun.conversation_id, client_message_id="retry-0001"
        )
        (turn,) = retried.conversation.conversation.turns
        assert (turn.error, turn.finish_reason) == (None, None)

    async def test_a_repeated_retry_begins_once(self, talk: Talk) -> None:
        begun = await talk.say()
        await talk.store.finish(begun.generation_id, epoch=1, outcome=CUT)
        first, again = [
            await talk.store.begin_retry(
                owner=talk.ann, conversation_id=begun.conversation_id, client_message_id="retry-0001"
            )
            for _ in range(2)
        ]
        assert again.duplicate
        assert again.generation == first.generation
        with pytest.raises(ClientMessageConflictError):
            await talk.store.begin_retry(owner=talk.ann, conversation_id=NOWHERE, client_message_id="retry-0001")
        with pytest.raises(ClientMessageConflictError):
            await talk.say("hello", to=begun.conversation_id, message="retry-0001")

    async def test_the_first_message_repeated_after_a_retry_is_still_the_first(self, talk: Talk) -> None:
        begun = await talk.say("one", message="message-x")
        await talk.store.finish(begun.generation_id, epoch=1, outcome=CUT)
        await talk.store.begin_retry(
            owner=talk.ann, conversation_id=begun.conversation_id, client_message_id="retry-0001"
        )
        again = await talk.say("one", message="message-x")
        assert again.duplicate
        assert again.generation_id == begun.generation_id

    async def test_a_whole_reply_is_not_retried(self, talk: Talk) -> None:
        begun = await talk.say()
        await talk.store.finish(begun.generation_id, epoch=1, outcome=STOPPED)
        with pytest.raises(NothingToRetryError):
            await talk.store.begin_retry(
                owner=talk.ann, conversation_id=begun.conversation_id, client_message_id="retry-0001"
            )

    async def test_a_running_reply_is_not_retried(self, talk: Talk) -> None:
        begun = await talk.say()
        with pytest.raises(GenerationRunningError):
            await talk.store.begin_retry(
                owner=talk.ann, conversation_id=begun.conversation_id, client_message_id="retry-0001"
            )

    async def test_only_the_last_reply_is_hidden(self, talk: Talk) -> None:
        first = await talk.say("one")
        await talk.store.finish(first.generation_id, epoch=1, outcome=CUT)
        second = await talk.say("two", to=first.conversation_id)
        for number in range(3):
            ended = await talk.store.finish(second.generation_id, epoch=1, outcome=CUT)
            texts = [turn.text for turn in ended.conversation.conversation.turns]
            assert texts == ["one", "Par", "two", "Par"]
            second = await talk.store.begin_retry(
                owner=talk.ann, conversation_id=first.conversation_id, client_message_id=f"retry-{number:04}"
            )


class TestList:
    async def test_pages_show_each_conversation_once_newest_first(self, talk: Talk) -> None:
        names = []
        for number in range(7):
            # Two at each time: the cursor must tell conversations of one instant apart.
            if number % 2 == 0:
                await talk.clock.advance(1)
            names.append((await talk.say(f"{number}")).conversation_id)
        await talk.say(by=talk.bob)
        assert await _pages(talk, 3) == [[6, 5, 4], [3, 2, 1], [0]]
        assert await _pages(talk, 7) == [[6, 5, 4, 3, 2, 1, 0]]
        assert await _pages(talk, 10_000) == [[6, 5, 4, 3, 2, 1, 0]]

    async def test_paging_is_not_upset_by_changes_meanwhile(self, talk: Talk) -> None:
        begun = []
        for number in range(6):
            await talk.clock.advance(1)
            begun.append(await talk.say(f"{number}"))
        first = await talk.store.list_conversations(owner=talk.ann, limit=2)
        await talk.clock.advance(1)
        await talk.store.finish(begun[0].generation_id, epoch=1, outcome=STOPPED)
        await talk.store.finish(begun[5].generation_id, epoch=1, outcome=STOPPED)
        await talk.say("6")
        await talk.store.delete(owner=talk.ann, conversation_id=begun[4].conversation_id)
        rest = await talk.store.list_conversations(owner=talk.ann, limit=200, before=first.next)
        assert [one.title for one in first.conversations] == ["5", "4"]
        assert [one.title for one in rest.conversations] == ["3", "2", "1"]
        assert rest.next is None

    async def test_nobody_elses_are_listed(self, talk: Talk) -> None:
        await talk.say()
        page = await talk.store.list_conversations(owner=talk.bob, limit=10)
        assert (page.conversations, page.next) == ((), None)

    async def test_a_clock_that_goes_back_does_not_reorder_the_past(self, talk: Talk) -> None:
        begun = await talk.say()
        talk.clock._epoch -= 1_000  # what an operator's step of the clock looks like
        ended = await talk.store.finish(begun.generation_id, epoch=1, outcome=STOPPED)
        assert ended.conversation.conversation.updated_at == begun.conversation.conversation.updated_at


class TestRenameAndDelete:
    async def test_a_new_title_is_shown_and_the_place_in_the_list_stays(self, talk: Talk) -> None:
        begun = await talk.say()
        await talk.clock.advance(5)
        renamed = await talk.store.rename(
            owner=talk.ann, conversation_id=begun.conversation_id, title="  Capitals\nof Europe "
        )
        assert renamed.conversation.title == "Capitals of Europe"
        assert renamed.version == 2
        assert renamed.conversation.updated_at == begun.conversation.conversation.updated_at

    @pytest.mark.parametrize("title", ["", " \n\t", "x" * 201])
    async def test_a_title_that_cannot_be_shown_is_refused(self, talk: Talk, title: str) -> None:
        begun = await talk.say()
        with pytest.raises(InvalidTitleError):
            await talk.store.rename(owner=talk.ann, conversation_id=begun.conversation_id, title=title)

    async def test_what_is_deleted_is_gone_and_stays_gone(self, talk: Talk) -> None:
        begun = await talk.say("one", message="message-x")
        there = begun.conversation_id
        assert await talk.store.delete(owner=talk.ann, conversation_id=there) == begun.generation_id
        with pytest.raises(ConversationNotFoundError):
            await talk.store.load_conversation(there)
        with pytest.raises(GenerationNotFoundError):
            await talk.store.finish(begun.generation_id, epoch=1, outcome=STOPPED)
        with pytest.raises(ConversationNotFoundError):
            await talk.store.delete(owner=talk.ann, conversation_id=there)
        with pytest.raises(ConversationNotFoundError):
            await talk.say("one", message="message-x")
        with pytest.raises(ConversationNotFoundError):
            await talk.store.begin_retry(owner=talk.ann, conversation_id=there, client_message_id="message-x")
        assert await talk.store.running_generations(older_than_seconds=0) == []

    async def test_deleting_an_idle_conversation_names_no_generation(self, talk: Talk) -> None:
        begun = await talk.say()
        await talk.store.finish(begun.generation_id, epoch=1, outcome=STOPPED)
        assert await talk.store.delete(owner=talk.ann, conversation_id=begun.conversation_id) is None


class TestRunning:
    async def test_only_old_unfinished_ones_are_listed_oldest_first(self, talk: Talk) -> None:
        old, claimed, done = [await talk.say(f"{n}") for n in range(3)]
        await talk.store.finish(done.generation_id, epoch=1, outcome=STOPPED)
        await talk.clock.advance(10)
        await talk.store.claim(claimed.generation_id, epoch=1)
        await talk.say("young")
        found = await talk.store.running_generations(older_than_seconds=10)
        assert [one.generation_id for one in found] == [old.generation_id]
        await talk.clock.advance(10)
        found = await talk.store.running_generations(older_than_seconds=10)
        assert [one.generation_id for one in found][:2] == [old.generation_id, claimed.generation_id]


class TestAvailability:
    async def test_a_working_store_says_so(self, talk: Talk) -> None:
        await talk.store.check()

    async def test_a_closed_store_refuses_everything(self, talk: Talk) -> None:
        begun = await talk.say()
        await talk.store.aclose()
        attempts: list[Callable[[], Awaitable[object]]] = [
            talk.say,
            lambda: talk.store.load_conversation(begun.conversation_id),
            talk.store.check,
        ]
        for attempt in attempts:
            with pytest.raises(StoreUnavailableError):
                await attempt()


async def _pages(talk: Talk, limit: int) -> list[list[int]]:
    pages: list[list[int]] = []
    before: str | None = None
    while True:
        page = await talk.store.list_conversations(owner=talk.ann, limit=limit, before=before)
        pages.append([int(one.title) for one in page.conversations])
        before = page.next
        if before is None:
            return pages
