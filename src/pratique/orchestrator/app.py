"""Builds one replica out of its settings: stores, caches, log, sessions, transports; and owns their lives.

`running` is the whole life: everything opened here is closed here, in the reverse order.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp

from pratique.core.clock import Clock, SystemClock
from pratique.core.events import get_logger
from pratique.core.ids import IdSource, RandomIds
from pratique.core.metrics import Metrics
from pratique.orchestrator.access.audit import AuditEvent
from pratique.orchestrator.access.build import open_access
from pratique.orchestrator.api.application import build_application
from pratique.orchestrator.api.charges import Charges
from pratique.orchestrator.api.runtime import ApiInstruments, Runtime
from pratique.orchestrator.api.service import ChatService
from pratique.orchestrator.cache import LayeredReader, ValkeySharedCache
from pratique.orchestrator.conversations.build import open_store, purging_old
from pratique.orchestrator.forward.http import HttpForwarder
from pratique.orchestrator.lanes.build import open_lanes
from pratique.orchestrator.models.catalogue import ModelCatalogue, build_catalogue
from pratique.orchestrator.models.forward import PooledForwarder
from pratique.orchestrator.retrieval.build import open_retriever
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
from pratique.orchestrator.upstream.build import build_upstream
from pratique.orchestrator.upstream.poller import ModelPoller, StatusSource

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import ASGIApp

    from pratique.orchestrator.cache import ConversationReader
    from pratique.orchestrator.conversations.interface import ConversationStore
    from pratique.orchestrator.retrieval.interface import Retriever
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
    retriever: Retriever | None = None
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
        self.runtime.audit.record(AuditEvent(action="replica.drain", outcome="ok", subject=settings.replica))
        self.runtime.drain.begin()
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
    clock, metrics = parts.clock or SystemClock(), Metrics()
    ids = parts.ids or RandomIds(clock)
    models = build_catalogue(settings.models, inference_url=settings.inference_url)
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(_client_session(settings))
        database = settings.path_of(settings.database, "conversations.db")
        store = parts.store or await open_store(
            settings.store, stack, database=database, clock=clock, ids=ids, metrics=metrics
        )
        log = parts.log or await _open_log(settings, stack)
        holder = f"{settings.replica}-{os.getpid()}-{ids.new('run')}"
        reader = await stack.enter_async_context(
            parts.reader or _make_reader(settings, store, stack, origin=holder, clock=clock, metrics=metrics)
        )
        upstream = build_upstream(settings, clock=clock, metrics=metrics, models=models, given=parts.upstream)
        stack.push_async_callback(upstream.aclose)
        workshop = Workshop(
            holder=holder,
            store=store,
            log=log,
            upstream=upstream,
            written=reader.written,
            distrust=reader.distrust,
            recall=reader.get,
            clock=clock,
            ids=ids,
            instruments=Instruments(metrics),
            retriever=parts.retriever or await open_retriever(settings, stack, clock=clock, metrics=metrics),
            settings=_reply_settings(settings),
        )
        sessions = Sessions(workshop, _sessions_settings(settings))
        runtime = await _open_runtime(
            settings, workshop, reader, sessions, models, stack=stack, http=http, metrics=metrics
        )
        purging = purging_old(settings.store, store, deleted=reader.deleted, clock=clock)
        for task in (sessions.running(), _running_poller(runtime.poller), purging):
            await stack.enter_async_context(task)
        yield Replica(application=build_application(runtime), runtime=runtime, sessions=sessions)


async def _open_runtime(
    settings: OrchestratorSettings,
    workshop: Workshop,
    reader: ConversationReader,
    sessions: Sessions,
    models: ModelCatalogue,
    *,
    stack: AsyncExitStack,
    http: aiohttp.ClientSession,
    metrics: Metrics,
) -> Runtime:
    clock = workshop.clock
    access = await open_access(settings, stack, http=http, clock=clock, ids=workshop.ids, metrics=metrics)
    charges = await stack.enter_async_context(Charges(access.limiter, max_tokens=settings.max_tokens).running())
    baseline = _open_baseline(settings, models, stack)
    return Runtime(
        settings=settings,
        service=ChatService(workshop.store, reader, sessions, models, charges=charges),
        store=workshop.store,
        authenticator=access.authenticator,
        limiter=access.limiter,
        audit=access.audit,
        poller=ModelPoller(
            StatusSource(http), parse_status_urls(settings), clock=clock, poll_seconds=settings.status_poll_seconds
        ),
        models=models,
        forwarder=await open_lanes(settings, baseline, stack, models=models, clock=clock, metrics=metrics),
        metrics=metrics,
        instruments=ApiInstruments(metrics),
        clock=clock,
    )


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


def _open_baseline(settings: OrchestratorSettings, models: ModelCatalogue, stack: AsyncExitStack) -> PooledForwarder:
    pools = {}
    for name, pool in models.pools.items():
        pools[name] = HttpForwarder(pool.url, connect_timeout_seconds=settings.connect_timeout_seconds)
        stack.push_async_callback(pools[name].aclose)
    return PooledForwarder(pools, models)


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


def _reply_settings(settings: OrchestratorSettings) -> ReplySettings:
    return ReplySettings(
        system_prompt=read_system_prompt(settings),
        max_tokens=settings.max_tokens,
        temperature=settings.temperature,
        history_turns_limit=settings.history_turns_limit,
        passages_limit=settings.retrieval.limit,
        reply_timeout_seconds=settings.reply_timeout_seconds,
        max_bytes=settings.log_max_bytes,
        limits=AttemptLimits(
            model_wait_seconds=settings.model_wait_seconds,
            answer_seconds=settings.downstream.answer_deadline_seconds,
            quick_refusal_seconds=settings.downstream.quick_refusal_seconds,
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
        hand_over_seconds=max(5.0, settings.store.deadline_seconds + 1),
        janitor=JanitorSettings(
            scan_seconds=settings.takeover_scan_seconds,
            store_scan_seconds=5 * settings.takeover_scan_seconds,
            grace_seconds=2 * settings.lease_seconds,
            unbegun_seconds=settings.lease_seconds,
        ),
    )
