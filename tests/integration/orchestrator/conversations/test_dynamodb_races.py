"""Somebody else is first, at the worst moment: between what a call has read and what it writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pratique.core.ids import PrincipalId
from pratique.orchestrator.conversations import (
    ConversationNotFoundError,
    FencedError,
    GenerationNotFoundError,
    GenerationOptions,
    Outcome,
    StoreUnavailableError,
)
from pratique.orchestrator.conversations.dynamodb import keys
from pratique.orchestrator.protocol.events import FinishReason

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pratique.orchestrator.conversations import BegunTurn
    from pratique.orchestrator.conversations.dynamodb.connection import Connection
    from pratique.orchestrator.conversations.dynamodb.store import DynamoConversationStore
    from pratique.testkit.services.aws.dynamodb import DynamoDBNamespace

pytestmark = [pytest.mark.integration]

ANN = PrincipalId("usr_ann")
LONG = Outcome(text="x" * 200_000, finish_reason=FinishReason.STOP)


async def say(store: DynamoConversationStore) -> BegunTurn:
    return await store.begin_turn(
        owner=ANN, conversation_id=None, client_message_id="message-1", text="hello", options=GenerationOptions()
    )


def first(
    monkeypatch: pytest.MonkeyPatch, store: DynamoConversationStore, name: str, other: Callable[[], Awaitable[object]]
) -> None:
    """Let something else happen just before the next write of this kind."""
    original = getattr(store._gateway, name)

    async def late(*arguments: Any) -> Any:
        monkeypatch.setattr(store._gateway, name, original)
        await other()
        return await original(*arguments)

    monkeypatch.setattr(store._gateway, name, late)


def left(dynamodb: DynamoDBNamespace, connection: Connection) -> list[str]:
    found = dynamodb.client().scan(TableName=connection.table)["Items"]
    return sorted(item["sk"]["S"][:2] for item in found)


async def test_a_reply_whose_conversation_is_deleted_meanwhile_leaves_no_text_behind(
    store: DynamoConversationStore,
    monkeypatch: pytest.MonkeyPatch,
    dynamodb: DynamoDBNamespace,
    connection: Connection,
) -> None:
    begun = await say(store)
    first(monkeypatch, store, "transact", lambda: store.delete(owner=ANN, conversation_id=begun.conversation_id))
    with pytest.raises(GenerationNotFoundError):
        await store.finish(begun.generation_id, epoch=1, outcome=LONG)
    assert left(dynamodb, connection) == ["M#"]


async def test_a_reply_meets_a_new_title_and_both_are_kept(
    store: DynamoConversationStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = await say(store)
    there = begun.conversation_id
    first(monkeypatch, store, "transact", lambda: store.rename(owner=ANN, conversation_id=there, title="new"))
    ended = await store.finish(begun.generation_id, epoch=1, outcome=LONG)
    shown = (await store.load_conversation(there)).conversation
    assert (shown.title, shown.version, len(shown.turns)) == ("new", 3, 2)
    assert ended.conversation.conversation == shown


async def test_a_claim_that_comes_second_is_fenced(
    store: DynamoConversationStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = await say(store)
    first(monkeypatch, store, "put", lambda: store.claim(begun.generation_id, epoch=2, holder="b"))
    with pytest.raises(FencedError):
        await store.claim(begun.generation_id, epoch=2, holder="a")


@pytest.mark.parametrize("removal", ["delete", "erase"])
async def test_a_removal_takes_what_was_written_just_before_it(
    store: DynamoConversationStore,
    monkeypatch: pytest.MonkeyPatch,
    dynamodb: DynamoDBNamespace,
    connection: Connection,
    removal: str,
) -> None:
    begun = await say(store)
    there = begun.conversation_id
    first(monkeypatch, store, "transact", lambda: store.finish(begun.generation_id, epoch=1, outcome=LONG))
    if removal == "delete":
        assert await store.delete(owner=ANN, conversation_id=there) is None
    else:
        assert (await store.erase(owner=ANN)).num_turns == 2
    with pytest.raises(ConversationNotFoundError):
        await store.load_conversation(there)
    assert left(dynamodb, connection) == (["M#"] if removal == "delete" else [])


async def test_who_is_never_first_gives_up(store: DynamoConversationStore, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = await say(store)
    there = begun.conversation_id

    async def lose(*_: object) -> bool:
        return False

    monkeypatch.setattr(store._gateway, "put", lose)
    monkeypatch.setattr(store._gateway, "transact", lose)
    attempts: list[Awaitable[object]] = [
        store.claim(begun.generation_id, epoch=1),
        store.finish(begun.generation_id, epoch=1, outcome=Outcome(text="x", finish_reason=FinishReason.STOP)),
        store.rename(owner=ANN, conversation_id=there, title="x"),
        store.delete(owner=ANN, conversation_id=there),
        store.erase(owner=ANN),
    ]
    for attempt in attempts:
        with pytest.raises(StoreUnavailableError, match="attempts"):
            await attempt
    monkeypatch.undo()


async def test_what_expiry_left_of_a_conversation_without_its_head_is_erased_too(
    store: DynamoConversationStore, dynamodb: DynamoDBNamespace, connection: Connection
) -> None:
    begun = await say(store)
    key: Any = keys.head_key(begun.conversation_id)
    dynamodb.client().delete_item(TableName=connection.table, Key=key)
    erased = await store.erase(owner=ANN)
    assert (erased.complete, erased.num_turns) == (True, 1)
    assert left(dynamodb, connection) == []
