"""What each path asks for: closed by default."""

from __future__ import annotations

import pytest

from pratique.core.ids import PrincipalId
from pratique.orchestrator.access import ForbiddenError, Principal, PrincipalKind, Scope, scope_of_path, verify_scope

pytestmark = pytest.mark.unit


def principal(*scopes: Scope) -> Principal:
    return Principal(principal_id=PrincipalId("usr_1"), kind=PrincipalKind.SESSION, name="x", scopes=frozenset(scopes))


@pytest.mark.parametrize(
    ("path", "scope"),
    [
        ("/api/anything-new", Scope.ADMIN),
        ("/api", Scope.ADMIN),
        ("/apiary", Scope.ADMIN),
        ("/api/session/x", Scope.ADMIN),
        ("/api/schema", Scope.ADMIN),
        ("/api/conversationsx", Scope.ADMIN),
        ("/api/ws", Scope.CHAT),
        ("/api/chat", Scope.CHAT),
        ("/api/conversations", Scope.CHAT),
        ("/api/conversations/conv_1/events", Scope.CHAT),
        ("/v1", Scope.OPENAI),
        ("/v1/chat/completions", Scope.OPENAI),
        ("/api/session", None),
        ("/api/schema/openapi.json", None),
        ("/livez", None),
        ("/", None),
    ],
)
def test_a_path_asks_for_its_scope_and_an_unknown_one_for_most(path: str, scope: Scope | None) -> None:
    assert scope_of_path(path) is scope


def test_a_principal_without_scopes_may_do_nothing() -> None:
    for scope in Scope:
        with pytest.raises(ForbiddenError):
            verify_scope(principal(), scope)
        verify_scope(principal(scope), scope)


def test_administration_looks_as_if_it_were_not_there() -> None:
    with pytest.raises(ForbiddenError) as refused:
        verify_scope(principal(Scope.CHAT, Scope.OPENAI), Scope.ADMIN)
    assert refused.value.code == "not_found"
