"""The generation log in this process's memory: for a single replica, and for tests.

The contract suite runs over it as over `valkey`. `break_down` and `lose_everything` let tests take the server away.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pratique.core.clock import Clock, SystemClock
from pratique.core.errors import PratiqueError
from pratique.orchestrator.sessions.log.interface import (
    FencedError,
    Lease,
    LeaseHeldError,
    LogEndedError,
    LogEntry,
    LogGapError,
    LogLimits,
    LogMissingError,
    LogPage,
    LogUnavailableError,
    Pen,
    WriteReceipt,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pratique.core.ids import GenerationId

__all__ = ["MemoryLog"]


@dataclass
class _Log:
    epoch: int
    lease_until: float
    forget_at: float
    entries: list[LogEntry] = field(default_factory=list)
    cancel_requested: bool = False

    @property
    def has_ended(self) -> bool:
        return bool(self.entries) and self.entries[-1].is_end


class MemoryLog:
    """Logs in a dictionary."""

    def __init__(self, *, limits: LogLimits | None = None, clock: Clock | None = None) -> None:
        self._limits = limits or LogLimits()
        self._clock = clock or SystemClock()
        self._logs: dict[GenerationId, _Log] = {}
        self._changed = asyncio.Event()
        self._is_woken = False
        self._is_down = False

    async def acquire(self, generation_id: GenerationId, *, floor: int) -> Lease:
        log = self._find(generation_id)
        now, limits = self._clock.monotonic(), self._limits
        if log is None:
            self._logs[generation_id] = _Log(floor, now + limits.lease_seconds, now + limits.abandoned_seconds)
            return Lease(generation_id=generation_id, epoch=floor, last_seq=0, is_new=True)
        if log.has_ended:
            raise LogEndedError(f"The reply {generation_id} has ended.")
        if log.lease_until > now:
            raise LeaseHeldError(f"The reply {generation_id} is being made elsewhere.")
        log.epoch = max(log.epoch + 1, floor)
        log.lease_until = now + self._limits.lease_seconds
        return Lease(generation_id=generation_id, epoch=log.epoch, last_seq=len(log.entries), is_new=False)

    async def append(self, lease: Lease, entries: Sequence[LogEntry]) -> WriteReceipt:
        log = self._find(lease.generation_id)
        if log is None:
            raise LogMissingError(f"There is no log of {lease.generation_id}.")
        return self._write(log, lease, entries)

    def pen(self, lease: Lease) -> Pen:
        return _MemoryPen(self, lease)

    async def restore(self, lease: Lease, entries: Sequence[LogEntry]) -> WriteReceipt:
        log = self._find(lease.generation_id)
        if log is None:
            log = self._logs[lease.generation_id] = _Log(lease.epoch, 0, 0)
        return self._write(log, lease, entries)

    async def release(self, lease: Lease) -> None:
        log = self._find(lease.generation_id)
        if log is not None and log.epoch == lease.epoch:
            log.lease_until = self._clock.monotonic()

    async def request_cancel(self, generation_id: GenerationId) -> bool:
        log = self._find(generation_id)
        if log is None or log.has_ended:
            return False
        log.cancel_requested = True
        return True

    async def read(self, generation_id: GenerationId, *, after_seq: int) -> LogPage:
        log = self._find(generation_id)
        if log is None:
            raise LogMissingError(f"There is no log of {generation_id}.")
        return LogPage(entries=tuple(log.entries[after_seq:]), last_seq=len(log.entries), has_ended=log.has_ended)

    async def wait_for_new(
        self, cursors: Mapping[GenerationId, int], *, timeout_seconds: float
    ) -> Mapping[GenerationId, Sequence[LogEntry]]:
        found = self._after(cursors)
        try:
            async with asyncio.timeout(timeout_seconds):
                while not found and not self._is_woken:
                    await self._changed.wait()
                    found = self._after(cursors)
        except TimeoutError:
            return {}
        self._is_woken = False
        return found

    async def wake(self) -> None:
        self._is_woken = True
        self._signal()

    async def expired(self, *, limit: int) -> Sequence[GenerationId]:
        self._verify_up()
        now = self._clock.monotonic()
        ids = [name for name, log in self._logs.items() if log.lease_until <= now < log.forget_at and not log.has_ended]
        return ids[:limit]

    async def missing(self, generation_ids: Sequence[GenerationId]) -> Sequence[GenerationId]:
        return [name for name in generation_ids if self._find(name) is None]

    async def forget(self, generation_id: GenerationId) -> None:
        self._verify_up()
        self._logs.pop(generation_id, None)

    async def check(self) -> None:
        self._verify_up()

    async def aclose(self) -> None:
        self._logs.clear()

    def break_down(self, *, is_down: bool = True) -> None:
        """From now on every call fails, or works again."""
        self._is_down = is_down
        self._signal()

    def lose_everything(self) -> None:
        """Forget all logs, as a server does that restarts without its data."""
        self._logs.clear()

    def _write(self, log: _Log, lease: Lease, entries: Sequence[LogEntry]) -> WriteReceipt:
        if log.epoch != lease.epoch:
            raise FencedError(f"The reply {lease.generation_id} has a newer producer, of epoch {log.epoch}.")
        last = len(log.entries)
        fresh = [entry for entry in entries if entry.seq > last]
        if fresh and (fresh[0].seq != last + 1 or log.has_ended):
            raise LogGapError(f"The log ends at {last}; event {fresh[0].seq} does not follow.", last_seq=last)
        log.entries.extend(fresh)
        now = self._clock.monotonic()
        log.lease_until = now + self._limits.lease_seconds
        log.forget_at = now + (self._limits.ttl_seconds if log.has_ended else self._limits.abandoned_seconds)
        if fresh:
            self._signal()
        return WriteReceipt(cancel_requested=log.cancel_requested)

    def _after(self, cursors: Mapping[GenerationId, int]) -> dict[GenerationId, Sequence[LogEntry]]:
        found: dict[GenerationId, Sequence[LogEntry]] = {}
        for generation_id, seq in cursors.items():
            log = self._find(generation_id)
            if log is not None and len(log.entries) > seq:
                found[generation_id] = tuple(log.entries[seq:])
        return found

    def _find(self, generation_id: GenerationId) -> _Log | None:
        self._verify_up()
        log = self._logs.get(generation_id)
        if log is not None and log.forget_at <= self._clock.monotonic() and log.forget_at:
            del self._logs[generation_id]
            return None
        return log

    def _verify_up(self) -> None:
        if self._is_down:
            raise LogUnavailableError("The generation log was taken away.")

    def _signal(self) -> None:
        # Wakes all who wait now; whoever waits from now on waits for the next change.
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


class _MemoryPen:
    """Writes as `append` does, in a task of its own: what a test puts in the place of `append` holds here too."""

    def __init__(self, log: MemoryLog, lease: Lease) -> None:
        self._log = log
        self._lease = lease
        self._writing: set[asyncio.Task[None]] = set()

    def write(self, entries: Sequence[LogEntry], told: Callable[[WriteReceipt | PratiqueError], None]) -> None:
        task = asyncio.ensure_future(self._write(entries, told))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _write(self, entries: Sequence[LogEntry], told: Callable[[WriteReceipt | PratiqueError], None]) -> None:
        try:
            said: WriteReceipt | PratiqueError = await self._log.append(self._lease, entries)
        except PratiqueError as error:
            said = error
        told(said)
