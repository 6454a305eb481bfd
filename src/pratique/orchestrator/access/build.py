"""Puts together who may come in, how much each may ask, and the record of it."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pratique.core.events import get_logger
from pratique.core.settings import SettingsError
from pratique.orchestrator.access.audit import AuditLog, NoAudit
from pratique.orchestrator.access.auditing import FileSink, LogSink, QueuedAudit, Sink
from pratique.orchestrator.access.authenticator import Authenticator
from pratique.orchestrator.access.keys import ApiKeyFile
from pratique.orchestrator.access.limits.interface import Limiter, Unlimited
from pratique.orchestrator.access.limits.memory import MemoryLimiter
from pratique.orchestrator.access.limits.policy import buckets_of
from pratique.orchestrator.access.limits.shared import SharedLimiter
from pratique.orchestrator.access.limits.valkey import ValkeyLimiter
from pratique.orchestrator.access.sessions import SessionSigner, load_secrets
from pratique.orchestrator.access.wire import parse_networks

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    import aiohttp

    from pratique.core.clock import Clock
    from pratique.core.ids import IdSource
    from pratique.core.metrics import Metrics
    from pratique.orchestrator.access.oidc.verifier import TokenVerifier
    from pratique.orchestrator.access.settings import LimitsSettings
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
        SettingsError, SecretsUnavailableError, AuditUnavailableError.
    """
    parse_networks(settings.access.trusted_proxies)
    secret_file = settings.path_of(settings.secret_file, "session-secret")
    keys_file = settings.path_of(settings.api_keys_file, "api-keys.json")
    if secret_file is None:
        _logger.warning("session_secret_in_memory_only")
    signing = load_secrets(secret_file) if secret_file else (secrets.token_urlsafe(48),)
    return Access(
        authenticator=Authenticator(
            sessions=SessionSigner(signing, clock=clock, ids=ids, secure=settings.secure_cookies),
            keys=ApiKeyFile(keys_file, clock=clock) if keys_file else None,
            tokens=_open_tokens(settings, stack, http=http, clock=clock, metrics=metrics),
            anonymous=settings.access.anonymous,
            clock=clock,
        ),
        limiter=_open_limiter(settings, stack, clock=clock, metrics=metrics),
        audit=_open_audit(settings, stack, clock=clock, metrics=metrics),
    )


def _open_tokens(
    settings: OrchestratorSettings,
    stack: AsyncExitStack,
    *,
    http: aiohttp.ClientSession,
    clock: Clock,
    metrics: Metrics,
) -> TokenVerifier | None:
    if not settings.access.oidc:
        return None
    from pratique.orchestrator.access.oidc.verifier import TokenVerifier

    verifier = TokenVerifier(settings.access.oidc, http, clock=clock, metrics=metrics)
    stack.push_async_callback(verifier.aclose)
    return verifier


def _open_limiter(settings: OrchestratorSettings, stack: AsyncExitStack, *, clock: Clock, metrics: Metrics) -> Limiter:
    limits = settings.access.limits
    if not _counts_anything(limits):
        return Unlimited()
    local = MemoryLimiter(limits, clock=clock)
    if not settings.valkey_url:
        return local
    shared = ValkeyLimiter(settings.valkey_url, limits)
    stack.push_async_callback(shared.aclose)
    return SharedLimiter(shared, local, limits, clock=clock, metrics=metrics)


def _counts_anything(limits: LimitsSettings) -> bool:
    return any(tier.concurrent or buckets_of(tier) for tier in (limits, *limits.tiers.values()))


def _open_audit(settings: OrchestratorSettings, stack: AsyncExitStack, *, clock: Clock, metrics: Metrics) -> AuditLog:
    wanted = settings.access.audit
    if wanted.sink == "off":
        return NoAudit()
    sink: Sink = LogSink()
    if wanted.sink == "file":
        path = settings.path_of(wanted.file, "audit.jsonl")
        if path is None:
            raise SettingsError("Expected access.audit.file or state_dir for the audit log; found neither.")
        sink = FileSink(path, fsync=wanted.fsync)
    audit = QueuedAudit(sink, max_queue=wanted.queue, metrics=metrics, clock=clock)
    audit.start()
    stack.push_async_callback(audit.aclose)
    return audit
