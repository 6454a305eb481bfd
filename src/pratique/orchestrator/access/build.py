"""Puts together who may come in, how much each may ask, and the record of it."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pratique.core.events import get_logger
from pratique.orchestrator.access.audit import AuditLog, NoAudit
from pratique.orchestrator.access.authenticator import Authenticator
from pratique.orchestrator.access.keys import ApiKeyFile
from pratique.orchestrator.access.limits.interface import Limiter, Unlimited
from pratique.orchestrator.access.sessions import SessionSigner, load_secrets

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    import aiohttp

    from pratique.core.clock import Clock
    from pratique.core.ids import IdSource
    from pratique.core.metrics import Metrics
    from pratique.orchestrator.settings import OrchestratorSettings

__all__ = ["Access", "open_access"]

_logger = get_logger("app")


@dataclass(frozen=True, kw_only=True)
class Access:
    """What the transports ask before they do anything."""

    authenticator: Authenticator
    limiter: Limiter
    audit: AuditLog


async def open_access(
    settings: OrchestratorSettings,
    stack: AsyncExitStack,
    *,
    http: aiohttp.ClientSession,
    clock: Clock,
    ids: IdSource,
    metrics: Metrics,
) -> Access:
    """Open it for as long as the stack lives.

    Raises:
        SettingsError, SecretsUnavailableError.
    """
    del stack, http, metrics
    secret_file = settings.path_of(settings.secret_file, "session-secret")
    keys_file = settings.path_of(settings.api_keys_file, "api-keys.json")
    if secret_file is None:
        _logger.warning("session_secret_in_memory_only")
    signing = load_secrets(secret_file) if secret_file else (secrets.token_urlsafe(48),)
    keys = ApiKeyFile(keys_file, clock=clock) if keys_file else None
    return Access(
        authenticator=Authenticator(sessions=SessionSigner(signing, clock=clock, ids=ids), keys=keys),
        limiter=Unlimited(),
        audit=NoAudit(),
    )
