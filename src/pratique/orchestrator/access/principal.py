"""The one who asks."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pratique.core.ids import PrincipalId

__all__ = ["Principal", "PrincipalKind"]


class PrincipalKind(enum.Enum):
    """How the principal proved who it is."""

    SESSION = "session"
    API_KEY = "api_key"


@dataclass(frozen=True, kw_only=True)
class Principal:
    """Owner of conversations. `principal_id` is stable across requests, replicas and restarts."""

    principal_id: PrincipalId
    kind: PrincipalKind
    name: str
