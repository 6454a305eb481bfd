"""Decides each write from what was read: the items to put, under which conditions, and what to answer. Pure.

Every item is put whole. The condition on the head's version makes that safe for its turns as well: nothing changes a
turn without the head.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import msgspec

from pratique.core.ids import ConversationId, GenerationId, IdSource, PrincipalId, TurnId
from pratique.orchestrator.conversations import rules
from pratique.orchestrator.conversations.dynamodb import items, keys
from pratique.orchestrator.conversations.dynamodb.items import (
    Head,
    KnownMessage,
    Snapshot,
    StoredGeneration,
    StoredTurn,
)
from pratique.orchestrator.conversations.errors import (
    ClientMessageConflictError,
    ConversationNotFoundError,
    GenerationRunningError,
    NothingToRetryError,
)
from pratique.orchestrator.conversations.interface import (
    BegunTurn,
    FinishedGeneration,
    GenerationOptions,
    GenerationRecord,
    GenerationStatus,
    Outcome,
)
from pratique.orchestrator.protocol.events import Role, Turn, TurnStatus

if TYPE_CHECKING:
    from pratique.orchestrator.conversations.dynamodb.keys import Item

__all__ = [
    "BeginPlan",
    "FinishPlan",
    "Names",
    "Request",
    "Retention",
    "Write",
    "check_known",
    "last_asked",
    "plan_claim",
    "plan_deletion",
    "plan_finish",
    "plan_message",
    "plan_rename",
    "plan_retry",
    "require_owned",
]

_LATE_END_SECONDS: Final = 86_400.0


class Names:
    """The ids of what one call makes: minted when first needed, the same in every attempt of that call."""

    def __init__(self, ids: IdSource) -> None:
        self._ids = ids

    @cached_property
    def conversation(self) -> ConversationId:
        return ConversationId(self._ids.new("conv"))

    @cached_property
    def turn(self) -> TurnId:
        return TurnId(self._ids.new("turn"))

    @cached_property
    def generation(self) -> GenerationId:
        return GenerationId(self._ids.new("gen"))

    @property
    def made_generation(self) -> GenerationId | None:
        """The generation's id if it was minted; asking mints none."""
        return self.__dict__.get("generation")


@dataclass(frozen=True, kw_only=True)
class Retention:
    """How long conversations are kept after their last change. None: for ever.

    Items are given `slack` more than that, so that a conversation which goes on needs its old items put off only once
    in so long.
    """

    seconds: float | None = None

    @property
    def slack(self) -> float:
        return (self.seconds or 0) / 4

    def expires_at(self, now: float) -> int | None:
        """Return when DynamoDB may remove what is written now, in seconds since 1970."""
        return None if self.seconds is None else int(now + self.seconds + self.slack)

    def membership_expires_at(self, now: float) -> int | None:
        """Return when DynamoDB may remove the owner's entry, by which an erasure finds what there is.

        Later than anything that is written before the entry is put off again: that is due once the conversation
        changes more than `slack` from now, and the end of a reply, which puts nothing off, may come a day after.
        """
        return None if self.seconds is None else int(now + self.seconds + 2 * self.slack + _LATE_END_SECONDS)

    def is_over(self, head: Head, now: float) -> bool:
        """Whether a conversation has outlived its time. One in which a reply is made has not."""
        return self.seconds is not None and head.active is None and head.updated_at < now - self.seconds

    def is_stale(self, expires_at: int | None, now: float) -> bool:
        """Whether an item would go before a conversation that changes now."""
        if self.seconds is None:
            return expires_at is not None  # Written while there was a retention.
        return expires_at is None or expires_at < now + self.seconds


@dataclass(frozen=True, kw_only=True)
class Request:
    """A message, or the wish for another answer (`text` None)."""

    owner: PrincipalId
    client_message_id: str
    conversation_id: ConversationId | None
    text: str | None = None
    options: GenerationOptions = GenerationOptions()  # noqa: RUF009 - frozen

    @property
    def digest(self) -> str:
        return rules.RETRY_DIGEST if self.text is None else rules.digest(self.text)


@dataclass(frozen=True, kw_only=True)
class Write:
    """Puts one item (or deletes it, where only a key is given), if the condition holds."""

    item: Item
    condition: str = ""
    names: dict[str, str] | None = None
    values: dict[str, Any] | None = None
    is_deletion: bool = False


@dataclass(frozen=True, kw_only=True)
class BeginPlan:
    writes: list[Write]
    turn: StoredTurn
    begun: BegunTurn


@dataclass(frozen=True, kw_only=True)
class FinishPlan:
    writes: list[Write]
    turn: StoredTurn
    finished: FinishedGeneration


def check_known(known: KnownMessage, request: Request) -> None:
    """Raise `ClientMessageConflictError` unless the id was used for the same."""
    same_target = (
        known.began_conversation
        if request.conversation_id is None
        else known.conversation_id == request.conversation_id
    )
    if known.digest not in {None, request.digest} or not same_target:
        raise ClientMessageConflictError(request.client_message_id)


