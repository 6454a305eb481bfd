"""What readers on this replica follow: the events of one reply, in memory, contiguous from the first.

Filled by the producer where it runs here, else from the log by the follower. Readers hold a position, not a queue: a
reader that falls behind costs nothing here (its connection bounds itself).
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pratique.core.errors import EnvironmentFaultError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from pratique.core.ids import GenerationId
    from pratique.orchestrator.sessions.log.interface import LogEntry

__all__ = ["Feed", "FeedLostError"]


class FeedLostError(EnvironmentFaultError):
    """What was sent of this reply cannot be continued: its log is gone, or went on differently."""

    code = "not_resumable"


class Feed:
    """The events of one reply, as far as this replica knows them. `when_ended` is called before readers see the end."""

    def __init__(self, generation_id: GenerationId, *, when_ended: Callable[[], None] | None = None) -> None:
        self.generation_id = generation_id
        self.num_bytes = 0
        self.num_readers = 0
        self.is_lost = False
        self._entries: list[LogEntry] = []
        self._changed: asyncio.Event | None = None
        """Only while somebody waits for the next change."""
        self._listeners: list[Callable[[Sequence[LogEntry]], None]] = []
        self._over = asyncio.Event()
        self._when_ended = when_ended

    @property
    def last_seq(self) -> int:
        return len(self._entries)

    @property
    def has_ended(self) -> bool:
        return bool(self._entries) and self._entries[-1].is_end

    def after(self, seq: int) -> Sequence[LogEntry]:
        """Return the events after `seq` that are there."""
        return self._entries[seq:]

    def publish(self, entries: Sequence[LogEntry]) -> None:
        """Add events; known ones are passed over.

        Raises:
            ValueError: they do not follow what is here.
        """
        known = self._entries
        last_seq = len(known)
        fresh = entries
        if entries and entries[0].seq <= last_seq:
            fresh = [entry for entry in entries if entry.seq > last_seq]
        if not fresh or self.is_lost:
            return
        if fresh[0].seq != last_seq + 1 or (known and known[-1].is_end):
            raise ValueError(f"Event {fresh[0].seq} cannot follow {self.last_seq} in {self.generation_id}.")
        known.extend(fresh)
        for entry in fresh:
            self.num_bytes += len(entry.data)
        if fresh[-1].is_end and self._when_ended is not None:
            self._when_ended()
        self._signal(fresh)

    def lose(self) -> None:
        """End it for its readers: they get FeedLostError."""
        self.is_lost = True
        self._signal(())

    @contextmanager
    def heard_by(self, listener: Callable[[Sequence[LogEntry]], None]) -> Iterator[None]:
        """Have `listener` called with events as they are published, and with none when the feed is lost.

        For readers that have all that is there: no task is woken for what follows. The listener must not raise.
        """
        self._listeners.append(listener)
        self.num_readers += 1
        try:
            yield
        finally:
            self.num_readers -= 1
            self._listeners.remove(listener)

    async def follow(self, after_seq: int) -> AsyncIterator[Sequence[LogEntry]]:
        """Yield what follows `after_seq`, as it comes, up to the end.

        Raises:
            FeedLostError.
        """
        position = after_seq
        self.num_readers += 1
        try:
            while True:
                if self.is_lost:
                    raise FeedLostError(f"The events of {self.generation_id} are gone.")
                batch = self._entries[position:]
                if batch:
                    position = batch[-1].seq
                    yield batch
                if self.has_ended and position >= self.last_seq:
                    return
                if not batch:
                    await self._change()
        finally:
            self.num_readers -= 1

    async def wait_for(self, seq: int) -> None:
        """Return once event `seq` is there, or the feed is over."""
        while self.last_seq < seq and not self.has_ended and not self.is_lost:
            await self._change()

    async def wait_over(self) -> None:
        """Return once it has ended or is lost, without being woken by every event before."""
        await self._over.wait()

    async def _change(self) -> None:
        if self._changed is None:
            self._changed = asyncio.Event()
        await self._changed.wait()

    def _signal(self, fresh: Sequence[LogEntry]) -> None:
        if self.has_ended or self.is_lost:
            self._over.set()
        if self._changed is not None:
            # Wakes all who wait now; whoever waits from now on waits for the next change.
            self._changed.set()
            self._changed = None
        for listener in tuple(self._listeners):
            listener(fresh)
