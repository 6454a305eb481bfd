"""What each write of the SQLite store does inside its transaction. Blocking; runs in the writer's thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from pratique.core.ids import ConversationId, GenerationId, IdSource, PrincipalId, TurnId
from pratique.orchestrator.conversations import rules
from pratique.orchestrator.conversations._rows import (
    insert_generation,
    insert_turn,
    optional_json,
    select_generation,
    select_owner_and_active,
    select_snapshot,
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
    StoredConversation,
)
from pratique.orchestrator.protocol.events import Role, Turn, TurnStatus

if TYPE_CHECKING:
    import sqlite3

    from pratique.core.clock import Clock

__all__ = ["BeginRetry", "BeginTurn", "Transactions"]


@dataclass(frozen=True, kw_only=True)
class BeginTurn:
    """A user's message."""

    owner: PrincipalId
    conversation_id: ConversationId | None
    client_message_id: str
    text: str
    options: GenerationOptions


@dataclass(frozen=True, kw_only=True)
class BeginRetry:
    """A user's wish for another answer."""

    owner: PrincipalId
    conversation_id: ConversationId
    client_message_id: str


class Transactions:
    """The writes, over a clock and a source of ids."""

    def __init__(self, *, clock: Clock, ids: IdSource) -> None:
        self._clock = clock
        self._ids = ids

    def begin_turn(self, connection: sqlite3.Connection, request: BeginTurn) -> BegunTurn:
        text = rules.storable(request.text)
        digest = rules.digest(text)
        if (known := _known_message(connection, request)) is not None:
            stored_digest, began_conversation, conversation_id, generation_id = known
            is_same_target = (
                began_conversation if request.conversation_id is None else request.conversation_id == conversation_id
            )
            if stored_digest not in {None, digest} or not is_same_target:
                raise ClientMessageConflictError(request.client_message_id)
            return _begun_before(connection, conversation_id, generation_id)
        now = self._clock.epoch()
        if request.conversation_id is None:
            conversation_id = self._insert_conversation(connection, request.owner, text, now)
        else:
            conversation_id = request.conversation_id
            _require_idle(connection, request.owner, conversation_id)
        record = self._new_generation(request, conversation_id, self._ids.new("turn"), request.options, now)
        insert_generation(connection, record)
        turn = Turn(
            turn_id=record.user_turn_id,
            role=Role.USER,
            text=text,
            status=TurnStatus.COMPLETE,
            created_at=now,
            generation_id=record.generation_id,
        )
        insert_turn(connection, conversation_id, turn)
        return _begun(connection, request, record, digest=digest, now=now)

    def begin_retry(self, connection: sqlite3.Connection, request: BeginRetry) -> BegunTurn:
        if (known := _known_message(connection, request)) is not None:
            stored_digest, _, conversation_id, generation_id = known
            if conversation_id != request.conversation_id or stored_digest not in {None, rules.RETRY_DIGEST}:
                raise ClientMessageConflictError(request.client_message_id)
            return _begun_before(connection, conversation_id, generation_id)
        now = self._clock.epoch()
        _require_idle(connection, request.owner, request.conversation_id)
        turns = select_snapshot(connection, request.conversation_id).conversation.turns
        reply = turns[-1] if turns[-1].role is Role.ASSISTANT else None
        asked = turns[-2] if reply else turns[-1]
        if reply and reply.status is TurnStatus.COMPLETE:
            raise NothingToRetryError(request.conversation_id)
        options = select_generation(connection, asked.generation_id or "").options
        record = self._new_generation(request, request.conversation_id, asked.turn_id, options, now)
        insert_generation(connection, record)
        if reply:
            connection.execute(
                "UPDATE turns SET superseded_by = ? WHERE turn_id = ?", (record.generation_id, reply.turn_id)
            )
        connection.execute(
            "UPDATE turns SET generation_id = ?, finish_reason = NULL, error = NULL WHERE turn_id = ?",
            (record.generation_id, asked.turn_id),
        )
        return _begun(connection, request, record, digest=rules.RETRY_DIGEST, now=now)

    def claim(
        self, connection: sqlite3.Connection, generation_id: GenerationId, epoch: int, holder: str
    ) -> GenerationRecord:
        record = select_generation(connection, generation_id)
        (stored_holder,) = connection.execute(
            "SELECT holder FROM generations WHERE generation_id = ?", (generation_id,)
        ).fetchone()
        rules.check_claim(record, holder=holder, epoch=epoch, stored_holder=stored_holder)
        connection.execute(
            "UPDATE generations SET epoch = ?, holder = ?, touched_at = ? WHERE generation_id = ?",
            (epoch, holder, self._clock.epoch(), generation_id),
        )
        return msgspec.structs.replace(record, epoch=epoch)

    def finish(
        self, connection: sqlite3.Connection, generation_id: GenerationId, epoch: int, outcome: Outcome
    ) -> FinishedGeneration:
        record = select_generation(connection, generation_id)
        if record.status is GenerationStatus.FINISHED:
            snapshot = select_snapshot(connection, record.conversation_id)
            return FinishedGeneration(generation=record, conversation=snapshot, already=True)
        rules.check_finish(record, epoch=epoch)
        now = self._clock.epoch()
        outcome = msgspec.structs.replace(outcome, text=rules.storable(outcome.text))
        turn_id = TurnId(self._ids.new("turn")) if rules.has_turn(outcome) else None
        ended = msgspec.structs.replace(
            record, status=GenerationStatus.FINISHED, epoch=epoch, outcome=outcome, turn_id=turn_id
        )
        _store_end(connection, ended, outcome, now)
        _touch_conversation(connection, record.conversation_id, now)
        return FinishedGeneration(generation=ended, conversation=select_snapshot(connection, record.conversation_id))

    @staticmethod
    def rename(
        connection: sqlite3.Connection, owner: PrincipalId, conversation_id: ConversationId, title: str
    ) -> StoredConversation:
        _require_owned(connection, owner, conversation_id)
        connection.execute(
            "UPDATE conversations SET title = ?, version = version + 1 WHERE conversation_id = ?",
            (title, conversation_id),
        )
        return select_snapshot(connection, conversation_id)

    @staticmethod
    def delete(
        connection: sqlite3.Connection, owner: PrincipalId, conversation_id: ConversationId
    ) -> GenerationId | None:
        active = _require_owned(connection, owner, conversation_id)
        connection.execute("DELETE FROM conversations WHERE conversation_id = ?", (conversation_id,))
        # A digest of a short text could be guessed back into the text.
        connection.execute("UPDATE messages SET digest = NULL WHERE conversation_id = ?", (conversation_id,))
        return active

    def _insert_conversation(
        self, connection: sqlite3.Connection, owner: PrincipalId, text: str, now: float
    ) -> ConversationId:
        name = ConversationId(self._ids.new("conv"))
        connection.execute(
            "INSERT INTO conversations (conversation_id, owner, title, created_at, updated_at, version)"
            " VALUES (?,?,?,?,?,0)",
            (name, owner, rules.title_from(text), now, now),
        )
        return name

    def _new_generation(
        self,
        request: BeginTurn | BeginRetry,
        conversation_id: ConversationId,
        user_turn_id: str,
        options: GenerationOptions,
        now: float,
    ) -> GenerationRecord:
        return GenerationRecord(
            generation_id=GenerationId(self._ids.new("gen")),
            conversation_id=conversation_id,
            owner=request.owner,
            user_turn_id=TurnId(user_turn_id),
            options=options,
            status=GenerationStatus.RUNNING,
            epoch=0,
            created_at=now,
        )


