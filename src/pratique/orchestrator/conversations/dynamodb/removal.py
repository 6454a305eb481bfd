"""Removes conversations from the table, item by item, so that an interruption leaves something to go on with.

1. The head becomes a tombstone in one transaction, which takes the running generation with it: from then on the
   conversation is gone for everybody who asks.
2. Generations and client message ids go, which only the turns name; then the turns and pieces; then the owner's entry,
   which is how `erase` finds what is left; the head is the last.
"""

from __future__ import annotations

import asyncio
import enum
from typing import TYPE_CHECKING, Final

from pratique.core.ids import ConversationId, GenerationId, PrincipalId
from pratique.orchestrator.conversations.dynamodb import items, keys, plans
from pratique.orchestrator.conversations.dynamodb.items import Head
from pratique.orchestrator.conversations.errors import GenerationNotFoundError, StoreUnavailableError
from pratique.orchestrator.conversations.interface import Erased, GenerationRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pratique.orchestrator.conversations.dynamodb.gateway import Gateway
    from pratique.orchestrator.conversations.dynamodb.items import Snapshot
    from pratique.orchestrator.conversations.dynamodb.keys import Item
    from pratique.orchestrator.conversations.dynamodb.plans import Retention
    from pratique.orchestrator.conversations.dynamodb.reading import Reading

__all__ = ["MessageIds", "Removal"]

_ROUNDS: Final = 16
_AT_ONCE: Final = 8
_MESSAGES_AT_ONCE: Final = 1_000


class MessageIds(enum.Enum):
    """What becomes of a removed conversation's client message ids."""

    KEEP_WITHOUT_TEXT = "keep_without_text"
    """They stay known, so that a late repetition begins nothing; a digest of a short text could be guessed back."""
    REMOVE = "remove"
    LEAVE = "leave"
    """Somebody else sees to them."""


