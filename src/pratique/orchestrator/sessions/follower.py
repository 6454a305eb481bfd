"""Feeds from the log what another replica produces: one blocking read for all the replies that are followed here.

Where a log is gone although its reply was running, the store knows the end: the feed gets it from there, or is lost.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pratique.core.events import get_logger
from pratique.orchestrator.conversations.errors import GenerationNotFoundError, StoreUnavailableError
from pratique.orchestrator.conversations.interface import GenerationStatus
from pratique.orchestrator.sessions.log.interface import LogUnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pratique.core.clock import Clock
    from pratique.core.ids import GenerationId
    from pratique.orchestrator.conversations.interface import ConversationStore
    from pratique.orchestrator.sessions.feed import Feed
    from pratique.orchestrator.sessions.log.interface import GenerationLog, LogEntry

__all__ = ["Follower"]

_logger = get_logger("sessions")
_ROUND_SECONDS = 1.0
_RETRY_SECONDS = 0.2


class Follower:
    """Fills the feeds it is given, until they end, are lost, or nobody reads them any more."""

    def __init__(self, log: GenerationLog, store: ConversationStore, *, clock: Clock) -> None:
        self._log = log
        self._store = store
        self._clock = clock
        self._feeds: dict[GenerationId, Feed] = {}
        self._added = asyncio.Event()
        self._audit_at = clock.monotonic() + _ROUND_SECONDS
        self._unread: set[GenerationId] = set()

    @property
    def num_followed(self) -> int:
        return len(self._feeds)

    async def add(self, feed: Feed) -> None:
        """Follow this reply from where its feed ends."""
        if feed.has_ended or feed.is_lost:
            return
        self._feeds[feed.generation_id] = feed
        self._added.set()
        try:
            await self._log.wake()
        except LogUnavailableError:
            # The round that runs now fails as well, and the next one has the new feed in it.
            return

    def discard(self, generation_id: GenerationId) -> None:
        """Follow it no more: it is produced here now."""
        self._feeds.pop(generation_id, None)

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            if not self._feeds:
                self._added.clear()
                await self._added.wait()
            try:
                await self._round()
            except (LogUnavailableError, StoreUnavailableError):
                await self._clock.sleep(_RETRY_SECONDS)

    async def _round(self) -> None:
        cursors = {name: feed.last_seq for name, feed in self._feeds.items()}
        self._take(await self._log.wait_for_new(cursors, timeout_seconds=_ROUND_SECONDS))
        if self._clock.monotonic() >= self._audit_at:
            self._audit_at = self._clock.monotonic() + _ROUND_SECONDS
            await self._audit()

    def _take(self, found: Mapping[GenerationId, Sequence[LogEntry]]) -> None:
        for generation_id, entries in found.items():
            feed = self._feeds.get(generation_id)
            if feed is None:
                continue
            try:
                feed.publish(entries)
            except ValueError:
                _logger.warning("feed_lost_to_gap", generation_id=generation_id)
                feed.lose()
            if feed.has_ended or feed.is_lost:
                self.discard(generation_id)

    async def _audit(self) -> None:
        """Drop what nobody reads; find out about logs that are gone."""
        unread = {name for name, feed in self._feeds.items() if feed.num_readers == 0}
        for generation_id in unread & self._unread:
            self._feeds[generation_id].lose()
            self.discard(generation_id)
        self._unread = unread
        for generation_id in await self._log.missing(list(self._feeds)):
            try:
                record = await self._store.load_generation(generation_id)
            except GenerationNotFoundError:
                record = None
            if record is None or record.status is GenerationStatus.FINISHED:
                feed = self._feeds.pop(generation_id, None)
                if feed is not None:
                    feed.lose()
