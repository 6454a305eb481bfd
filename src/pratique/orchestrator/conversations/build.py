"""Opens the conversation store that the settings name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pratique.core.events import get_logger
from pratique.orchestrator.conversations.memory import MemoryConversationStore
from pratique.orchestrator.conversations.sqlite import SqliteConversationStore

if TYPE_CHECKING:
    from contextlib import AsyncExitStack
    from pathlib import Path

    from pratique.core.clock import Clock
    from pratique.core.ids import IdSource
    from pratique.core.metrics import Metrics
    from pratique.orchestrator.conversations.interface import ConversationStore
    from pratique.orchestrator.conversations.settings import StoreSettings

__all__ = ["open_store"]

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
    """Open it for as long as the stack lives. `database` is the SQLite file; None: memory.

    Raises:
        StoreUnavailableError.
    """
    del settings
    if database is None:
        _logger.warning("conversations_in_memory_only")
        return MemoryConversationStore(clock=clock, ids=ids)
    store = await SqliteConversationStore.open(database, clock=clock, ids=ids, metrics=metrics)
    stack.push_async_callback(store.aclose)
    return store