def require_owned(snapshot: Snapshot | None, owner: PrincipalId, conversation_id: ConversationId) -> Snapshot:
    """Return the snapshot if it is the owner's, or raise `ConversationNotFoundError`."""
    if snapshot is None or snapshot.head.owner != owner:
        raise ConversationNotFoundError(conversation_id)
    return snapshot


def plan_message(
    request: Request, snapshot: Snapshot | None, names: Names, *, now: float, retention: Retention
) -> BeginPlan:
    """Plan a user turn; raises what `begin_turn` does, conflicts of the message id left out."""
    if request.conversation_id is None:
        head = Head(
            conversation_id=names.conversation,
            owner=request.owner,
            title=rules.title_from(request.text or ""),
            created_at=now,
            updated_at=now,
        )
        snapshot = Snapshot(head=head)
    else:
        snapshot = _require_idle(snapshot, request.owner, request.conversation_id)
    record = _record(request.owner, snapshot, names, user_turn_id=names.turn, options=request.options, now=now)
    turn = Turn(
        turn_id=record.user_turn_id,
        role=Role.USER,
        text=request.text or "",
        status=TurnStatus.COMPLETE,
        created_at=now,
        generation_id=record.generation_id,
    )
    stored = StoredTurn(
        position=snapshot.head.last_position + 1,
        turn=turn,
        version=snapshot.head.version + 1,
        generations=(record.generation_id,),
        messages=(request.client_message_id,),
        expires_at=retention.expires_at(now),
    )
    return _begin(request, snapshot, record, [stored], now=now, retention=retention)


def last_asked(snapshot: Snapshot | None) -> GenerationId | None:
    """Return the generation that last answered the last user turn; its options are those of a retry."""
    asked = [one for one in snapshot.turns if one.turn.role is Role.USER] if snapshot else []
    return asked[-1].generations[-1] if asked else None


def plan_retry(
    request: Request,
    snapshot: Snapshot | None,
    names: Names,
    *,
    options: GenerationOptions,
    now: float,
    retention: Retention,
) -> BeginPlan:
    """Plan another answer; raises what `begin_retry` does, conflicts of the message id left out."""
    conversation_id = request.conversation_id or ConversationId("")
    snapshot = _require_idle(snapshot, request.owner, conversation_id)
    shown = [one for one in snapshot.turns if one.superseded_by is None]
    reply = shown[-1] if shown[-1].turn.role is Role.ASSISTANT else None
    asked = shown[-2] if reply else shown[-1]
    if reply and reply.turn.status is TurnStatus.COMPLETE:
        raise NothingToRetryError(conversation_id)
    user_turn_id = TurnId(asked.turn.turn_id)
    record = _record(request.owner, snapshot, names, user_turn_id=user_turn_id, options=options, now=now)
    version, expires_at = snapshot.head.version + 1, retention.expires_at(now)
    again = msgspec.structs.replace(
        asked,
        turn=msgspec.structs.replace(asked.turn, generation_id=record.generation_id, finish_reason=None, error=None),
        version=version,
        generations=(*asked.generations, record.generation_id),
        messages=(*asked.messages, request.client_message_id),
        expires_at=expires_at,
    )
    changed = [again]
    if reply:
        hidden = msgspec.structs.replace(
            reply, superseded_by=record.generation_id, version=version, expires_at=expires_at
        )
        changed.append(hidden)
    return _begin(request, snapshot, record, changed, now=now, retention=retention)


def plan_claim(
    stored: StoredGeneration, *, epoch: int, holder: str, now: float, expires_at: int | None
) -> tuple[Write, GenerationRecord]:
    """Plan a claim; raises what `claim` does."""
    rules.check_claim(stored.record, holder=holder, epoch=epoch, stored_holder=stored.holder)
    record = msgspec.structs.replace(stored.record, epoch=epoch)
    claimed = msgspec.structs.replace(stored, record=record, holder=holder, touched_at=now)
    item = items.generation_item(claimed, expires_at=expires_at)
    return _if_as_read(item, stored), record


def plan_finish(
    stored: StoredGeneration,
    snapshot: Snapshot,
    *,
    epoch: int,
    outcome: Outcome,
    names: Names,
    call: str,
    now: float,
    retention: Retention,
) -> FinishPlan:
    """Plan the end of a generation that runs in this conversation; raises `FencedError`."""
    rules.check_finish(stored.record, epoch=epoch)
    version, expires_at = snapshot.head.version + 1, retention.expires_at(now)
    turn_id = names.turn if rules.has_turn(outcome) else None
    record = msgspec.structs.replace(
        stored.record, status=GenerationStatus.FINISHED, epoch=epoch, outcome=outcome, turn_id=turn_id
    )
    if turn_id is not None:
        turn = rules.assistant_turn(outcome, turn_id=turn_id, generation_id=record.generation_id, created_at=now)
        changed = StoredTurn(
            position=snapshot.head.last_position + 1, turn=turn, version=version, expires_at=expires_at
        )
    else:
        (asked,) = (one for one in snapshot.turns if one.turn.turn_id == record.user_turn_id)
        failed = msgspec.structs.replace(asked.turn, finish_reason=outcome.finish_reason, error=outcome.error)
        changed = msgspec.structs.replace(asked, turn=failed, version=version, expires_at=expires_at)
    after = _changed(snapshot, [changed], active=None, now=now)
    ended = msgspec.structs.replace(
        stored,
        record=record,
        touched_at=now,
        position=changed.position if turn_id is not None else None,
        ended_by=call,
    )
    return FinishPlan(
        writes=[
            _head_write(after.head, before=snapshot.head, expires_at=expires_at),
            Write(item=items.turn_item(after.head.conversation_id, changed)),
            _if_as_read(items.generation_item(ended, expires_at=expires_at), stored),
        ],
        turn=changed,
        finished=FinishedGeneration(generation=record, conversation=after.shown()),
    )


