"""What a principal may do: the scopes, and which of them each path asks for. Pure; closed by default.

A path below /api that is not named here is for administrators only: a route that is added without a line here is shut,
not open.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

from pratique.orchestrator.access.errors import ForbiddenError, HiddenError

if TYPE_CHECKING:
    from pratique.orchestrator.access.principal import Principal

__all__ = ["KEY_SCOPES", "SESSION_SCOPES", "Scope", "scope_of_path", "verify_scope"]


class Scope(enum.Enum):
    """One thing that may be allowed."""

    CHAT = "chat"
    """The chat: messages, conversations, sockets; one's own only."""
    OPENAI = "openai"
    """The OpenAI API, /v1."""
    ADMIN = "admin"
    """Whatever else is below /api."""


SESSION_SCOPES: Final = frozenset({Scope.CHAT})
KEY_SCOPES: Final = frozenset({Scope.CHAT, Scope.OPENAI})
"""Of a key that was made without scopes, as all were before there were any."""

_PUBLIC: Final = frozenset({"/api/session", "/api/status"})
_PUBLIC_PREFIX: Final = "/api/schema/"
_CHAT: Final = frozenset({"/api/ws", "/api/chat", "/api/retry", "/api/cancel", "/api/conversations", "/api/models"})
_CHAT_PREFIXES: Final = ("/api/conversations/", "/api/me/")


def scope_of_path(path: str) -> Scope | None:
    """Return the scope that a path asks for; None where it is public.

    The page and the probes are public; so is /api/session, which only says who asks, or makes a new session.
    """
    if path == "/v1" or path.startswith("/v1/"):
        return Scope.OPENAI
    if not path.startswith("/api") or path in _PUBLIC or path.startswith(_PUBLIC_PREFIX):
        return None
    if path in _CHAT or path.startswith(_CHAT_PREFIXES):
        return Scope.CHAT
    return Scope.ADMIN


def verify_scope(principal: Principal, needed: Scope) -> None:
    """Raise `ForbiddenError` where the principal may not do that; administration looks as if it were not there."""
    if needed in principal.scopes:
        return
    if needed is Scope.ADMIN:
        raise HiddenError("There is no such path.")
    raise ForbiddenError(
        f"This credential may not do that: it lacks the scope '{needed.value}'.",
        hint="Ask for a key or a token with that scope.",
    )
