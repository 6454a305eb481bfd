"""One person's data over every store: exported whole, erased for good; and what is too old, purged."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

from pratique.orchestrator.conversations import (
    ConversationNotFoundError,
    GenerationNotFoundError,
    Outcome,
)
from pratique.orchestrator.protocol.events import FinishReason, Usage

pytestmark = pytest.mark.unit

# A `Talk` of conftest.py, which importlib mode keeps from being imported by name.
Talk = Any

STOPPED = Outcome(
    text="Paris.",
    finish_reason=FinishReason.STOP,
    usage=Usage(prompt_tokens=9, completion_tokens=2),
    model="small",
)
CUT = Outcome(text="Par", finish_reason=FinishReason.CANCELLED)


class TestExport:
    async def test_it_holds_every_turn_and_generation_of_its_owner_and_of_nobody_else(self, talk: Talk) -> None:
        first = await talk.say("one")
        await talk.store.finish(first.generation_id, epoch=1, outcome=CUT)
        retried = await talk.store.begin_retry(
            owner=talk.ann, conversation_id=first.conversation_id, client_message_id="retry-0001"
        )
        ended = await talk.store.finish(retried.generation_id, epoch=1, outcome=STOPPED)
        running = await talk.say("two", to=first.conversation_id)
        await talk.say("three")
        await talk.say("not ann's", by=talk.bob)
        found = [one async for one in talk.store.export(owner=talk.ann)]
        assert [one.title for one in found] == ["one", "three"]
        told = [(one.turn.text, one.superseded_by) for one in found[0].turns]
        assert told == [("one", None), ("Par", retried.generation_id), ("Paris.", None), ("two", None)]
        assert [one.generation_id for one in found[0].generations] == [
            first.generation_id,
            retried.generation_id,
            running.generation_id,
        ]
        assert found[0].turns[2].turn == ended.conversation.conversation.turns[1]
        outcome = found[0].generations[1].outcome
        assert (outcome.text, outcome.usage, outcome.model) == ("", STOPPED.usage, "small")

    async def test_of_somebody_unknown_it_is_empty(self, talk: Talk) -> None:
        assert [one async for one in talk.store.export(owner=talk.bob)] == []

    async def test_a_conversation_deleted_meanwhile_is_left_out(self, talk: Talk) -> None:
        begun = [await talk.say(f"{number}") for number in range(3)]
        exporting = talk.store.export(owner=talk.ann)
        first = await anext(exporting)
        await talk.store.delete(owner=talk.ann, conversation_id=begun[1].conversation_id)
        assert [first.title, *[one.title async for one in exporting]] == ["0", "2"]


class TestDelete:
    async def test_who_has_to_know_of_a_deletion_is_told_once_and_when_it_is_so(self, talk: Talk) -> None:
        begun = await talk.say()
        told: list[str] = []

        async def on_gone() -> None:
            with pytest.raises(ConversationNotFoundError):
                await talk.store.load_conversation(begun.conversation_id)
            told.append(begun.conversation_id)

        for owner in (talk.bob, talk.ann, talk.ann):
            with suppress(ConversationNotFoundError):
                await talk.store.delete(owner=owner, conversation_id=begun.conversation_id, on_gone=on_gone)
        assert told == [begun.conversation_id]


class TestErase:
    async def test_nothing_of_the_owner_is_left_and_others_keep_theirs(self, talk: Talk) -> None:
        done = await talk.say("one", message="message-x")
        await talk.store.finish(done.generation_id, epoch=1, outcome=STOPPED)
        running = await talk.say("two")
        deleted = await talk.say("three", message="message-y")
        await talk.store.delete(owner=talk.ann, conversation_id=deleted.conversation_id)
        kept = await talk.say("bob's", by=talk.bob, message="message-x")
        erased = await talk.store.erase(owner=talk.ann)
        assert set(erased.conversation_ids) == {done.conversation_id, running.conversation_id}
        assert [one.generation_id for one in erased.running] == [running.generation_id]
        assert (erased.num_turns, erased.num_generations, erased.num_messages) == (3, 2, 3)
        assert erased.complete
        assert (await talk.store.list_conversations(owner=talk.ann, limit=9)).conversations == ()
        assert [one async for one in talk.store.export(owner=talk.ann)] == []
        for begun in (done, running):
            with pytest.raises(ConversationNotFoundError):
                await talk.store.load_conversation(begun.conversation_id)
            with pytest.raises(GenerationNotFoundError):
                await talk.store.load_generation(begun.generation_id)
        assert await talk.store.load_conversation(kept.conversation_id) == kept.conversation
        assert (await talk.say("bob's", by=talk.bob, message="message-x")).duplicate
        # Not even the message ids are remembered, those of deleted conversations included.
        assert not (await talk.say("one", message="message-x")).duplicate
        assert not (await talk.say("three", message="message-y")).duplicate

    async def test_it_goes_on_in_steps_and_is_idempotent(self, talk: Talk) -> None:
        for number in range(5):
            await talk.say(f"{number}")
        steps = [await talk.store.erase(owner=talk.ann, limit=2) for _ in range(3)]
        assert [len(step.conversation_ids) for step in steps] == [2, 2, 1]
        assert [step.complete for step in steps] == [False, False, True]
        again = await talk.store.erase(owner=talk.ann, limit=2)
        assert (again.conversation_ids, again.num_messages, again.complete) == ((), 0, True)


class TestPurge:
    async def test_only_what_is_old_and_idle_goes(self, talk: Talk) -> None:
        old, running = await talk.say("old", message="message-x"), await talk.say("running")
        await talk.store.finish(old.generation_id, epoch=1, outcome=STOPPED)
        await talk.clock.advance(100)
        young = await talk.say("young")
        await talk.store.finish(young.generation_id, epoch=1, outcome=STOPPED)
        since = talk.clock.epoch() - 50
        assert await talk.store.purge(unchanged_since=since) == (old.conversation_id,)
        assert await talk.store.purge(unchanged_since=since) == ()
        with pytest.raises(ConversationNotFoundError):
            await talk.store.load_conversation(old.conversation_id)
        with pytest.raises(GenerationNotFoundError):
            await talk.store.load_generation(old.generation_id)
        for kept in (running, young):
            await talk.store.load_conversation(kept.conversation_id)
        assert not (await talk.say("old", message="message-x")).duplicate

    async def test_it_is_bounded(self, talk: Talk) -> None:
        for number in range(3):
            begun = await talk.say(f"{number}")
            await talk.store.finish(begun.generation_id, epoch=1, outcome=STOPPED)
        await talk.clock.advance(1)
        sizes = [len(await talk.store.purge(unchanged_since=talk.clock.epoch(), limit=2)) for _ in range(3)]
        assert sizes == [2, 1, 0]
