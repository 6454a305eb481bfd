"""Puts one reply's events into the log, and then before this replica's readers.

An event is shown only once it is in the log, so that whoever takes over goes on after all that anybody saw. One
exception is deliberate: while the log's server is away readers go on from memory (visibly: metric and event), and what
they saw is written when it is back, before anything else.

Coalescing: the first event goes at once, then at most one round trip per window. Windows are the same for all replies
of a replica, so that the log can take what they write in one round trip together. Every write renews the lease; without
anything to write it is renewed by `keep`. A cancel asked for on another replica arrives with a write's answer.

There are two ways to write. A flight is the rule: begun by a callback, landed by another, no task is woken for it. All
that is not simply written (a gap, a lost log, a newer lease, a server that is away) is settled by the task of `run`.
One of them at a time: no flight begins while somebody settles, and who settles waits for the flight to land.
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
    WriteReceipt,
)
from pratique.orchestrator.sessions.windows import Windows

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from pratique.core.clock import Clock
    from pratique.core.errors import PratiqueError
    from pratique.orchestrator.sessions.feed import Feed
    from pratique.orchestrator.sessions.instruments import Instruments
    from pratique.orchestrator.sessions.log.interface import GenerationLog, Lease, LogEntry

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


@dataclass(eq=False, slots=True)
class _Flight:
    """A write under way."""

    batch: Sequence[LogEntry]
    until: float
    """Of the clock; then it is given up."""


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
        windows: Windows | None = None,
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
            windows: those of the replica; None for some of its own.
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
        self._loop = asyncio.get_running_loop()
        self._lock = asyncio.Lock()
        self._wake = asyncio.Event()
        self._last_write = clock.monotonic()
        self._retry_at: float | None = None
        self._windows = windows or Windows(settings.window_seconds)
        self._pen = log.pen(lease)
        self._flight: _Flight | None = None
        self._landed: asyncio.Event | None = None
        """Only while somebody waits for it."""
        self._is_running = False
        self._is_resting = False
        """It wrote in this window, or is about to."""
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
        self.offer(entry)
        if len(self._pending) > self._settings.max_pending:
            await self.settle()

    @property
    def has_room(self) -> bool:
        """Whether an event can be offered, and nobody has to wait for the log."""
        return len(self._pending) < self._settings.max_pending

    def offer(self, entry: LogEntry) -> None:
        """Hand over the next event, where there is room."""
        self._pending.append(entry)
        if self._is_running and not self._is_resting:
            # At once, together with what else is said at this moment: a start comes with its first token.
            self._is_resting = True
            self._loop.call_soon(self._window_ended)

    async def settle(self) -> None:
        """Return when everything handed over is in the log (or its server is away) and before the readers.

        Raises:
            FencedError (of the log or the store), GenerationFinishedError, GenerationNotFoundError: stop producing.
        """
        async with self._lock:
            await self._land()
            await self._flush()

    async def run(self) -> None:
        """Write as events come, until cancelled. Raises like `settle`."""
        self._is_running = True
        try:
            self._write_soon()
            while True:
                await self._wake.wait()
                self._wake.clear()
                await self.settle()
                self._rest()
        finally:
            # Whoever stops it may have lost the lease: nothing is begun any more, and nothing shown.
            self._is_running = False
            self._flight = None

    async def keep(self) -> None:
        """Renew the lease while nothing is written, until cancelled."""
        while True:
            await self._clock.sleep(self._settings.renew_seconds)
            if self._clock.monotonic() - self._last_write >= self._settings.renew_seconds / 2:
                self._wake.set()

    def _write_soon(self) -> None:
        """Begin a flight with what is pending; where that is not possible, have it settled."""
        if not self._pending:
            return
        if self._lock.locked() or self._retry_at is not None:
            self._wake.set()
            return
        batch = tuple(self._pending)
        entries = [*self._feed.after(self._logged_seq), *batch] if self.is_behind else batch
        flight = self._flight = _Flight(batch, self._clock.monotonic() + self._settings.write_timeout_seconds)
        self._pen.write(entries, lambda said: self._take(flight, said))
        self._rest()

    def _rest(self) -> None:
        if not self._is_resting:
            self._is_resting = True
            self._windows.at_end(self._window_ended)

    def _window_ended(self) -> None:
        self._is_resting = False
        if not self._is_running:
            return
        flight = self._flight
        if flight is None:
            self._write_soon()
        elif self._clock.monotonic() < flight.until:
            self._rest()
        else:
            self._take(flight, LogUnavailableError("The generation log took too long."))

    def _take(self, flight: _Flight, said: WriteReceipt | PratiqueError) -> None:
        """Land a flight. One that was given up meanwhile is passed over: what it wrote is written again."""
        if self._flight is not flight:
            return
        self._flight = None
        if isinstance(said, WriteReceipt):
            self._logged_seq = flight.batch[-1].seq
            self._written(said)
            self._show(flight.batch)
        elif isinstance(said, LogUnavailableError):
            self._degrade(said)
            self._show(flight.batch)
        else:
            # It is written again, by who can ask the store and tell the producer.
            self._wake.set()
        if self._landed is not None:
            self._landed.set()

    async def _land(self) -> None:
        """Return when no flight is under way any more, however it ended."""
        flight = self._flight
        if flight is None:
            return
        self._landed = asyncio.Event()
        try:
            async with asyncio.timeout(flight.until - self._clock.monotonic()):
                await self._landed.wait()
        except TimeoutError:
            self._take(flight, LogUnavailableError("The generation log took too long."))
        finally:
            self._landed = None

    async def _flush(self) -> None:
        batch = tuple(self._pending)
        if self._retry_at is None or self._clock.monotonic() >= self._retry_at:
            await self._try_log(batch)
        self._show(batch)

    def _show(self, batch: Sequence[LogEntry]) -> None:
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
        self._written(receipt)

    def _written(self, receipt: WriteReceipt) -> None:
        self._last_write = self._clock.monotonic()
        self._instruments.log_writes.value += 1
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
