"""Feeds from the log what another replica produces: one blocking read for all the replies that are followed here.

Where a log is gone although its reply was running, or none can be asked, the store knows whether the reply has ended:
then the feed is lost, and its readers are shown what is stored.
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
            except LogUnavailableError:
                await self._lose_ended_without_log()
                await self._clock.sleep(_RETRY_SECONDS)
            except StoreUnavailableError:
                await self._clock.sleep(_RETRY_SECONDS)

    async def _round(self) -> None:
        cursors = {name: feed.last_seq for name, feed in self._feeds.items()}
        self._take(await self._log.wait_for_new(cursors, timeout_seconds=_ROUND_SECONDS))
        if self._is_audit_due():
            self._drop_unread()
            await self._lose_ended(await self._log.missing(list(self._feeds)))

    async def _lose_ended_without_log(self) -> None:
        """Let nobody wait for the end of what has ended meanwhile: no log says it here."""
        if not self._is_audit_due():
            return
        self._drop_unread()
        try:
            # The log may be back before a slow store has said of all of them.
            async with asyncio.timeout(_ROUND_SECONDS):
                await self._lose_ended(list(self._feeds))
        except (StoreUnavailableError, TimeoutError):
            # Neither log nor store: the replies go on, and so does the wait.
            return

    def _is_audit_due(self) -> bool:
        now = self._clock.monotonic()
        is_due = now >= self._audit_at
        if is_due:
            self._audit_at = now + _ROUND_SECONDS
        return is_due

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

    def _drop_unread(self) -> None:
        """Drop what nobody reads, and nobody read a round ago."""
        unread = {name for name, feed in self._feeds.items() if feed.num_readers == 0}
        for generation_id in unread & self._unread:
            self._feeds[generation_id].lose()
            self.discard(generation_id)
        self._unread = unread

    async def _lose_ended(self, generation_ids: Sequence[GenerationId]) -> None:
        """Lose those of them that have ended in the store, or that it does not know."""
        for generation_id in generation_ids:
            try:
                record = await self._store.load_generation(generation_id)
            except GenerationNotFoundError:
                record = None
            if record is None or record.status is GenerationStatus.FINISHED:
                feed = self._feeds.pop(generation_id, None)
                if feed is not None:
                    feed.lose()
            elif generation_id in self._feeds:
                # To the end: where there is no time for all, the others come first the next time.
                self._feeds[generation_id] = self._feeds.pop(generation_id)
