"""Rows to values and back. Blocking; each function runs inside a transaction that its caller began."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from pratique.core.ids import ConversationId, GenerationId, PrincipalId, TurnId
from pratique.orchestrator.conversations import rules
from pratique.orchestrator.conversations.errors import ConversationNotFoundError, GenerationNotFoundError
from pratique.orchestrator.conversations.interface import (
    GenerationOptions,
    GenerationRecord,
    GenerationStatus,
    Outcome,
    Page,
    StoredConversation,
)
from pratique.orchestrator.protocol.events import (
    Conversation,
    ConversationSummary,
    EventError,
    FinishReason,
    ReplyDetails,
    Role,
    Turn,
    TurnStatus,
)

if TYPE_CHECKING:
    import sqlite3

__all__ = [
    "insert_generation",
    "insert_turn",
    "optional_json",
    "select_all_generations",
    "select_all_turns",
    "select_generation",
    "select_owner_and_active",
    "select_page",
    "select_running",
    "select_snapshot",
]

S = TypeVar("S", bound=msgspec.Struct)

_TURN: Final = (
    "turn_id, role, text, status, created_at, finish_reason, generation_id, error, was_truncated, turns_dropped,"
    " details"
)
_GENERATION: Final = (
    "generation_id, conversation_id, owner, user_turn_id, options, status, epoch, created_at, outcome, turn_id"
)


def optional_json(value: msgspec.Struct | None) -> str | None:
    """Return what an optional JSON column holds."""
    return None if value is None else msgspec.json.encode(value).decode()


def select_snapshot(connection: sqlite3.Connection, conversation_id: str) -> StoredConversation:
    """Return the conversation as readers see it, or raise `ConversationNotFoundError`."""
    head = connection.execute(
        "SELECT owner, title, created_at, updated_at, version, (SELECT generation_id FROM generations AS g"
        " WHERE g.conversation_id = c.conversation_id AND status = 'running')"
        " FROM conversations AS c WHERE conversation_id = ?",
        (conversation_id,),
    ).fetchone()
    if head is None:
        raise ConversationNotFoundError(conversation_id)
    turns = connection.execute(
        f"SELECT {_TURN} FROM turns WHERE conversation_id = ? AND superseded_by IS NULL ORDER BY position",  # noqa: S608 - a constant
        (conversation_id,),
    )
    owner, title, created_at, updated_at, version, active = head
    conversation = Conversation(
        conversation_id=conversation_id,
        title=title,
        created_at=created_at,
        updated_at=updated_at,
        version=version,
        turns=tuple(map(_turn, turns)),
        active_generation_id=active,
    )
    return StoredConversation(owner=PrincipalId(owner), conversation=conversation)


def select_owner_and_active(
    connection: sqlite3.Connection, conversation_id: str
) -> tuple[PrincipalId, GenerationId | None]:
    """Return whose it is and the generation that runs in it, or raise `ConversationNotFoundError`."""
    row = connection.execute(
        "SELECT owner, (SELECT generation_id FROM generations AS g"
        " WHERE g.conversation_id = c.conversation_id AND status = 'running')"
        " FROM conversations AS c WHERE conversation_id = ?",
        (conversation_id,),
    ).fetchone()
    if row is None:
        raise ConversationNotFoundError(conversation_id)
    return PrincipalId(row[0]), row[1] and GenerationId(row[1])


def select_generation(connection: sqlite3.Connection, generation_id: str) -> GenerationRecord:
    """Return the record, or raise `GenerationNotFoundError`."""
    row = connection.execute(
        f"SELECT {_GENERATION} FROM generations WHERE generation_id = ?",  # noqa: S608 - a constant
        (generation_id,),
    ).fetchone()
    if row is None:
        raise GenerationNotFoundError(generation_id)
    return _record(row)


def select_running(connection: sqlite3.Connection, *, touched_until: float) -> list[GenerationRecord]:
    """Return unfinished generations last touched until then, oldest first."""
    rows = connection.execute(
        f"SELECT {_GENERATION} FROM generations WHERE status = 'running' AND touched_at <= ?"  # noqa: S608 - a constant
        " ORDER BY touched_at, generation_id LIMIT ?",
        (touched_until, rules.MAX_RUNNING),
    )
    return [_record(row) for row in rows]


def select_all_turns(connection: sqlite3.Connection, conversation_id: str) -> list[tuple[Turn, str | None]]:
    """Return every turn with the generation that hid it, in the order they were said."""
    rows = connection.execute(
        f"SELECT superseded_by, {_TURN} FROM turns WHERE conversation_id = ? ORDER BY position",  # noqa: S608 - a constant
        (conversation_id,),
    )
    return [(_turn(row[1:]), row[0]) for row in rows]


def select_all_generations(connection: sqlite3.Connection, conversation_id: str) -> list[GenerationRecord]:
    """Return every generation, oldest first."""
    rows = connection.execute(
        f"SELECT {_GENERATION} FROM generations WHERE conversation_id = ? ORDER BY created_at, generation_id",  # noqa: S608 - a constant
        (conversation_id,),
    )
    return [_record(row) for row in rows]


def select_page(connection: sqlite3.Connection, owner: str, limit: int, before: tuple[float, str]) -> Page:
    """Return the page of an owner's list that follows a place in it."""
    rows = connection.execute(
        "SELECT conversation_id, title, created_at, updated_at FROM conversations"
        " WHERE owner = ? AND (updated_at, conversation_id) < (?, ?)"
        " ORDER BY updated_at DESC, conversation_id DESC LIMIT ?",
        (owner, *before, limit + 1),
    ).fetchall()
    shown = tuple(
        ConversationSummary(conversation_id=name, title=title, created_at=created_at, updated_at=updated_at)
        for name, title, created_at, updated_at in rows[:limit]
    )
    following = rules.encode_cursor(shown[-1].updated_at, shown[-1].conversation_id) if len(rows) > limit else None
    return Page(conversations=shown, next=following)


