"""A conversation becomes a request."""

from __future__ import annotations

import pytest

from pratique.core.errors import CallerError
from pratique.orchestrator.protocol.events import Role, Turn, TurnStatus
from pratique.orchestrator.upstream.history import assemble_history
from pratique.orchestrator.upstream.interface import HistoryTurn

pytestmark = pytest.mark.unit


def turns(*texts: str) -> list[Turn]:
    roles = (Role.USER, Role.ASSISTANT)
    return [
        Turn(turn_id=f"t{n}", role=roles[n % 2], text=text, status=TurnStatus.COMPLETE, created_at=0)
        for n, text in enumerate(texts)
    ]


def test_first_message_has_no_history() -> None:
    assert assemble_history(turns("hi"), user_turn_id="t0", limit=10) == ("hi", ())


def test_only_what_stands_before_it_counts() -> None:
    query, history = assemble_history(turns("a", "b", "c", "d"), user_turn_id="t2", limit=10)
    assert (query, history) == ("c", (HistoryTurn("user", "a"), HistoryTurn("assistant", "b")))


def test_limit_keeps_the_newest_and_begins_with_the_user() -> None:
    query, history = assemble_history(turns("a", "b", "c", "d", "e"), user_turn_id="t4", limit=3)
    assert (query, [turn.content for turn in history]) == ("e", ["c", "d"])


def test_question_whose_answer_was_empty_is_left_out() -> None:
    _, history = assemble_history(turns("a", "", "c"), user_turn_id="t2", limit=10)
    assert history == ()


def test_roles_alternate_although_replies_failed() -> None:
    user, assistant = Role.USER, Role.ASSISTANT
    said = [(user, "a"), (user, "b"), (assistant, "B"), (user, "c"), (user, "d"), (user, "e")]
    made = [
        Turn(turn_id=f"t{n}", role=role, text=text, status=TurnStatus.COMPLETE, created_at=0)
        for n, (role, text) in enumerate(said)
    ]
    query, history = assemble_history(made, user_turn_id="t5", limit=10)
    assert (query, [turn.content for turn in history]) == ("e", ["b", "B"])


def test_turn_that_is_not_there() -> None:
    with pytest.raises(CallerError):
        assemble_history(turns("a"), user_turn_id="t9", limit=10)
