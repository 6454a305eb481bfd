"""Opens the conversation store that the settings name, and keeps it free of what has grown too old."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from pratique.core.events import get_logger
from pratique.core.settings import SettingsError
from pratique.orchestrator.conversations.memory import MemoryConversationStore
from pratique.orchestrator.conversations.retention import Purger
from pratique.orchestrator.conversations.sqlite import SqliteConversationStore, SqliteSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AsyncExitStack
    from pathlib import Path

    from pratique.core.clock import Clock
    from pratique.core.ids import ConversationId, IdSource
    from pratique.core.metrics import Metrics
    from pratique.orchestrator.conversations.interface import ConversationStore
    from pratique.orchestrator.conversations.settings import StoreSettings

__all__ = ["open_store", "purging_old"]

_logger = get_logger("app")


async def open_store(
    settings: StoreSettings,
    stack: AsyncExitStack,
    *,
    database: Path | None,
    clock: Clock,
    ids: IdSource,
    metrics: Metrics,
) -> ConversationStore:
    """Open it for as long as the stack lives. `database` is the SQLite file.

    Raises:
        StoreUnavailableError: it cannot be opened.
        SettingsError: SQLite is asked for, and no file is named.
    """
    if settings.backend == "dynamodb":
        dynamodb = await _open_dynamodb(settings, clock=clock, ids=ids, metrics=metrics)
        stack.push_async_callback(dynamodb.aclose)
        return dynamodb
    if settings.backend == "memory" or (settings.backend == "auto" and database is None):
        _logger.warning("conversations_in_memory_only")
        return MemoryConversationStore(clock=clock, ids=ids)
    if database is None:
        raise SettingsError("The store 'sqlite' needs a file.", hint="Set `database` or `state_dir`.")
    store = await SqliteConversationStore.open(
        database,
        settings=SqliteSettings(deadline_seconds=settings.deadline_seconds),
        clock=clock,
        ids=ids,
        metrics=metrics,
    )
    stack.push_async_callback(store.aclose)
    return store


@asynccontextmanager
async def purging_old(
    settings: StoreSettings,
    store: ConversationStore,
    *,
    deleted: Callable[[ConversationId], Awaitable[None]],
    clock: Clock,
) -> AsyncIterator[None]:
    """Remove old conversations for as long as the body runs, where that is asked for. DynamoDB does it by itself."""
    retention_seconds = settings.retention_seconds
    if retention_seconds is None or settings.backend == "dynamodb":
        yield
        return
    purger = Purger(
        store,
        retention_seconds=retention_seconds,
        interval_seconds=settings.purge_seconds,
        deleted=deleted,
        clock=clock,
    )
    async with purger.running():
        yield


async def _open_dynamodb(
    settings: StoreSettings, *, clock: Clock, ids: IdSource, metrics: Metrics
) -> ConversationStore:
    # Imported only where it is asked for: it needs the extra [dynamodb].
    from pratique.orchestrator.conversations.dynamodb.connection import Connection, open_dynamodb

    connection = Connection(
        table=settings.table,
        region=settings.region,
        endpoint_url=settings.endpoint_url,
        read_endpoint_url=settings.dax_endpoint,
        deadline_seconds=settings.deadline_seconds,
        attempt_seconds=settings.attempt_seconds,
    )
    return await open_dynamodb(
        connection, retention_seconds=settings.retention_seconds, clock=clock, ids=ids, metrics=metrics
    )
