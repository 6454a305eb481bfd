"""`DynamoConversationStore`: each call reads, plans and writes, and does so again where somebody else was first."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from pratique.core.clock import Clock, SystemClock
from pratique.core.events import get_logger
from pratique.core.ids import ConversationId, GenerationId, IdSource, PrincipalId, RandomIds
from pratique.core.metrics import Metrics
from pratique.orchestrator.conversations import rules
from pratique.orchestrator.conversations.dynamodb import items, keys, plans, table
from pratique.orchestrator.conversations.dynamodb.gateway import Gateway
from pratique.orchestrator.conversations.dynamodb.plans import Names, Request, Retention
from pratique.orchestrator.conversations.dynamodb.reading import Reading
from pratique.orchestrator.conversations.dynamodb.removal import MessageIds, Removal
from pratique.orchestrator.conversations.errors import (
    ConversationNotFoundError,
    ConversationStoreError,
    GenerationNotFoundError,
    StoreUnavailableError,
)
from pratique.orchestrator.conversations.interface import (
    BegunTurn,
    Erased,
    ExportedConversation,
    FinishedGeneration,
    GenerationOptions,
    GenerationRecord,
    GenerationStatus,
    Outcome,
    Page,
    StoredConversation,
)
from pratique.orchestrator.protocol.events import Role

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from pratique.orchestrator.conversations.dynamodb.connection import Connection
    from pratique.orchestrator.conversations.dynamodb.items import KnownMessage, Snapshot, StoredTurn
    from pratique.orchestrator.conversations.dynamodb.plans import BeginPlan, Write

__all__ = ["DynamoConversationStore"]

T = TypeVar("T")

_log = get_logger("conversations")
_ROUNDS: Final = 16
"""How often one call may find that somebody else was first."""
_CHUNKS_AT_ONCE: Final = 4


class DynamoConversationStore:
    """A `ConversationStore`; make one with `open`."""

    def __init__(self, gateway: Gateway, *, clock: Clock, ids: IdSource, retention: Retention) -> None:
        self._gateway = gateway
        self._clock = clock
        self._ids = ids
        self._retention = retention
        self._reading = Reading(gateway, clock=clock, retention=retention)
        self._removal = Removal(gateway, self._reading, retention=retention)

    @classmethod
    async def open(
        cls,
        connection: Connection,
        *,
        retention_seconds: float | None = None,
        clock: Clock | None = None,
        ids: IdSource | None = None,
        metrics: Metrics | None = None,
    ) -> DynamoConversationStore:
        """Connect, and check that the table is there and has the right keys.

        Raises:
            StoreUnavailableError: it is not, or DynamoDB cannot be used.
        """
        clock = clock or SystemClock()
        gateway = await Gateway.open(connection, clock=clock, metrics=metrics or Metrics())
        try:
            async with gateway.deadline("describe itself"):
                await table.verify_table(gateway, expires=retention_seconds is not None)
        except BaseException:
            await gateway.aclose()
            raise
        return cls(gateway, clock=clock, ids=ids or RandomIds(clock), retention=Retention(seconds=retention_seconds))

    async def begin_turn(
        self,
        *,
        owner: PrincipalId,
        conversation_id: ConversationId | None,
        client_message_id: str,
        text: str,
        options: GenerationOptions,
    ) -> BegunTurn:
        request = Request(
            owner=owner,
            client_message_id=client_message_id,
            conversation_id=conversation_id,
            text=rules.storable(text),
            options=options,
        )
        async with self._gateway.deadline("take a message"):
            return await self._begin(request)

    async def begin_retry(
        self, *, owner: PrincipalId, conversation_id: ConversationId, client_message_id: str
    ) -> BegunTurn:
        request = Request(owner=owner, client_message_id=client_message_id, conversation_id=conversation_id)
        async with self._gateway.deadline("take a retry"):
            return await self._begin(request)

    async def claim(self, generation_id: GenerationId, *, epoch: int, holder: str = "") -> GenerationRecord:
        async with self._gateway.deadline("take a claim"):
            for _ in range(_ROUNDS):
                stored = await self._reading.generation(generation_id)
                if stored.record.status is GenerationStatus.FINISHED:
                    stored = msgspec.structs.replace(stored, record=await self._reading.whole(stored))
                now = self._clock.epoch()
                write, record = plans.plan_claim(
                    stored, epoch=epoch, holder=holder, now=now, expires_at=self._retention.expires_at(now)
                )
                if await self._gateway.put(write):
                    return record
        raise _contended(f"Generation '{generation_id}'")

    async def finish(self, generation_id: GenerationId, *, epoch: int, outcome: Outcome) -> FinishedGeneration:
        outcome = msgspec.structs.replace(outcome, text=rules.storable(outcome.text))
        names, call = Names(self._ids), secrets.token_hex(8)
        async with self._gateway.deadline("take the end of a reply"):
            for _ in range(_ROUNDS):
                stored = await self._reading.generation(generation_id)
                snapshot = await self._reading.live(stored.record.conversation_id)
                if snapshot is None:
                    raise GenerationNotFoundError(generation_id)
                if stored.record.status is GenerationStatus.FINISHED:
                    record = await self._reading.whole(stored)
                    already = stored.ended_by != call
                    return FinishedGeneration(generation=record, conversation=snapshot.shown(), already=already)
                if snapshot.head.active != generation_id:
                    continue  # The generation was read before its end, the conversation after it.
                plan = plans.plan_finish(
                    stored,
                    snapshot,
                    epoch=epoch,
                    outcome=outcome,
                    names=names,
                    call=call,
                    now=self._clock.epoch(),
                    retention=self._retention,
                )
                if await self._commit(snapshot.head.conversation_id, plan.turn, plan.writes):
                    return plan.finished
        raise _contended(f"Generation '{generation_id}'")

    async def load_conversation(self, conversation_id: ConversationId) -> StoredConversation:
        async with self._gateway.deadline("answer"):
            return (await self._reading.snapshot(conversation_id)).shown()

    async def load_generation(self, generation_id: GenerationId) -> GenerationRecord:
        async with self._gateway.deadline("answer"):
            return await self._reading.whole(await self._reading.generation(generation_id))

    async def list_conversations(self, *, owner: PrincipalId, limit: int, before: str | None = None) -> Page:
        async with self._gateway.deadline("answer"):
            return await self._reading.page(owner, limit=rules.clamp_limit(limit), before=before)

    async def rename(self, *, owner: PrincipalId, conversation_id: ConversationId, title: str) -> StoredConversation:
        cleaned = rules.check_title(title)
        async with self._gateway.deadline("take a title"):
            for _ in range(_ROUNDS):
                snapshot = plans.require_owned(await self._reading.live(conversation_id), owner, conversation_id)
                write, renamed = plans.plan_rename(snapshot, cleaned, retention=self._retention)
                if await self._gateway.put(write):
                    return renamed.shown()
        raise _contended(f"Conversation '{conversation_id}'")

    async def delete(
        self,
        *,
        owner: PrincipalId,
        conversation_id: ConversationId,
        on_gone: Callable[[], Awaitable[None]] | None = None,
    ) -> GenerationId | None:
        call, active = secrets.token_hex(8), None
        async with self._gateway.deadline("take a deletion"):
            for _ in range(_ROUNDS):
                stored = await self._reading.stored(conversation_id)
                if stored is not None and stored.head.owner == owner and stored.head.deleted_by == call:
                    break
                snapshot = plans.require_owned(await self._reading.live(conversation_id), owner, conversation_id)
                active = snapshot.head.active
                if await self._removal.end(snapshot.head, call=call):
                    stored = snapshot
                    break
            else:
                raise _contended(f"Conversation '{conversation_id}'")
        if on_gone is not None:
            await on_gone()
        await self._clear(stored)
        return active

    async def running_generations(self, *, older_than_seconds: float) -> list[GenerationRecord]:
        touched_until = self._clock.epoch() - older_than_seconds
        async with self._gateway.deadline("answer"):
            return await self._reading.running(touched_until=touched_until)

    async def export(self, *, owner: PrincipalId) -> AsyncIterator[ExportedConversation]:
        async with self._gateway.deadline("answer"):
            names = await self._reading.names(owner)
        for name in names:
            # A deadline each, and none across a yield: whoever reads may be slow.
            found = await self._bounded_export(name)
            if found is not None:
                yield found

    async def erase(self, *, owner: PrincipalId, limit: int = 100) -> Erased:
        done: list[Erased] = []
        try:
            is_complete = await self._erase(owner, limit=limit, done=done)
        except StoreUnavailableError as error:
            if not done:
                raise
            # The next step raises it, should it last. What is gone has to be told to the caches all the same.
            _log.warning("erasure_interrupted", error=error.message)
            is_complete = False
        return Erased(
            conversation_ids=tuple(name for one in done for name in one.conversation_ids),
            running=tuple(record for one in done for record in one.running),
            num_turns=sum(one.num_turns for one in done),
            num_generations=sum(one.num_generations for one in done),
            num_messages=sum(one.num_messages for one in done),
            complete=is_complete,
        )

    async def purge(self, *, unchanged_since: float, limit: int = 100) -> tuple[ConversationId, ...]:
        return await self._removal.purge(unchanged_since=unchanged_since, limit=limit, call=secrets.token_hex(8))

    async def check(self) -> None:
        async with self._gateway.deadline("answer"):
            await self._gateway.get(keys.head_key("none"))

    async def aclose(self) -> None:
        await self._gateway.aclose()

    async def _erase(self, owner: PrincipalId, *, limit: int, done: list[Erased]) -> bool:
        """Do a step; return whether it was the last one."""
        async with self._gateway.deadline("answer"):
            names = await self._reading.names(owner, limit=limit)
        call = secrets.token_hex(8)
        for name in names:
            async with self._gateway.deadline("erase a conversation"):
                await self._removal.erase(owner, name, call=call, done=done)
        if len(names) == limit:
            return False
        async with self._gateway.deadline("forget client message ids"):
            num_messages, is_complete = await self._removal.erase_messages(owner)
        done.append(Erased(num_messages=num_messages))
        return is_complete

    async def _begin(self, request: Request) -> BegunTurn:
        names = Names(self._ids)
        for _ in range(_ROUNDS):
            known, snapshot = await self._known_and_snapshot(request)
            if known is not None:
                return await self._begun_before(request, known, names)
            try:
                plan = await self._plan(request, snapshot, names)
            except GenerationNotFoundError:
                continue  # The conversation was deleted between the two reads.
            except ConversationStoreError:
                # The same message may have been stored between the two reads: then it is not refused, it is repeated.
                if await self._reading.message(request.owner, request.client_message_id) is None:
                    raise
                continue
            if snapshot is not None:
                await self._removal.put_off(snapshot, now=self._clock.epoch())
            if await self._commit(plan.begun.conversation_id, plan.turn, plan.writes):
                return plan.begun
        raise _contended(f"Conversation '{request.conversation_id}'")

    async def _known_and_snapshot(self, request: Request) -> tuple[KnownMessage | None, Snapshot | None]:
        message = self._reading.message(request.owner, request.client_message_id)
        if request.conversation_id is None:
            return await message, None
        return await asyncio.gather(message, self._reading.live(request.conversation_id))

    async def _plan(self, request: Request, snapshot: Snapshot | None, names: Names) -> BeginPlan:
        now = self._clock.epoch()
        if request.text is not None:
            return plans.plan_message(request, snapshot, names, now=now, retention=self._retention)
        options = GenerationOptions()
        asked = plans.last_asked(snapshot)
        if asked is not None:
            options = (await self._reading.generation(asked)).record.options
        return plans.plan_retry(request, snapshot, names, options=options, now=now, retention=self._retention)

    async def _begun_before(self, request: Request, known: KnownMessage, names: Names) -> BegunTurn:
        plans.check_known(known, request)
        snapshot = await self._reading.live(known.conversation_id)
        if snapshot is None:
            raise ConversationNotFoundError(known.conversation_id)
        record = await self._reading.whole(await self._reading.generation(known.generation_id))
        # Stored by an attempt of this very call whose answer was lost: then it is the first, not a repetition.
        is_own = names.made_generation == record.generation_id
        return BegunTurn(generation=record, conversation=snapshot.shown(), duplicate=not is_own)

    async def _commit(self, conversation_id: ConversationId, turn: StoredTurn, writes: Sequence[Write]) -> bool:
        """Do the writes of a plan, the pieces of a long text before everything that names them."""
        chunks = items.chunks_of(conversation_id, turn)
        for start in range(0, len(chunks), _CHUNKS_AT_ONCE):
            await asyncio.gather(
                *(self._gateway.put(plans.Write(item=item)) for item in chunks[start : start + _CHUNKS_AT_ONCE])
            )
        is_done = await self._gateway.transact(writes)
        if not is_done and chunks and turn.turn.role is Role.ASSISTANT:
            # Nobody names them: what was refused leaves no text behind. (A repeated attempt writes them again.)
            await self._gateway.delete_all(chunks)
        return is_done

    async def _clear(self, stored: Snapshot | None) -> None:
        """Remove what a deletion has hidden. It is done even where this fails: `purge` and `erase` go on with it."""
        if stored is None:
            return
        try:
            async with self._gateway.deadline("remove a conversation"):
                head = stored.head
                await self._removal.clear(head.owner, head.conversation_id, messages=MessageIds.KEEP_WITHOUT_TEXT)
        except StoreUnavailableError as error:
            _log.warning(
                "deleted_conversation_not_cleared", conversation=stored.head.conversation_id, error=error.message
            )

    async def _bounded_export(self, name: ConversationId) -> ExportedConversation | None:
        async with self._gateway.deadline("answer"):
            return await self._reading.exported(name)


def _contended(what: str) -> StoreUnavailableError:
    return StoreUnavailableError(f"{what} was changed by others during each of {_ROUNDS} attempts.", hint="Try again.")
