"""Reads of the DynamoDB store: snapshots that are whole, generations with their text, lists merged from shards."""

from __future__ import annotations

import asyncio
import heapq
import math
import random
from typing import TYPE_CHECKING, Final

import msgspec

from pratique.core.ids import ConversationId, GenerationId, PrincipalId
from pratique.orchestrator.conversations import rules
from pratique.orchestrator.conversations.dynamodb import faults, items, keys
from pratique.orchestrator.conversations.dynamodb.items import (
    KnownMessage,
    Snapshot,
    StoredGeneration,
    TornReadError,
)
from pratique.orchestrator.conversations.errors import (
    ConversationNotFoundError,
    GenerationNotFoundError,
    StoreUnavailableError,
)
from pratique.orchestrator.conversations.interface import (
    ExportedConversation,
    ExportedTurn,
    GenerationRecord,
    Page,
)
from pratique.orchestrator.protocol.events import ConversationSummary

if TYPE_CHECKING:
    from pratique.core.clock import Clock
    from pratique.orchestrator.conversations.dynamodb.gateway import Gateway
    from pratique.orchestrator.conversations.dynamodb.keys import Item
    from pratique.orchestrator.conversations.dynamodb.plans import Retention

__all__ = ["Reading"]

_TORN_READS: Final = 8
_AT_ONCE: Final = 8


