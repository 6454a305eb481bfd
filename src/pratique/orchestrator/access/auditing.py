"""Where audit records go: a file of JSON lines, or the service's log. Never in the way of whoever is served.

Records wait in a bounded queue and are written in batches off the event loop. Refusals, which anybody can cause in any
number, may fill half of it: the other half is for what was done. What does not fit or cannot be written is counted,
said in the service's log, and told by a record of its own (`audit.dropped`) as soon as one can be written again. The
file may be rotated by renaming it: where its name leads elsewhere it is opened anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from pratique.core.catalogue.access import AUDIT_DROPPED
from pratique.core.clock import Clock, SystemClock
from pratique.core.errors import EnvironmentFaultError
from pratique.core.events import get_logger
from pratique.orchestrator.access.audit import AuditEvent

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pratique.core.metrics import Metrics

__all__ = ["AuditUnavailableError", "FileSink", "LogSink", "QueuedAudit", "Sink", "append_record"]

_logger = get_logger("audit")
_LAST_SECONDS: Final = 5.0
_BATCH: Final = 500


class AuditUnavailableError(EnvironmentFaultError):
    """The audit file cannot be written."""

    code = "audit_unavailable"


class Sink(Protocol):
    """Writes records. May block; called from one thread at a time."""

    def write(self, records: Sequence[tuple[float, AuditEvent]]) -> None:
        """Write them, each with its time in seconds since 1970; raise where that fails."""
        ...

    def close(self) -> None:
        """Give up what is open."""
        ...


class FileSink:
    """Appends JSON lines to a file, readable by its owner."""

    def __init__(self, path: Path, *, fsync: bool = False) -> None:
        self._path = path
        self._fsync = fsync
        self._handle: int | None = None

    def write(self, records: Sequence[tuple[float, AuditEvent]]) -> None:
        handle = self._opened()
        data = b"".join(_line(at, event) for at, event in records)
        while data:
            data = data[os.write(handle, data) :]
        if self._fsync:
            os.fsync(handle)

    def close(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def _opened(self) -> int:
        if self._handle is not None and not self._is_current(self._handle):
            self.close()
        if self._handle is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        return self._handle

    def _is_current(self, handle: int) -> bool:
        try:
            there, ours = self._path.stat(), os.fstat(handle)
        except FileNotFoundError:
            return False
        return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)


class LogSink:
    """Says records among the service's events, as `audit`."""

    def write(self, records: Sequence[tuple[float, AuditEvent]]) -> None:
        for _, event in records:
            fields = {name: value for name, value in msgspec.structs.asdict(event).items() if value}
            _logger.info("audit", **fields)

    def close(self) -> None:
        """Nothing is open."""


class QueuedAudit:
    """An `AuditLog` over a sink. Its task runs from `start` to `aclose`."""

    def __init__(self, sink: Sink, *, max_queue: int, metrics: Metrics, clock: Clock | None = None) -> None:
        self._sink = sink
        self._max_queue = max_queue
        self._clock = clock or SystemClock()
        self._dropped = metrics.counter(AUDIT_DROPPED)
        self._waiting: deque[tuple[float, AuditEvent]] = deque()
        self._filled = asyncio.Event()
        self._is_closing = False
        self._is_dropping = False
        self._num_lost = 0
        """Since one was last told in the log itself."""
        self._writing: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to write; raises `AuditUnavailableError` where nothing could be written."""
        try:
            self._sink.write(())
        except OSError as error:
            raise AuditUnavailableError(f"The audit log cannot be written: {error}.") from error
        self._writing = asyncio.create_task(self._write_all())

    def record(self, event: AuditEvent) -> None:
        room = (self._max_queue + 1) // 2 if event.outcome == "refused" else self._max_queue
        if len(self._waiting) >= room:
            self._drop(1, "full")
            return
        self._waiting.append((self._clock.epoch(), event))
        self._filled.set()

    async def aclose(self) -> None:
        """Write what waits, with a bound in time, and close the sink."""
        self._is_closing = True
        self._filled.set()
        if self._writing is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LAST_SECONDS):
                    await asyncio.shield(self._writing)
            self._writing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._writing
        if self._waiting:
            self._drop(len(self._waiting), "failed")
        self._sink.close()

    async def _write_all(self) -> None:
        while not (self._is_closing and not self._waiting):
            await self._filled.wait()
            batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
            if batch:
                await self._write(batch)
            if not self._waiting and not self._is_closing:
                self._filled.clear()

    async def _write(self, batch: list[tuple[float, AuditEvent]]) -> None:
        num_told, told = self._num_lost, list(batch)
        if num_told:
            gap = AuditEvent(action="audit.dropped", outcome="failed", detail=f"{num_told} records")
            told.append((self._clock.epoch(), gap))
        try:
            await asyncio.to_thread(self._sink.write, told)
        except Exception as error:  # noqa: BLE001 - whatever it is, the records after these must still be written
            self._drop(len(batch), "failed", error=f"{type(error).__name__}: {error}")
        else:
            self._num_lost -= num_told
            self._is_dropping = False

    def _drop(self, number: int, reason: str, *, error: str = "") -> None:
        self._dropped.labels(reason=reason).inc(number)
        self._num_lost += number
        if not self._is_dropping:
            self._is_dropping = True
            _logger.error("audit_records_dropped", reason=reason, error=error)


def append_record(path: Path, event: AuditEvent) -> None:
    """Write one record at once, as a command does; raise `AuditUnavailableError` where that fails."""
    sink = FileSink(path, fsync=True)
    try:
        sink.write([(SystemClock().epoch(), event)])
    except OSError as error:
        raise AuditUnavailableError(f"The audit log {path} cannot be written: {error}.") from error
    finally:
        sink.close()


def _line(at: float, event: AuditEvent) -> bytes:
    when = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    return msgspec.json.encode({"time": when, **msgspec.structs.asdict(event)}) + b"\n"