def plan_rename(snapshot: Snapshot, title: str, *, retention: Retention) -> tuple[Write, Snapshot]:
    """Plan another title. It is no change that prolongs anything: the head expires when it would have."""
    head = msgspec.structs.replace(snapshot.head, title=title, version=snapshot.head.version + 1)
    expires_at = retention.expires_at(head.updated_at)
    return _head_write(head, before=snapshot.head, expires_at=expires_at), Snapshot(head=head, turns=snapshot.turns)


def plan_deletion(head: Head, *, call: str) -> list[Write]:
    """Plan the end of a conversation for everybody who asks; its items are removed afterwards."""
    gone = msgspec.structs.replace(head, title="", active=None, version=head.version + 1, deleted_by=call)
    writes = [_head_write(gone, before=head, expires_at=None)]
    if head.active is not None:
        writes.append(Write(item=keys.generation_key(head.active), is_deletion=True))
    return writes


def _require_idle(snapshot: Snapshot | None, owner: PrincipalId, conversation_id: ConversationId) -> Snapshot:
    snapshot = require_owned(snapshot, owner, conversation_id)
    if snapshot.head.active is not None:
        raise GenerationRunningError(conversation_id, snapshot.head.active)
    return snapshot


def _record(
    owner: PrincipalId,
    snapshot: Snapshot,
    names: Names,
    *,
    user_turn_id: TurnId,
    options: GenerationOptions,
    now: float,
) -> GenerationRecord:
    return GenerationRecord(
        generation_id=names.generation,
        conversation_id=snapshot.head.conversation_id,
        owner=owner,
        user_turn_id=user_turn_id,
        options=options,
        status=GenerationStatus.RUNNING,
        epoch=0,
        created_at=now,
    )


def _begin(
    request: Request,
    snapshot: Snapshot,
    record: GenerationRecord,
    changed: list[StoredTurn],
    *,
    now: float,
    retention: Retention,
) -> BeginPlan:
    expires_at = retention.expires_at(now)
    after = _changed(snapshot, changed, active=record.generation_id, now=now)
    message = KnownMessage(
        owner=request.owner,
        client_message_id=request.client_message_id,
        began_conversation=request.conversation_id is None,
        conversation_id=record.conversation_id,
        generation_id=record.generation_id,
        digest=request.digest,
    )
    generation = StoredGeneration(record=record, touched_at=now)
    writes = [
        _head_write(after.head, before=snapshot.head, expires_at=expires_at),
        *(Write(item=items.turn_item(record.conversation_id, one)) for one in changed),
        Write(item=items.generation_item(generation, expires_at=expires_at)),
        _if_new(items.message_item(message, expires_at=expires_at)),
    ]
    if snapshot.head.version == 0:
        lasting = retention.membership_expires_at(now)
        writes.append(Write(item=items.membership_item(after.head, expires_at=lasting)))
    return BeginPlan(writes=writes, turn=changed[0], begun=BegunTurn(generation=record, conversation=after.shown()))


def _changed(snapshot: Snapshot, changed: list[StoredTurn], *, active: GenerationId | None, now: float) -> Snapshot:
    turns = {one.position: one for one in snapshot.turns} | {one.position: one for one in changed}
    head = msgspec.structs.replace(
        snapshot.head,
        updated_at=max(now, snapshot.head.updated_at),
        version=snapshot.head.version + 1,
        active=active,
        last_position=max(turns),
        seal=sum(one.version for one in turns.values()),
    )
    return Snapshot(head=head, turns=tuple(turns[position] for position in sorted(turns)))


def _head_write(head: Head, *, before: Head, expires_at: int | None) -> Write:
    write = Write(item=items.head_item(head, expires_at=expires_at))
    if before.version == 0:
        return _if_new(write.item)
    return replace(write, condition="version = :read", values={":read": {"N": repr(before.version)}})


def _if_new(item: Item) -> Write:
    return Write(item=item, condition="attribute_not_exists(pk)")


def _if_as_read(item: Item, stored: StoredGeneration) -> Write:
    # "status" is a reserved word.
    return Write(
        item=item,
        condition="#status = :running AND epoch = :epoch",
        names={"#status": "status"},
        values={
            ":running": {"S": GenerationStatus.RUNNING.value},
            ":epoch": {"N": repr(stored.record.epoch)},
        },
    )
