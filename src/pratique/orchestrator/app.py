"""Builds one replica out of its settings: stores, caches, log, sessions, transports; and owns their lives.

`running` is the whole life: everything opened here is closed here, in the reverse order.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp

from pratique.core.clock import Clock, SystemClock
from pratique.core.events import get_logger
from pratique.core.ids import IdSource, RandomIds
from pratique.core.metrics import Metrics
from pratique.orchestrator.access import ApiKeyFile, Authenticator, SessionSigner, load_secrets
from pratique.orchestrator.api.application import build_application
from pratique.orchestrator.api.runtime import ApiInstruments, Runtime
from pratique.orchestrator.api.service import ChatService
from pratique.orchestrator.cache import LayeredReader, ValkeySharedCache
from pratique.orchestrator.conversations.memory import MemoryConversationStore
from pratique.orchestrator.conversations.sqlite import SqliteConversationStore
from pratique.orchestrator.sessions.attempts import AttemptLimits
from pratique.orchestrator.sessions.instruments import Instruments
from pratique.orchestrator.sessions.log.interface import LogLimits
from pratique.orchestrator.sessions.log.memory import MemoryLog
from pratique.orchestrator.sessions.log.valkey import ValkeyLog
from pratique.orchestrator.sessions.sessions import Sessions, SessionsSettings
from pratique.orchestrator.sessions.takeover import JanitorSettings
from pratique.orchestrator.sessions.workshop import ReplySettings, Workshop
from pratique.orchestrator.sessions.writer import WriterSettings
from pratique.orchestrator.settings import OrchestratorSettings, parse_status_urls, read_system_prompt
from pratique.orchestrator.upstream.deadlines import Deadlines, UpstreamWithDeadlines
from pratique.orchestrator.upstream.http import HttpUpstream
from pratique.orchestrator.upstream.poller import ModelPoller, StatusSource

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import ASGIApp

    from pratique.orchestrator.cache import ConversationReader
    from pratique.orchestrator.conversations.interface import ConversationStore
    from pratique.orchestrator.sessions.log.interface import GenerationLog
    from pratique.orchestrator.upstream.interface import Upstream

__all__ = ["Parts", "Replica", "running"]

_logger = get_logger("app")
_MAX_UPSTREAM_CONNECTIONS = 4096


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What to use instead of what the settings name: for tests, and for embedding."""

    store: ConversationStore | None = None
    log: GenerationLog | None = None
    reader: ConversationReader | None = None
    upstream: Upstream | None = None
    clock: Clock | None = None
    ids: IdSource | None = None


@dataclass(frozen=True, kw_only=True)
class Replica:
    """A running replica."""

    application: ASGIApp
    runtime: Runtime
    sessions: Sessions

    async def drain(self) -> None:
        """Send clients elsewhere, let replies end or hand them over. Returns when nothing runs here any more."""
        settings = self.runtime.settings
        _logger.info("draining", num_running=self.sessions.num_running)
        self.runtime.drain.begun.set()
        began = self.runtime.clock.monotonic()
        await self.sessions.drain(seconds=settings.drain_seconds)
        notice = settings.drain_notice_seconds - (self.runtime.clock.monotonic() - began)
        if notice > 0:
            await self.runtime.clock.sleep(notice)


@asynccontextmanager
async def running(settings: OrchestratorSettings, parts: Parts | None = None) -> AsyncIterator[Replica]:
    """Run a replica for as long as the body does.

    Raises:
        SettingsError, SecretsUnavailableError, StoreUnavailableError: it cannot be started so.
    """
    parts = parts or Parts()
    clock = parts.clock or SystemClock()
    ids = parts.ids or RandomIds(clock)
    metrics = Metrics()
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(_client_session(settings))
        store = parts.store or await _open_store(settings, stack, clock=clock, ids=ids, metrics=metrics)
        log = parts.log or await _open_log(settings, stack)
        holder = f"{settings.replica}-{os.getpid()}-{ids.new('run')}"
        reader = await stack.enter_async_context(
            parts.reader or _make_reader(settings, store, stack, origin=holder, clock=clock, metrics=metrics)
        )
        sessions = Sessions(
            Workshop(
                holder=holder,
                store=store,
                log=log,
                upstream=_with_deadlines(parts.upstream or HttpUpstream(http, settings.inference_url), settings),
                written=reader.written,
                distrust=reader.distrust,
                clock=clock,
                ids=ids,
                instruments=Instruments(metrics),
                settings=_reply_settings(settings),
            ),
            _sessions_settings(settings),
        )
        poller = ModelPoller(
            StatusSource(http), parse_status_urls(settings), clock=clock, poll_seconds=settings.status_poll_seconds
        )
        runtime = Runtime(
            settings=settings,
            service=ChatService(store, reader, sessions),
            store=store,
            authenticator=_make_authenticator(settings, clock=clock, ids=ids),
            poller=poller,
            http=http,
            metrics=metrics,
            instruments=ApiInstruments(metrics),
            clock=clock,
        )
        await stack.enter_async_context(sessions.running())
        await stack.enter_async_context(_running_poller(poller))
        yield Replica(application=build_application(runtime), runtime=runtime, sessions=sessions)