class Reading:
    """Reads; each must run inside a deadline of the gateway."""

    def __init__(self, gateway: Gateway, *, clock: Clock, retention: Retention) -> None:
        self._gateway = gateway
        self._clock = clock
        self._retention = retention

    async def stored(self, conversation_id: ConversationId) -> Snapshot | None:
        """Return a conversation, or the head of one that is being removed; None where it has outlived its time.

        The head decides before anything is added up: expiry and removal take the other items in any order.
        """
        partition = keys.conversation_partition(conversation_id)
        for attempt in range(_TORN_READS):
            found = await self._gateway.query(partition)
            head = items.head_among(found)
            if head is not None and head.deleted_by is None and self._retention.is_over(head, self._clock.epoch()):
                return None
            try:
                return items.assemble(found)
            except TornReadError:
                await asyncio.sleep(faults.backoff_seconds(attempt, draw=random.random()))  # noqa: S311 - jitter
        raise StoreUnavailableError(
            f"Conversation '{conversation_id}' changed during each of {_TORN_READS} reads, or some of it is missing.",
            hint="Look at the items of its partition; see docs/orchestrator/stores.md.",
        )

    async def live(self, conversation_id: ConversationId) -> Snapshot | None:
        """Return a conversation; None where there is none for anybody to see."""
        snapshot = await self.stored(conversation_id)
        return None if snapshot is None or snapshot.head.deleted_by is not None else snapshot

    async def snapshot(self, conversation_id: ConversationId) -> Snapshot:
        """Return a conversation, or raise `ConversationNotFoundError`."""
        snapshot = await self.live(conversation_id)
        if snapshot is None:
            raise ConversationNotFoundError(conversation_id)
        return snapshot

    async def message(self, owner: PrincipalId, client_message_id: str) -> KnownMessage | None:
        """Return what a client message id began."""
        item = await self._gateway.get(keys.message_key(owner, client_message_id))
        return None if item is None else items.message_of(item)

    async def generation(self, generation_id: GenerationId) -> StoredGeneration:
        """Return a generation without the text of its outcome, or raise `GenerationNotFoundError`."""
        item = await self._gateway.get(keys.generation_key(generation_id))
        if item is None:
            raise GenerationNotFoundError(generation_id)
        return items.generation_of(item)

    async def whole(self, stored: StoredGeneration) -> GenerationRecord:
        """Return the record with its text, or raise `GenerationNotFoundError` where its turn is gone."""
        record = stored.record
        if stored.position is None or record.outcome is None:
            return record
        item = await self._gateway.get(keys.turn_key(record.conversation_id, stored.position))
        if item is None:
            raise GenerationNotFoundError(record.generation_id)
        pieces = await self._pieces(record, item)
        try:
            turn = items.turn_of(item, pieces).turn
        except TornReadError as error:
            raise GenerationNotFoundError(record.generation_id) from error
        return msgspec.structs.replace(record, outcome=msgspec.structs.replace(record.outcome, text=turn.text))

    async def page(self, owner: PrincipalId, *, limit: int, before: str | None) -> Page:
        """Return a page of the owner's list; raises `InvalidCursorError`."""
        high = keys.place(math.inf, "") if before is None else keys.place(*rules.decode_cursor(before))
        shelves = await asyncio.gather(
            *(
                self._gateway.query_shelf(
                    keys.INDEX, shelf, before=high, limit=limit + 1, descending=True, may_be_cached=True
                )
                for shelf in keys.list_shelves(owner)
            )
        )
        now = self._clock.epoch()
        found = heapq.merge(*shelves, key=_place, reverse=True)
        heads = [head for head in map(items.head_of, found) if not self._retention.is_over(head, now)]
        shown = tuple(
            ConversationSummary(
                conversation_id=head.conversation_id,
                title=head.title,
                created_at=head.created_at,
                updated_at=head.updated_at,
            )
            for head in heads[:limit]
        )
        more = len(heads) > limit
        following = rules.encode_cursor(shown[-1].updated_at, shown[-1].conversation_id) if more else None
        return Page(conversations=shown, next=following)

    async def running(self, *, touched_until: float) -> list[GenerationRecord]:
        """Return unfinished generations last touched until then, oldest first."""
        before = keys.place(math.nextafter(touched_until, math.inf), "")
        shelves = await asyncio.gather(
            *(
                self._gateway.query_shelf(keys.INDEX, shelf, before=before, limit=rules.MAX_RUNNING, descending=False)
                for shelf in keys.running_shelves()
            )
        )
        found = list(heapq.merge(*shelves, key=_place))[: rules.MAX_RUNNING]
        return [items.generation_of(item).record for item in found]

    async def names(self, owner: PrincipalId, *, limit: int | None = None) -> list[ConversationId]:
        """Return the owner's conversations, in the order of their ids; a tenth of a KB each."""
        found: list[ConversationId] = []
        for partition in keys.owner_partitions(owner):
            members = await self._gateway.query(partition, prefix=keys.MEMBERSHIP, limit=limit, keys_only=True)
            found += [_name(item) for item in members]
        return sorted(found)[:limit]

    async def exported(self, conversation_id: ConversationId) -> ExportedConversation | None:
        """Return all that is kept of a conversation; None where it is gone."""
        snapshot = await self.live(conversation_id)
        if snapshot is None:
            return None
        wanted = [name for one in snapshot.turns for name in one.generations]
        records: list[GenerationRecord] = []
        for start in range(0, len(wanted), _AT_ONCE):
            keyed = [keys.generation_key(name) for name in wanted[start : start + _AT_ONCE]]
            answers = await asyncio.gather(*map(self._gateway.get, keyed))
            records += [items.generation_of(item).record for item in answers if item is not None]
        head = snapshot.head
        return ExportedConversation(
            conversation_id=head.conversation_id,
            title=head.title,
            created_at=head.created_at,
            updated_at=head.updated_at,
            turns=tuple(ExportedTurn(turn=one.turn, superseded_by=one.superseded_by) for one in snapshot.turns),
            generations=tuple(sorted(records, key=lambda record: (record.created_at, record.generation_id))),
        )

    async def _pieces(self, record: GenerationRecord, item: Item) -> dict[str, bytes]:
        if "text" in item:
            return {}
        partition = keys.conversation_partition(record.conversation_id)
        found = await self._gateway.query(partition, prefix=keys.chunks_prefix(record.turn_id or ""))
        return {one["sk"]["S"]: bytes(one["piece"]["B"]) for one in found}


def _place(item: Item) -> str:
    place: str = item["place"]["S"]
    return place


def _name(item: Item) -> ConversationId:
    return ConversationId(item["sk"]["S"].removeprefix(keys.MEMBERSHIP))
