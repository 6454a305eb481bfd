"""The one who asks."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pratique.core.ids import PrincipalId
    from pratique.orchestrator.access.scopes import Scope

__all__ = ["Principal", "PrincipalKind"]


class PrincipalKind(enum.Enum):
    """How the principal proved who it is."""

    SESSION = "session"
    API_KEY = "api_key"
    TOKEN = "token"  # noqa: S105 - a word, no credential


@dataclass(frozen=True, kw_only=True)
class Principal:
    """Owner of conversations. `principal_id` is stable across requests, replicas and restarts."""

    principal_id: PrincipalId
    kind: PrincipalKind
    name: str
    scopes: frozenset[Scope] = frozenset()
    """What it may do; nothing by default."""
    tier: str = ""
    """Which of the configured limits apply to it; "" the general ones."""
    expires_at: float | None = None
    """When its credential ends, in seconds since 1970 UTC; a socket does not outlive that."""
    key_id: str = ""
    """The API key that it came with: keys are revoked, which a socket does not outlive either."""