def _known_message(
    connection: sqlite3.Connection, request: BeginTurn | BeginRetry
) -> tuple[str | None, bool, ConversationId, GenerationId] | None:
    row = connection.execute(
        "SELECT digest, began_conversation, conversation_id, generation_id FROM messages"
        " WHERE owner = ? AND client_message_id = ?",
        (request.owner, request.client_message_id),
    ).fetchone()
    return row and (row[0], bool(row[1]), ConversationId(row[2]), GenerationId(row[3]))


def _begun_before(connection: sqlite3.Connection, conversation_id: str, generation_id: str) -> BegunTurn:
    # The snapshot first: a conversation that was deleted took its generations with it.
    snapshot = select_snapshot(connection, conversation_id)
    return BegunTurn(generation=select_generation(connection, generation_id), conversation=snapshot, duplicate=True)


def _begun(
    connection: sqlite3.Connection,
    request: BeginTurn | BeginRetry,
    record: GenerationRecord,
    *,
    digest: str,
    now: float,
) -> BegunTurn:
    connection.execute(
        "INSERT INTO messages (owner, client_message_id, digest, began_conversation, conversation_id, generation_id)"
        " VALUES (?,?,?,?,?,?)",
        (
            request.owner,
            request.client_message_id,
            digest,
            request.conversation_id is None,
            record.conversation_id,
            record.generation_id,
        ),
    )
    _touch_conversation(connection, record.conversation_id, now)
    return BegunTurn(generation=record, conversation=select_snapshot(connection, record.conversation_id))


def _require_owned(
    connection: sqlite3.Connection, owner: PrincipalId, conversation_id: ConversationId
) -> GenerationId | None:
    """Return the generation that runs in the owner's conversation, or raise `ConversationNotFoundError`."""
    stored_owner, active = select_owner_and_active(connection, conversation_id)
    if stored_owner != owner:
        raise ConversationNotFoundError(conversation_id)
    return active


def _require_idle(connection: sqlite3.Connection, owner: PrincipalId, conversation_id: ConversationId) -> None:
    active = _require_owned(connection, owner, conversation_id)
    if active is not None:
        raise GenerationRunningError(conversation_id, active)


def _touch_conversation(connection: sqlite3.Connection, conversation_id: str, now: float) -> None:
    connection.execute(
        "UPDATE conversations SET version = version + 1, updated_at = max(updated_at, ?) WHERE conversation_id = ?",
        (now, conversation_id),
    )


def _store_end(connection: sqlite3.Connection, record: GenerationRecord, outcome: Outcome, now: float) -> None:
    connection.execute(
        "UPDATE generations SET status = 'finished', epoch = ?, outcome = ?, turn_id = ?, touched_at = ?"
        " WHERE generation_id = ?",
        (record.epoch, optional_json(outcome), record.turn_id, now, record.generation_id),
    )
    if record.turn_id is None:
        connection.execute(
            "UPDATE turns SET finish_reason = ?, error = ? WHERE turn_id = ?",
            (outcome.finish_reason.value, optional_json(outcome.error), record.user_turn_id),
        )
        return
    turn = rules.assistant_turn(outcome, turn_id=record.turn_id, generation_id=record.generation_id, created_at=now)
    insert_turn(connection, record.conversation_id, turn)