def insert_turn(connection: sqlite3.Connection, conversation_id: str, turn: Turn) -> None:
    """Append a turn."""
    connection.execute(
        f"INSERT INTO turns (conversation_id, position, {_TURN}) VALUES (?,"  # noqa: S608 - a constant
        " (SELECT coalesce(max(position), 0) + 1 FROM turns WHERE conversation_id = ?), ?,?,?,?,?,?,?,?,?,?,?)",
        (
            conversation_id,
            conversation_id,
            turn.turn_id,
            turn.role.value,
            turn.text,
            turn.status.value,
            turn.created_at,
            turn.finish_reason and turn.finish_reason.value,
            turn.generation_id,
            optional_json(turn.error),
            turn.was_truncated,
            turn.turns_dropped,
            optional_json(turn.details),
        ),
    )


def insert_generation(connection: sqlite3.Connection, record: GenerationRecord) -> None:
    """Store a generation that begins."""
    connection.execute(
        "INSERT INTO generations (generation_id, conversation_id, owner, user_turn_id, options, status, created_at,"
        " touched_at) VALUES (?,?,?,?,?,?,?,?)",
        (
            record.generation_id,
            record.conversation_id,
            record.owner,
            record.user_turn_id,
            optional_json(record.options),
            record.status.value,
            record.created_at,
            record.created_at,
        ),
    )


def _turn(row: tuple[Any, ...]) -> Turn:
    turn_id, role, text, status, created_at, finish_reason, generation_id, error, was_truncated, dropped, details = row
    return Turn(
        turn_id=turn_id,
        role=Role(role),
        text=text,
        status=TurnStatus(status),
        created_at=created_at,
        finish_reason=FinishReason(finish_reason) if finish_reason else None,
        generation_id=generation_id,
        error=_from_json(error, EventError),
        was_truncated=bool(was_truncated),
        turns_dropped=dropped,
        details=_from_json(details, ReplyDetails),
    )


def _record(row: tuple[Any, ...]) -> GenerationRecord:
    generation_id, conversation_id, owner, user_turn_id, options, status, epoch, created_at, outcome, turn_id = row
    return GenerationRecord(
        generation_id=GenerationId(generation_id),
        conversation_id=ConversationId(conversation_id),
        owner=PrincipalId(owner),
        user_turn_id=TurnId(user_turn_id),
        options=msgspec.json.decode(options, type=GenerationOptions),
        status=GenerationStatus(status),
        epoch=epoch,
        created_at=created_at,
        outcome=_from_json(outcome, Outcome),
        turn_id=turn_id and TurnId(turn_id),
    )


def _from_json(text: str | None, kind: type[S]) -> S | None:
    return None if text is None else msgspec.json.decode(text, type=kind)
