"""Owns the replies of one replica: their producers, the feeds that readers follow, the follower and the janitor.

Nothing here outlives `running`. A connection that goes away takes nothing with it: the producer lives on.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pratique.core.errors import PratiqueError, RefusedError
from pratique.core.events import get_logger
from pratique.orchestrator.conversations.interface import GenerationStatus
from pratique.orchestrator.sessions.feed import Feed
from pratique.orchestrator.sessions.follower import Follower
from pratique.orchestrator.sessions.log.interface import LogMissingError, LogUnavailableError
from pratique.orchestrator.sessions.producer import Producer, StopReason
from pratique.orchestrator.sessions.takeover import Janitor, JanitorSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pratique.core.ids import GenerationId
    from pratique.orchestrator.conversations.interface import GenerationRecord
    from pratique.orchestrator.sessions.workshop import Workshop

__all__ = ["DrainingError", "OverloadedError", "Sessions", "SessionsSettings"]

_logger = get_logger("sessions")
_LEAST_FEEDS = 64


class OverloadedError(RefusedError):
    """This replica makes as many replies as it may."""

    code = "overloaded"


class DrainingError(RefusedError):
    """This replica goes away; another one takes what is asked."""

    code = "draining"


@dataclass(frozen=True, kw_only=True)
class SessionsSettings:
    """Bounds of one replica."""

    max_running: int = 512
    max_kept_bytes: int = 32 * 2**20
    """Of ended replies, kept in memory for readers that come back soon."""
    hand_over_seconds: float = 5.0
    """That a drain waits for replies to be handed over; more than one call of the store takes."""
    janitor: JanitorSettings = field(default_factory=JanitorSettings)


class Sessions:
    """The replies in flight that this replica makes or shows."""

    def __init__(self, workshop: Workshop, settings: SessionsSettings | None = None) -> None:
        self._workshop = workshop
        self._settings = settings or SessionsSettings()
        self._feeds: dict[GenerationId, Feed] = {}
        self._ended: dict[GenerationId, Feed] = {}
        """Those that have ended, the oldest first."""
        self._ended_bytes = 0
        self._look_for_lost_at = _LEAST_FEEDS
        self._producers: dict[GenerationId, Producer] = {}
        self._follower = Follower(workshop.log, workshop.store, clock=workshop.clock)
        self._janitor = Janitor(
            workshop.log, workshop.store, self, clock=workshop.clock, settings=self._settings.janitor
        )
        self._tasks: asyncio.TaskGroup | None = None
        self._producing: set[asyncio.Task[None]] = set()
        self._is_draining = False
        self._all_done = asyncio.Event()
        self._all_done.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run everything beside the body; at its end whatever still runs is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            background = [tasks.create_task(self._follower.run()), tasks.create_task(self._janitor.run())]
            for task in background:
                task.add_done_callback(_say_fault)
            try:
                yield
            finally:
                self._tasks = None
                for task in [*background, *self._producing]:
                    task.cancel()

    @property
    def num_running(self) -> int:
        return len(self._producers)

    def is_made_here(self, generation_id: GenerationId) -> bool:
        return generation_id in self._producers

    def has_room(self) -> bool:
        return not self._is_draining and len(self._producers) < self._settings.max_running

    def verify_room(self) -> None:
        """Raise OverloadedError or DrainingError where no more replies can be made here."""
        if self._is_draining:
            raise DrainingError("This replica is going away.", hint="Ask again: another one answers.")
        if not self.has_room():
            raise OverloadedError(
                f"This replica makes {len(self._producers)} replies and takes no more.", hint="Try again in a moment."
            )

    def begin(self, record: GenerationRecord) -> Feed:
        """Make this reply here, unless it is made here already or the lease is somebody else's."""
        return self._start(record, found_by=None)

    def adopt(self, record: GenerationRecord, *, found_by: str) -> None:
        """Take over a reply that nobody makes."""
        self._start(record, found_by=found_by)

    async def find(self, record: GenerationRecord) -> Feed | None:
        """Return the feed of a reply, wherever it is made; None where its events are gone for good.

        Raises:
            LogUnavailableError: it ended elsewhere, and its log cannot be read now.
        """
        feed = self._feeds.get(record.generation_id)
        if feed is not None and not feed.is_lost:
            return feed
        feed = self._new_feed(record)
        is_finished = record.status is GenerationStatus.FINISHED
        try:
            feed.publish((await self._workshop.log.read(record.generation_id, after_seq=0)).entries)
        except LogMissingError:
            if is_finished:
                return None
            if record.epoch == 0:
                return self.begin(record)
        except LogUnavailableError:
            if is_finished:
                raise
        return await self._keep_followed(feed)

    async def cancel(self, record: GenerationRecord) -> bool:
        """Stop a reply, wherever it is made; False where it has ended.

        Raises:
            LogUnavailableError: it is made elsewhere and cannot be told.
        """
        if record.status is GenerationStatus.FINISHED:
            return False
        producer = self._producers.get(record.generation_id)
        if producer is not None:
            producer.stop(StopReason.CANCELLED)
            return True
        if await self._workshop.log.request_cancel(record.generation_id):
            return True
        # Nobody began it, or its log is lost: it is ended here, with what is known of it.
        self._start(record, found_by="cancel")
        self._producers[record.generation_id].stop(StopReason.CANCELLED)
        return True

    async def drain(self, *, seconds: float) -> None:
        """Begin no more replies; let those that run end, and hand over what has not ended in time.

        Returns within `seconds` and `hand_over_seconds`, whatever hangs: what is not handed over by then is taken over
        when its lease has run out.
        """
        self._is_draining = True
        try:
            async with asyncio.timeout(seconds):
                await self._all_done.wait()
        except TimeoutError:
            _logger.info("handing_over_replies", num_running=len(self._producers))
            for producer in self._producers.values():
                producer.stop(StopReason.HANDED_OVER)
            await self._wait_handed_over()

    async def _wait_handed_over(self) -> None:
        try:
            async with asyncio.timeout(self._settings.hand_over_seconds):
                await self._all_done.wait()
        except TimeoutError:
            _logger.warning("replies_not_handed_over", num_running=len(self._producers))

    def _new_feed(self, record: GenerationRecord) -> Feed:
        def ended() -> None:
            self._count_ended(feed)
            # Who reads the end here must not find the conversation without it, however late its change is heard of.
            if not self.is_made_here(record.generation_id):
                self._workshop.distrust(record.conversation_id)

        feed = Feed(record.generation_id, when_ended=ended)
        return feed

    def _count_ended(self, feed: Feed) -> None:
        self._uncount_ended(feed.generation_id)
        self._ended[feed.generation_id] = feed
        self._ended_bytes += feed.num_bytes

    def _uncount_ended(self, generation_id: GenerationId) -> None:
        feed = self._ended.pop(generation_id, None)
        if feed is not None:
            self._ended_bytes -= feed.num_bytes

    async def _keep_followed(self, feed: Feed) -> Feed:
        # Another task may have been as far: everybody here reads the same feed.
        known = self._feeds.get(feed.generation_id)
        if known is not None and not known.is_lost:
            return known
        self._feeds[feed.generation_id] = feed
        self._trim()
        await self._follower.add(feed)
        return feed

    def _start(self, record: GenerationRecord, *, found_by: str | None) -> Feed:
        if self._tasks is None:
            raise RuntimeError("Sessions are used outside `running`.")
        feed = self._feeds.get(record.generation_id)
        if feed is None or feed.is_lost:
            feed = self._feeds[record.generation_id] = self._new_feed(record)
        if self.is_made_here(record.generation_id):
            return feed
        self._follower.discard(record.generation_id)
        producer = Producer(self._workshop, record, feed, is_takeover=found_by is not None)
        self._producers[record.generation_id] = producer
        self._all_done.clear()
        self._workshop.instruments.running.set(len(self._producers))
        task = self._tasks.create_task(self._make(record.generation_id, producer, feed, found_by=found_by))
        self._producing.add(task)
        task.add_done_callback(self._producing.discard)
        task.add_done_callback(_say_fault)
        return feed

    async def _make(self, generation_id: GenerationId, producer: Producer, feed: Feed, *, found_by: str | None) -> None:
        try:
            await producer.run()
            if found_by is not None:
                self._workshop.instruments.takeovers.labels(found_by=found_by).inc()
        except PratiqueError as error:
            _logger.info("producer_stopped", generation_id=generation_id, code=error.code, error=error.message)
        except Exception:
            # The task ends here; the lease runs out and somebody, perhaps this replica, tries again.
            _logger.exception("producer_failed", generation_id=generation_id)
        finally:
            del self._producers[generation_id]
            self._workshop.instruments.running.set(len(self._producers))
            if not self._producers:
                self._all_done.set()
        if producer.is_feed_ahead and not feed.has_ended:
            # Readers here saw what the next producer cannot know of.
            feed.lose()
        await self._follower.add(feed)
        self._trim()

    def _trim(self) -> None:
        """Forget the oldest ended feeds beyond the bound, and lost ones, without a look at all of them each time."""
        while self._ended_bytes > self._settings.max_kept_bytes:
            oldest = next(iter(self._ended.values()))
            if self.is_made_here(oldest.generation_id):
                break
            self._uncount_ended(oldest.generation_id)
            if self._feeds.get(oldest.generation_id) is oldest:
                del self._feeds[oldest.generation_id]
        if len(self._feeds) >= self._look_for_lost_at:
            for name in [name for name, feed in self._feeds.items() if feed.is_lost and feed.num_readers == 0]:
                del self._feeds[name]
                self._uncount_ended(name)
            self._look_for_lost_at = max(_LEAST_FEEDS, 2 * len(self._feeds))


def _say_fault(task: asyncio.Task[None]) -> None:
    """Say at once why this replica ends: the task group tells it only when everything else has ended too."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _logger.error("sessions_failed", exc_info=error)