@asynccontextmanager
async def _running_poller(poller: ModelPoller) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        polling = tasks.create_task(poller.run())
        try:
            yield
        finally:
            polling.cancel()


def _client_session(settings: OrchestratorSettings) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=_MAX_UPSTREAM_CONNECTIONS, keepalive_timeout=15.0),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=settings.connect_timeout_seconds),
        auto_decompress=False,
    )


async def _open_store(
    settings: OrchestratorSettings, stack: AsyncExitStack, *, clock: Clock, ids: IdSource, metrics: Metrics
) -> ConversationStore:
    path = settings.path_of(settings.database, "conversations.db")
    if path is None:
        _logger.warning("conversations_in_memory_only")
        return MemoryConversationStore(clock=clock, ids=ids)
    store = await SqliteConversationStore.open(path, clock=clock, ids=ids, metrics=metrics)
    stack.push_async_callback(store.aclose)
    return store


async def _open_log(settings: OrchestratorSettings, stack: AsyncExitStack) -> GenerationLog:
    limits = LogLimits(lease_seconds=settings.lease_seconds, ttl_seconds=settings.log_ttl_seconds)
    log: GenerationLog = (
        ValkeyLog(settings.valkey_url, limits=limits) if settings.valkey_url else MemoryLog(limits=limits)
    )
    stack.push_async_callback(log.aclose)
    return log


def _make_reader(
    settings: OrchestratorSettings,
    store: ConversationStore,
    stack: AsyncExitStack,
    *,
    origin: str,
    clock: Clock,
    metrics: Metrics,
) -> ConversationReader:
    shared = None
    if settings.valkey_url:
        shared = ValkeySharedCache(settings.valkey_url, origin=origin, settings=settings.cache)
        stack.push_async_callback(shared.aclose)
    return LayeredReader(store, shared=shared, origin=origin, settings=settings.cache, clock=clock, metrics=metrics)


def _make_authenticator(settings: OrchestratorSettings, *, clock: Clock, ids: IdSource) -> Authenticator:
    secret_file = settings.path_of(settings.secret_file, "session-secret")
    keys_file = settings.path_of(settings.api_keys_file, "api-keys.json")
    if secret_file is None:
        _logger.warning("session_secret_in_memory_only")
    signing = load_secrets(secret_file) if secret_file else (secrets.token_urlsafe(48),)
    keys = ApiKeyFile(keys_file, clock=clock) if keys_file else None
    return Authenticator(sessions=SessionSigner(signing, clock=clock, ids=ids), keys=keys)


def _with_deadlines(upstream: Upstream, settings: OrchestratorSettings) -> Upstream:
    return UpstreamWithDeadlines(
        upstream,
        Deadlines(
            first_token_seconds=settings.first_token_timeout_seconds,
            inter_token_seconds=settings.inter_token_timeout_seconds,
        ),
    )


def _reply_settings(settings: OrchestratorSettings) -> ReplySettings:
    return ReplySettings(
        system_prompt=read_system_prompt(settings),
        max_tokens=settings.max_tokens,
        temperature=settings.temperature,
        history_turns_limit=settings.history_turns_limit,
        reply_timeout_seconds=settings.reply_timeout_seconds,
        max_bytes=settings.log_max_bytes,
        limits=AttemptLimits(
            model_wait_seconds=settings.model_wait_seconds,
            continue_wait_seconds=settings.continue_wait_seconds,
            max_losses=settings.max_continuations,
        ),
        writer=WriterSettings(
            window_seconds=settings.coalesce_window_seconds,
            renew_seconds=settings.lease_seconds / 5,
            write_timeout_seconds=settings.lease_seconds / 3,
        ),
    )


def _sessions_settings(settings: OrchestratorSettings) -> SessionsSettings:
    return SessionsSettings(
        max_running=settings.max_running_generations,
        janitor=JanitorSettings(
            scan_seconds=settings.takeover_scan_seconds,
            store_scan_seconds=5 * settings.takeover_scan_seconds,
            grace_seconds=2 * settings.lease_seconds,
            unbegun_seconds=settings.lease_seconds,
        ),
    )
