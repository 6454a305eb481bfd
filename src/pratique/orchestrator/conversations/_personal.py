"""One person's data in the SQLite store: read whole, erased step by step; and what has grown too old, purged.

Blocking; each function runs inside a transaction that its caller began.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pratique.core.ids import ConversationId, GenerationId, PrincipalId
from pratique.orchestrator.conversations import rules
from pratique.orchestrator.conversations._rows import select_all_generations, select_all_turns
from pratique.orchestrator.conversations.interface import (
    Erased,
    ExportedConversation,
    ExportedTurn,
    GenerationRecord,
    GenerationStatus,
)

if TYPE_CHECKING:
    import sqlite3

__all__ = ["erase_step", "purge_step", "select_export", "select_names"]

_NAMES_AT_ONCE = 200
_MESSAGES_AT_ONCE = 5_000


def select_names(
    connection: sqlite3.Connection, *, owner: PrincipalId, after: str, limit: int = _NAMES_AT_ONCE
) -> list[ConversationId]:
    """Return the owner's next conversations in the order of their ids, which no change of theirs upsets."""
    rows = connection.execute(
        "SELECT conversation_id FROM conversations WHERE owner = ? AND conversation_id > ?"
        " ORDER BY conversation_id LIMIT ?",
        (owner, after, limit),
    )
    return [ConversationId(name) for (name,) in rows]


def select_export(connection: sqlite3.Connection, *, conversation_id: ConversationId) -> ExportedConversation | None:
    """Return all that is kept of a conversation; None where it was deleted meanwhile."""
    head = connection.execute(
        "SELECT title, created_at, updated_at FROM conversations WHERE conversation_id = ?", (conversation_id,)
    ).fetchone()
    if head is None:
        return None
    title, created_at, updated_at = head
    turns = (
        ExportedTurn(turn=turn, superseded_by=GenerationId(hidden_by) if hidden_by else None)
        for turn, hidden_by in select_all_turns(connection, conversation_id)
    )
    return ExportedConversation(
        conversation_id=conversation_id,
        title=title,
        created_at=created_at,
        updated_at=updated_at,
        turns=tuple(turns),
        generations=tuple(map(rules.without_text, select_all_generations(connection, conversation_id))),
    )


def erase_step(connection: sqlite3.Connection, *, owner: PrincipalId, limit: int) -> Erased:
    """Remove up to `limit` conversations; once none is left, the client message ids, a bounded number at a time."""
    connection.execute("PRAGMA secure_delete = ON")  # What is freed is overwritten, whatever that costs.
    names = select_names(connection, owner=owner, after="", limit=limit)
    num_turns = 0
    records: list[GenerationRecord] = []
    for name in names:
        (count,) = connection.execute("SELECT count(*) FROM turns WHERE conversation_id = ?", (name,)).fetchone()
        num_turns += count
        records += map(rules.without_text, select_all_generations(connection, name))
        connection.execute("DELETE FROM conversations WHERE conversation_id = ?", (name,))
    num_messages = 0
    if len(names) < limit:
        num_messages = connection.execute(
            "DELETE FROM messages WHERE owner = ? AND client_message_id IN"
            " (SELECT client_message_id FROM messages WHERE owner = ? LIMIT ?)",
            (owner, owner, _MESSAGES_AT_ONCE),
        ).rowcount
    connection.execute("PRAGMA secure_delete = FAST")
    return Erased(
        conversation_ids=tuple(names),
        running=tuple(one for one in records if one.status is GenerationStatus.RUNNING),
        num_turns=num_turns,
        num_generations=len(records),
        num_messages=num_messages,
        complete=len(names) < limit and num_messages < _MESSAGES_AT_ONCE,
    )


def purge_step(connection: sqlite3.Connection, *, unchanged_since: float, limit: int) -> tuple[ConversationId, ...]:
    """Remove up to `limit` conversations that were last changed before then, the oldest first."""
    rows = connection.execute(
        "SELECT conversation_id FROM conversations AS c WHERE updated_at < ? AND NOT EXISTS"
        " (SELECT 1 FROM generations AS g WHERE g.conversation_id = c.conversation_id AND status = 'running')"
        " ORDER BY updated_at, conversation_id LIMIT ?",
        (unchanged_since, limit),
    )
    names = tuple(ConversationId(name) for (name,) in rows.fetchall())
    for name in names:
        connection.execute("DELETE FROM messages WHERE conversation_id = ?", (name,))
        connection.execute("DELETE FROM conversations WHERE conversation_id = ?", (name,))
    return names
