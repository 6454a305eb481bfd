"""A conversation → what the model server is asked. Pure.

The reply belongs to one user turn: what stands before it is history, what stands after it is none of the model's
business. Roles alternate, because many chat templates refuse anything else: a user turn whose reply failed without a
word is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pratique.core.errors import CallerError
from pratique.orchestrator.protocol.events import Role, Turn
from pratique.orchestrator.upstream.interface import HistoryTurn

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["assemble_history"]


def assemble_history(turns: Sequence[Turn], *, user_turn_id: str, limit: int) -> tuple[str, tuple[HistoryTurn, ...]]:
    """Return the query, and at most `limit` earlier turns, beginning with one of the user's.

    Raises:
        CallerError: there is no such user turn.
    """
    position = next((index for index, turn in enumerate(turns) if turn.turn_id == user_turn_id), None)
    if position is None:
        raise CallerError(f"Expected the user turn {user_turn_id} in the conversation; it is not there.")
    answered: list[HistoryTurn] = []
    for turn in turns[:position]:
        if answered and answered[-1].role == turn.role.value:
            answered.pop()
        if turn.text:
            answered.append(HistoryTurn(turn.role.value, turn.text))
    if answered and answered[-1].role == Role.USER.value:
        answered.pop()
    newest = answered[-limit:]
    while newest and newest[0].role != Role.USER.value:
        newest.pop(0)
    return turns[position].text, tuple(newest)
