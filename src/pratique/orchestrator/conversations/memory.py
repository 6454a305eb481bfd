"""Conversations in this process's memory: for tests and for trying things out. Gone when the process ends.

Keeps every rule of `interface` but durability. `unavailable = True` makes every call fail as a full disk would.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import msgspec

from pratique.core.clock import Clock, SystemClock
from pratique.core.ids import ConversationId, GenerationId, IdSource, PrincipalId, RandomIds, TurnId
from pratique.orchestrator.conversations import rules
from pratique.orchestrator.conversations.errors import (
    ClientMessageConflictError,
    ConversationNotFoundError,
    GenerationNotFoundError,
    GenerationRunningError,
    NothingToRetryError,
    StoreUnavailableError,
)
from pratique.orchestrator.conversations.interface import (
    BegunTurn,
    Erased,
    ExportedConversation,
    ExportedTurn,
    FinishedGeneration,
    GenerationOptions,
    GenerationRecord,
    GenerationStatus,
    Outcome,
    Page,
    StoredConversation,
)
from pratique.orchestrator.protocol.events import Conversation, ConversationSummary, Role, Turn, TurnStatus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

__all__ = ["MemoryConversationStore"]


@dataclass(frozen=True, kw_only=True)
class _Message:
    """What a client message id began."""

    digest: str | None
    began_conversation: bool
    conversation_id: ConversationId
    generation_id: GenerationId


@dataclass(kw_only=True)
class _Generation:
    record: GenerationRecord
    holder: str = ""
    touched_at: float


@dataclass(kw_only=True)
class _Conversation:
    owner: PrincipalId
    head: Conversation
    superseded: list[ExportedTurn] = field(default_factory=list)


class MemoryConversationStore:
    """A `ConversationStore` over dictionaries."""

    def __init__(self, *, clock: Clock | None = None, ids: IdSource | None = None) -> None:
        self.unavailable = False
        self._clock = clock or SystemClock()
        self._ids = ids or RandomIds(self._clock)
        self._conversations: dict[ConversationId, _Conversation] = {}
        self._generations: dict[GenerationId, _Generation] = {}
        self._messages: dict[tuple[PrincipalId, str], _Message] = {}

    async def begin_turn(
        self,
        *,
        owner: PrincipalId,
        conversation_id: ConversationId | None,
        client_message_id: str,
        text: str,
        options: GenerationOptions,
    ) -> BegunTurn:
        self._require_available()
        text = rules.storable(text)
        known = self._messages.get((owner, client_message_id))
        if known is not None:
            same = known.digest in {None, rules.digest(text)} and _same_target(known, conversation_id)
            return self._begun_before(known, client_message_id, same=same)
        now = self._clock.epoch()
        stored = self._new(owner, text, now) if conversation_id is None else self._idle(owner, conversation_id)
        turn = Turn(
            turn_id=self._ids.new("turn"),
            role=Role.USER,
            text=text,
            status=TurnStatus.COMPLETE,
            created_at=now,
        )
        return self._begin(
            stored,
            turn,
            options,
            message=(client_message_id, rules.digest(text), conversation_id is None),
        )

    async def begin_retry(
        self, *, owner: PrincipalId, conversation_id: ConversationId, client_message_id: str
    ) -> BegunTurn:
        self._require_available()
        known = self._messages.get((owner, client_message_id))
        if known is not None:
            same = known.conversation_id == conversation_id and known.digest in {None, rules.RETRY_DIGEST}
            return self._begun_before(known, client_message_id, same=same)
        stored = self._idle(owner, conversation_id)
        turns = stored.head.turns
        reply = turns[-1] if turns[-1].role is Role.ASSISTANT else None
        if reply and reply.status is TurnStatus.COMPLETE:
            raise NothingToRetryError(conversation_id)
        turns = turns[:-1] if reply else turns
        turn = turns[-1]
        options = self._generations[GenerationId(turn.generation_id or "")].record.options
        stored.head = msgspec.structs.replace(stored.head, turns=turns[:-1])
        begun = self._begin(stored, turn, options, message=(client_message_id, rules.RETRY_DIGEST, False))
        if reply:
            stored.superseded.append(ExportedTurn(turn=reply, superseded_by=begun.generation_id))
        return begun

    async def claim(self, generation_id: GenerationId, *, epoch: int, holder: str = "") -> GenerationRecord:
        self._require_available()
        generation = self._generation(generation_id)
        rules.check_claim(generation.record, holder=holder, epoch=epoch, stored_holder=generation.holder)
        generation.record = msgspec.structs.replace(generation.record, epoch=epoch)
        generation.holder = holder
        generation.touched_at = self._clock.epoch()
        return generation.record

    async def finish(self, generation_id: GenerationId, *, epoch: int, outcome: Outcome) -> FinishedGeneration:
        self._require_available()
        generation = self._generation(generation_id)
        record = generation.record
        stored = self._conversations[record.conversation_id]
        if record.status is GenerationStatus.FINISHED:
            return FinishedGeneration(generation=record, conversation=_snapshot(stored), already=True)
        rules.check_finish(record, epoch=epoch)
        outcome = msgspec.structs.replace(outcome, text=rules.storable(outcome.text))
        now = self._clock.epoch()
        turn_id = TurnId(self._ids.new("turn")) if rules.has_turn(outcome) else None
        generation.record = msgspec.structs.replace(
            record, status=GenerationStatus.FINISHED, epoch=epoch, outcome=outcome, turn_id=turn_id
        )
        stored.head = _touched(stored.head, now, turns=_ended(stored.head.turns, generation.record, now), active=None)
        return FinishedGeneration(generation=generation.record, conversation=_snapshot(stored))

    async def load_conversation(self, conversation_id: ConversationId) -> StoredConversation:
        self._require_available()
        if conversation_id not in self._conversations:
            raise ConversationNotFoundError(conversation_id)
        return _snapshot(self._conversations[conversation_id])

    async def load_generation(self, generation_id: GenerationId) -> GenerationRecord:
        self._require_available()
        return self._generation(generation_id).record

    async def list_conversations(self, *, owner: PrincipalId, limit: int, before: str | None = None) -> Page:
        self._require_available()
        after = (float("inf"), "") if before is None else rules.decode_cursor(before)
        limit = rules.clamp_limit(limit)
        places = sorted(
            ((c.head.updated_at, c.head.conversation_id) for c in self._conversations.values() if c.owner == owner),
            reverse=True,
        )
        rest = [place for place in places if place < after]
        heads = [self._conversations[ConversationId(name)].head for _, name in rest[:limit]]
        following = rules.encode_cursor(*rest[limit - 1]) if len(rest) > limit else None
        return Page(conversations=tuple(map(_summary, heads)), next=following)

    async def rename(self, *, owner: PrincipalId, conversation_id: ConversationId, title: str) -> StoredConversation:
        self._require_available()
        cleaned = rules.check_title(title)
        stored = self._owned(owner, conversation_id)
        stored.head = msgspec.structs.replace(stored.head, title=cleaned, version=stored.head.version + 1)
        return _snapshot(stored)

    async def delete(
        self,
        *,
        owner: PrincipalId,
        conversation_id: ConversationId,
        on_gone: Callable[[], Awaitable[None]] | None = None,
    ) -> GenerationId | None:
        self._require_available()
        active = self._owned(owner, conversation_id).head.active_generation_id
        self._remove(conversation_id)
        for key, message in self._messages.items():
            if message.conversation_id == conversation_id:
                self._messages[key] = replace(message, digest=None)
        if on_gone is not None:
            await on_gone()
        return GenerationId(active) if active else None

    async def running_generations(self, *, older_than_seconds: float) -> list[GenerationRecord]:
        self._require_available()
        limit = self._clock.epoch() - older_than_seconds
        running = [
            g
            for g in self._generations.values()
            if g.record.status is GenerationStatus.RUNNING and g.touched_at <= limit
        ]
        running.sort(key=lambda g: (g.touched_at, g.record.generation_id))
        return [g.record for g in running[: rules.MAX_RUNNING]]

    async def export(self, *, owner: PrincipalId) -> AsyncIterator[ExportedConversation]:
        self._require_available()
        for name in sorted(name for name, stored in self._conversations.items() if stored.owner == owner):
            stored = self._conversations.get(name)
            if stored is not None:
                yield self._exported(stored)

    async def erase(self, *, owner: PrincipalId, limit: int = 100) -> Erased:
        self._require_available()
        names = sorted(name for name, stored in self._conversations.items() if stored.owner == owner)
        gone = [self._conversations[name] for name in names[:limit]]
        records = [
            g.record for name in names[:limit] for g in self._generations.values() if g.record.conversation_id == name
        ]
        for name in names[:limit]:
            self._remove(name)
        is_last = len(names) < limit
        known = [key for key in self._messages if key[0] == owner] if is_last else []
        for key in known:
            del self._messages[key]
        return Erased(
            conversation_ids=tuple(names[:limit]),
            running=tuple(one for one in records if one.status is GenerationStatus.RUNNING),
            num_turns=sum(len(one.head.turns) + len(one.superseded) for one in gone),
            num_generations=len(records),
            num_messages=len(known),
            complete=is_last,
        )

    async def purge(self, *, unchanged_since: float, limit: int = 100) -> tuple[ConversationId, ...]:
        self._require_available()
        old = sorted(
            (stored.head.updated_at, name)
            for name, stored in self._conversations.items()
            if stored.head.updated_at < unchanged_since and not stored.head.active_generation_id
        )
        names = tuple(name for _, name in old[:limit])
        for name in names:
            self._remove(name)
        self._messages = {key: known for key, known in self._messages.items() if known.conversation_id not in names}
        return names

    async def check(self) -> None:
        self._require_available()

    async def aclose(self) -> None:
        self.unavailable = True

    def _remove(self, conversation_id: ConversationId) -> None:
        del self._conversations[conversation_id]
        self._generations = {
            name: generation
            for name, generation in self._generations.items()
            if generation.record.conversation_id != conversation_id
        }

    def _exported(self, stored: _Conversation) -> ExportedConversation:
        head = stored.head
        records = [g.record for g in self._generations.values() if g.record.conversation_id == head.conversation_id]
        asked_by = {record.generation_id: record.user_turn_id for record in records}
        turns: list[ExportedTurn] = []
        for turn in head.turns:
            turns.append(ExportedTurn(turn=turn))
            # Only the last reply is ever hidden, so hidden ones follow the turn that they answered.
            turns += [
                one for one in stored.superseded if asked_by[GenerationId(one.turn.generation_id or "")] == turn.turn_id
            ]
        return ExportedConversation(
            conversation_id=ConversationId(head.conversation_id),
            title=head.title,
            created_at=head.created_at,
            updated_at=head.updated_at,
            turns=tuple(turns),
            generations=tuple(map(rules.without_text, sorted(records, key=lambda r: (r.created_at, r.generation_id)))),
        )

    def _require_available(self) -> None:
        if self.unavailable:
            raise StoreUnavailableError("The conversation store in memory was made unavailable.")

    def _generation(self, generation_id: GenerationId) -> _Generation:
        if generation_id not in self._generations:
            raise GenerationNotFoundError(generation_id)
        return self._generations[generation_id]

    def _owned(self, owner: PrincipalId, conversation_id: ConversationId) -> _Conversation:
        stored = self._conversations.get(conversation_id)
        if stored is None or stored.owner != owner:
            raise ConversationNotFoundError(conversation_id)
        return stored

    def _idle(self, owner: PrincipalId, conversation_id: ConversationId) -> _Conversation:
        stored = self._owned(owner, conversation_id)
        if stored.head.active_generation_id:
            raise GenerationRunningError(conversation_id, GenerationId(stored.head.active_generation_id))
        return stored

    def _new(self, owner: PrincipalId, text: str, now: float) -> _Conversation:
        name = ConversationId(self._ids.new("conv"))
        head = Conversation(
            conversation_id=name,
            title=rules.title_from(text),
            created_at=now,
            updated_at=now,
            version=0,
            turns=(),
        )
        self._conversations[name] = _Conversation(owner=owner, head=head)
        return self._conversations[name]

    def _begin(
        self,
        stored: _Conversation,
        turn: Turn,
        options: GenerationOptions,
        *,
        message: tuple[str, str, bool],
    ) -> BegunTurn:
        now = self._clock.epoch()
        record = GenerationRecord(
            generation_id=GenerationId(self._ids.new("gen")),
            conversation_id=ConversationId(stored.head.conversation_id),
            owner=stored.owner,
            user_turn_id=TurnId(turn.turn_id),
            options=options,
            status=GenerationStatus.RUNNING,
            epoch=0,
            created_at=now,
        )
        asked = msgspec.structs.replace(turn, generation_id=record.generation_id, finish_reason=None, error=None)
        turns = (*stored.head.turns, asked)
        stored.head = _touched(stored.head, now, turns=turns, active=record.generation_id)
        self._generations[record.generation_id] = _Generation(record=record, touched_at=now)
        client_message_id, digest, began_conversation = message
        self._messages[stored.owner, client_message_id] = _Message(
            digest=digest,
            began_conversation=began_conversation,
            conversation_id=record.conversation_id,
            generation_id=record.generation_id,
        )
        return BegunTurn(generation=record, conversation=_snapshot(stored))

    def _begun_before(self, known: _Message, client_message_id: str, *, same: bool) -> BegunTurn:
        if not same:
            raise ClientMessageConflictError(client_message_id)
        if known.conversation_id not in self._conversations:
            raise ConversationNotFoundError(known.conversation_id)
        return BegunTurn(
            generation=self._generations[known.generation_id].record,
            conversation=_snapshot(self._conversations[known.conversation_id]),
            duplicate=True,
        )


def _same_target(known: _Message, conversation_id: ConversationId | None) -> bool:
    return known.began_conversation if conversation_id is None else known.conversation_id == conversation_id


def _snapshot(stored: _Conversation) -> StoredConversation:
    return StoredConversation(owner=stored.owner, conversation=stored.head)


def _summary(head: Conversation) -> ConversationSummary:
    return ConversationSummary(
        conversation_id=head.conversation_id,
        title=head.title,
        created_at=head.created_at,
        updated_at=head.updated_at,
    )


def _touched(head: Conversation, now: float, *, turns: Sequence[Turn], active: str | None) -> Conversation:
    return msgspec.structs.replace(
        head,
        turns=tuple(turns),
        active_generation_id=active,
        version=head.version + 1,
        updated_at=max(now, head.updated_at),
    )


def _ended(turns: tuple[Turn, ...], record: GenerationRecord, now: float) -> tuple[Turn, ...]:
    """Return the turns with the reply after them, or with its failure on the user turn."""
    outcome = record.outcome
    if outcome is None:
        return turns
    if record.turn_id is not None:
        turn = rules.assistant_turn(outcome, turn_id=record.turn_id, generation_id=record.generation_id, created_at=now)
        return (*turns, turn)
    failed = msgspec.structs.replace(turns[-1], finish_reason=outcome.finish_reason, error=outcome.error)
    return (*turns[:-1], failed)
