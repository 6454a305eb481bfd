"""Removes what has grown too old, a bounded batch at a time, for as long as the replica runs.

Every replica does it; batches of several do not disturb each other. What fails is told and tried again the next time.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from pratique.core.events import get_logger
from pratique.orchestrator.conversations.errors import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from pratique.core.clock import Clock
    from pratique.core.ids import ConversationId
    from pratique.orchestrator.conversations.interface import ConversationStore

__all__ = ["Purger", "purge_old"]

_BATCH: Final = 50
_PAUSE_SECONDS: Final = 0.2
"""Between two batches, so that writes of people come in between."""

_log = get_logger("conversations")


async def purge_old(
    store: ConversationStore,
    *,
    unchanged_since: float,
    deleted: Callable[[ConversationId], Awaitable[None]],
    clock: Clock,
) -> int:
    """Remove every conversation last changed before then (epoch seconds); return how many. `deleted` tells the caches.

    Raises:
        StoreUnavailableError: what was removed before stays removed.
    """
    count = 0
    while names := await store.purge(unchanged_since=unchanged_since, limit=_BATCH):
        for name in names:
            await deleted(name)
        count += len(names)
        if len(names) < _BATCH:
            break
        await clock.sleep(_PAUSE_SECONDS)
    return count


class Purger:
    """One replica's retention. `deleted` tells the caches."""

    def __init__(
        self,
        store: ConversationStore,
        *,
        retention_seconds: float,
        interval_seconds: float,
        deleted: Callable[[ConversationId], Awaitable[None]],
        clock: Clock,
    ) -> None:
        self._store = store
        self._retention_seconds = retention_seconds
        self._interval_seconds = interval_seconds
        self._deleted = deleted
        self._clock = clock

    async def purge(self) -> int:
        """Remove everything that is too old now; return how many conversations that were.

        Raises:
            StoreUnavailableError.
        """
        return await purge_old(
            self._store,
            unchanged_since=self._clock.epoch() - self._retention_seconds,
            deleted=self._deleted,
            clock=self._clock,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Purge again and again for as long as the body runs."""
        async with asyncio.TaskGroup() as tasks:
            purging = tasks.create_task(self._run())
            try:
                yield
            finally:
                purging.cancel()

    async def _run(self) -> None:
        while True:
            try:
                count = await self.purge()
            except StoreUnavailableError as error:
                _log.warning("purge_failed", error=error.message)
            else:
                if count:
                    _log.info("conversations_purged", count=count)
            await self._clock.sleep(self._interval_seconds)