class Removal:
    """Deletes, erases, purges, and puts off the expiry of conversations that go on."""

    def __init__(self, gateway: Gateway, reading: Reading, *, retention: Retention) -> None:
        self._gateway = gateway
        self._reading = reading
        self._retention = retention
        self._scan_from: Item | None = None

    async def end(self, head: Head, *, call: str) -> bool:
        """Make the head a tombstone; False where it changed meanwhile."""
        return await self._gateway.transact(plans.plan_deletion(head, call=call))

    async def clear(self, owner: PrincipalId, name: ConversationId, *, messages: MessageIds) -> tuple[int, int]:
        """Remove everything of a conversation that has ended; return how many turns and generations there were."""
        found = await self._gateway.query(keys.conversation_partition(name))
        turns = [items.turn_body(item) for item in found if item["sk"]["S"].startswith(keys.TURN)]
        generations = [one for turn in turns for one in turn.generations]
        known = [keys.message_key(owner, one) for turn in turns for one in turn.messages]
        await self._gateway.delete_all([keys.generation_key(one) for one in generations])
        if messages is MessageIds.REMOVE:
            await self._gateway.delete_all(known)
        elif messages is MessageIds.KEEP_WITHOUT_TEXT:
            await self._update_all(known, "REMOVE digest", None)
        await self._gateway.delete_all([item for item in found if item["sk"]["S"] != keys.HEAD])
        await self._gateway.delete_all([keys.membership_key(owner, name)])
        await self._gateway.delete_all([keys.head_key(name)])
        return len(turns), len(generations)

    async def erase(self, owner: PrincipalId, name: ConversationId, *, call: str, done: list[Erased]) -> None:
        """Remove one of the owner's conversations, whatever state it is in.

        What has been done is put into `done` as soon as it is durable: it is known also where the rest fails.
        """
        untold: tuple[ConversationId, ...] = (name,)
        for _ in range(_ROUNDS):
            item = await self._gateway.get(keys.head_key(name))
            # Without a head, what it left is removed all the same: expiry takes items in any order.
            head = None if item is None else items.head_of(item)
            if head is None or head.deleted_by is not None:
                break
            running = await self._running(head.active)
            if await self.end(head, call=call):
                done.append(Erased(conversation_ids=untold, running=running))
                untold = ()
                break
        else:
            raise StoreUnavailableError(f"Conversation '{name}' changed during each of {_ROUNDS} attempts to erase it.")
        num_turns, num_generations = await self.clear(owner, name, messages=MessageIds.LEAVE)
        done.append(Erased(conversation_ids=untold, num_turns=num_turns, num_generations=num_generations))

    async def erase_messages(self, owner: PrincipalId) -> tuple[int, bool]:
        """Remove a bounded number of the owner's client message ids; return how many, and whether none is left."""
        count = 0
        for partition in keys.owner_partitions(owner):
            found = await self._gateway.query(partition, prefix=keys.MESSAGE, limit=_MESSAGES_AT_ONCE, keys_only=True)
            await self._gateway.delete_all(found)
            count += len(found)
            if len(found) == _MESSAGES_AT_ONCE:
                return count, False
        return count, True

    async def purge(self, *, unchanged_since: float, limit: int, call: str) -> tuple[ConversationId, ...]:
        """Remove conversations that are too old, and what is left of those whose removal was interrupted.

        A scan: it reads the table, a page at a time, and goes on where the purge before stopped.
        """
        gone: list[ConversationId] = []
        while True:
            async with self._gateway.deadline("be scanned"):
                heads, following = await self._old_heads(unchanged_since)
            for head in heads:
                if len(gone) == limit:
                    return tuple(gone)
                async with self._gateway.deadline("remove a conversation"):
                    if head.deleted_by is None and not await self.end(head, call=call):
                        continue  # It changed: it is not old any more.
                    await self.clear(head.owner, head.conversation_id, messages=MessageIds.REMOVE)
                if head.deleted_by is None:
                    gone.append(head.conversation_id)
            self._scan_from = following
            if following is None:
                return tuple(gone)

    async def _old_heads(self, unchanged_since: float) -> tuple[list[Head], Item | None]:
        """Return the old and the half removed of one page, and where the next one begins."""
        more = {"ExclusiveStartKey": self._scan_from} if self._scan_from else {}
        answer = await self._gateway.send(
            "scan",
            TableName=self._gateway.table,
            FilterExpression="sk = :head AND (changed_at < :since OR attribute_exists(deleted))",
            ExpressionAttributeValues={":head": {"S": keys.HEAD}, ":since": {"N": repr(unchanged_since)}},
            ConsistentRead=True,
            **more,
        )
        heads = [items.head_of(item) for item in answer["Items"]]
        return [head for head in heads if head.active is None], answer.get("LastEvaluatedKey")

    async def put_off(self, snapshot: Snapshot, *, now: float) -> None:
        """Give the items of a conversation that goes on another term, where theirs would end before the head's.

        Before the head is given its own: whatever happens in between, nothing goes before the head does. The owner's
        entry comes first: what it leads to never outlives it.
        """
        stale = [one for one in snapshot.turns if self._retention.is_stale(one.expires_at, now)]
        if not stale:
            return
        head = snapshot.head
        wanted: list[Item] = []
        for one in stale:
            wanted.append(keys.turn_key(head.conversation_id, one.position))
            wanted += [
                keys.chunk_key(head.conversation_id, one.turn.turn_id, number) for number in range(one.num_chunks)
            ]
            wanted += map(keys.generation_key, one.generations)
            wanted += [keys.message_key(head.owner, name) for name in one.messages]
        membership = keys.membership_key(head.owner, head.conversation_id)
        await self._put_off([membership], self._retention.membership_expires_at(now))
        await self._put_off(wanted, self._retention.expires_at(now))

    async def _running(self, name: GenerationId | None) -> tuple[GenerationRecord, ...]:
        if name is None:
            return ()
        try:
            return ((await self._reading.generation(name)).record,)
        except GenerationNotFoundError:
            return ()

    async def _put_off(self, wanted: Sequence[Item], expires_at: int | None) -> None:
        if expires_at is None:
            await self._update_all(wanted, "REMOVE expires_at", None)
        else:
            await self._update_all(wanted, "SET expires_at = :at", {":at": {"N": str(expires_at)}})

    async def _update_all(
        self, wanted: Sequence[Item], expression: str, values: dict[str, dict[str, str]] | None
    ) -> None:
        for start in range(0, len(wanted), _AT_ONCE):
            await asyncio.gather(
                *(self._gateway.update(key, expression, values) for key in wanted[start : start + _AT_ONCE])
            )
