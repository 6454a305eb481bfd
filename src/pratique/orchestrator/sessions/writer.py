"""Puts one reply's events into the log, and then before this replica's readers.

An event is shown only once it is in the log, so that whoever takes over goes on after all that anybody saw. One
exception is deliberate: while the log's server is away readers go on from memory (visibly: metric and event), and what
they saw is written when it is back, before anything else.

Coalescing: the first event goes at once, then at most one round trip per window. Windows are the same for all replies
of a replica, so that the log can take what they write in one round trip together. Every write renews the lease; without
anything to write it is renewed by `keep`. A cancel asked for on another replica arrives with a write's answer.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pratique.core.events import get_logger
from pratique.orchestrator.sessions.log.interface import (
    LogGapError,
    LogMissingError,
    LogUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from pratique.core.clock import Clock
    from pratique.orchestrator.sessions.feed import Feed
    from pratique.orchestrator.sessions.instruments import Instruments
    from pratique.orchestrator.sessions.log.interface import GenerationLog, Lease, LogEntry, WriteReceipt

__all__ = ["LogWriter", "WriterSettings"]

_logger = get_logger("sessions")


@dataclass(frozen=True, kw_only=True)
class WriterSettings:
    """In seconds."""

    window_seconds: float = 0.025
    renew_seconds: float = 0.24
    write_timeout_seconds: float = 0.4
    """Well below the lease, so that a hanging server does not cost it unnoticed."""
    max_pending: int = 256
    """Events; beyond them `emit` waits for the log."""


class LogWriter:
    """The one way from a producer to the log and the readers."""

    def __init__(
        self,
        log: GenerationLog,
        lease: Lease,
        feed: Feed,
        *,
        confirm: Callable[[], Awaitable[object]],
        settings: WriterSettings,
        clock: Clock,
        instruments: Instruments,
    ) -> None:
        """Write `feed`'s reply.

        Args:
            log: where to.
            lease: the right to.
            feed: holds what the log held when the lease was taken, and is published to.
            confirm: asks the store whether this producer still holds the reply, raising if not; called before a lost
                log is written anew.
            settings: the window and the time-outs.
            clock: for both.
            instruments: the metrics.
        """
        self._log = log
        self._lease = lease
        self._feed = feed
        self._confirm = confirm
        self._settings = settings
        self._clock = clock
        self._instruments = instruments
        self._pending: list[LogEntry] = []
        self._logged_seq = lease.last_seq
        self._lock = asyncio.Lock()
        self._wake = asyncio.Event()
        self._last_write = clock.monotonic()
        self._retry_at: float | None = None
        self.cancel_requested = asyncio.Event()

    @property
    def is_behind(self) -> bool:
        """Whether readers here have seen what the log does not hold."""
        return self._feed.last_seq > self._logged_seq

    async def emit(self, entry: LogEntry | None) -> None:
        """Hand over the next event (None: nothing to say).

        Raises:
            what `settle` raises, where it has to wait for the log.
        """
        if entry is None:
            return
        self._pending.append(entry)
        self._wake.set()
        if len(self._pending) > self._settings.max_pending:
            await self.settle()

    async def settle(self) -> None:
        """Return when everything handed over is in the log (or its server is away) and before the readers.

        Raises:
            FencedError (of the log or the store), GenerationFinishedError, GenerationNotFoundError: stop producing.
        """
        async with self._lock:
            await self._flush()

    async def run(self) -> None:
        """Write as events come, until cancelled. Raises like `settle`."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self.settle()
            window = self._settings.window_seconds
            if window > 0:
                await self._clock.sleep(window - self._clock.monotonic() % window)

    async def keep(self) -> None:
        """Renew the lease while nothing is written, until cancelled."""
        while True:
            await self._clock.sleep(self._settings.renew_seconds)
            if self._clock.monotonic() - self._last_write >= self._settings.renew_seconds / 2:
                self._wake.set()

    async def _flush(self) -> None:
        batch = tuple(self._pending)
        if self._retry_at is None or self._clock.monotonic() >= self._retry_at:
            await self._try_log(batch)
        # Only now: what the log refused must not be shown.
        del self._pending[: len(batch)]
        self._feed.publish(batch)

    async def _try_log(self, batch: Sequence[LogEntry]) -> None:
        try:
            async with asyncio.timeout(self._settings.write_timeout_seconds):
                receipt = await self._write(batch)
        except (LogUnavailableError, TimeoutError) as error:
            self._degrade(error)
            return
        self._last_write = self._clock.monotonic()
        self._instruments.log_writes.inc()
        if self._retry_at is not None:
            self._retry_at = None
            _logger.info("generation_log_recovered", generation_id=self._lease.generation_id)
        if receipt.cancel_requested:
            self.cancel_requested.set()

    async def _write(self, batch: Sequence[LogEntry]) -> WriteReceipt:
        entries = [*self._feed.after(self._logged_seq), *batch]
        try:
            receipt = await self._log.append(self._lease, entries)
        except LogGapError as gap:
            # A write whose answer was lost, or a server that came back with an older state.
            whole = [*self._feed.after(0), *batch]
            receipt = await self._log.append(self._lease, [entry for entry in whole if entry.seq > gap.last_seq])
        except LogMissingError:
            await self._confirm()
            receipt = await self._log.restore(self._lease, [*self._feed.after(0), *batch])
            _logger.info("generation_log_restored", generation_id=self._lease.generation_id)
        self._logged_seq = max(self._logged_seq, self._feed.last_seq, *(entry.seq for entry in batch), 0)
        return receipt

    def _degrade(self, error: Exception) -> None:
        if self._retry_at is None:
            _logger.warning(
                "generation_log_away", generation_id=self._lease.generation_id, error=str(error) or type(error).__name__
            )
        self._instruments.log_failures.inc()
        self._retry_at = self._clock.monotonic() + self._settings.renew_seconds / 2
        # Tried again soon even if nothing is said meanwhile: the log must catch up before its readers move here.
        self._last_write = float("-inf")
