"""One thread that writes: whatever arrives while a transaction runs is committed together in the next one.

- A write is acknowledged after the commit that holds it returned, and never otherwise.
- Each write runs inside its own savepoint: one that fails takes nothing else with it.
- A caller that is cancelled or out of time stops waiting; its write is done all the same, whole.
- The queue is bounded: what does not fit is refused at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pratique.core.catalogue.conversations import (
    STORE_BATCH_WRITES,
    STORE_COMMIT_SECONDS,
    STORE_FAILURES,
    STORE_QUEUE_WRITES,
)
from pratique.core.events import get_logger
from pratique.orchestrator.conversations._database import translated
from pratique.orchestrator.conversations.errors import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pratique.core.metrics import Metrics
    from pratique.orchestrator.conversations._database import Database

__all__ = ["GroupWriter"]

T = TypeVar("T")

_log = get_logger("conversations")


@dataclass(kw_only=True)
class _Job(Generic[T]):
    work: Callable[[sqlite3.Connection], T]
    waiter: asyncio.Future[T]
    result: T | None = None
    error: Exception | None = None


class GroupWriter:
    """The only one in this process that writes to the database."""

    def __init__(
        self,
        database: Database,
        *,
        metrics: Metrics,
        queue_limit: int,
        batch_limit: int,
        deadline_seconds: float,
    ) -> None:
        self.last_failed = False
        self._database = database
        self._queue_limit = queue_limit
        self._batch_limit = batch_limit
        self._deadline_seconds = deadline_seconds
        self._commit_seconds = metrics.histogram(STORE_COMMIT_SECONDS)
        self._batch_writes = metrics.histogram(STORE_BATCH_WRITES)
        self._queue_writes = metrics.gauge(STORE_QUEUE_WRITES)
        self._failures = metrics.counter(STORE_FAILURES)
        self._waiting: deque[_Job[Any]] = deque()
        self._changed = threading.Condition()
        self._is_closing = False
        self._connection: sqlite3.Connection | None = None
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="conversations-writer", daemon=True)
        self._thread.start()

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in the next transaction and return its result once that is durable.

        Raises:
            StoreUnavailableError: the queue is full, the store is closed, or the transaction failed or took too long.
            Exception: whatever `work` raised; its own changes are undone, others' are not.
        """
        waiter: asyncio.Future[T] = self._loop.create_future()
        self._enqueue(_Job(work=work, waiter=waiter))
        try:
            async with asyncio.timeout(self._deadline_seconds):
                return await waiter
        except TimeoutError as error:
            raise StoreUnavailableError(
                f"The conversations in {self._database.path} did not take a write within {self._deadline_seconds} s.",
                hint="It may still be stored; sending the same message again is safe.",
            ) from error

    async def aclose(self) -> None:
        """Write what is waiting, then end the thread."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        await asyncio.to_thread(self._thread.join, self._deadline_seconds)

    def _enqueue(self, job: _Job[T]) -> None:
        with self._changed:
            if self._is_closing:
                raise StoreUnavailableError(f"The store of {self._database.path} is closed.")
            if len(self._waiting) >= self._queue_limit:
                raise StoreUnavailableError(
                    f"{self._queue_limit} writes are waiting for {self._database.path} already.",
                    hint="The disk is too slow for this load; try again later.",
                )
            self._waiting.append(job)
            self._queue_writes.set(len(self._waiting))
            self._changed.notify()

    def _run(self) -> None:
        while batch := self._next_batch():
            failure = self._commit(batch)
            self.last_failed = failure is not None
            # The loop may be gone when a store was never closed; then nobody waits either.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(_answer, batch, failure)
        self._disconnect()

    def _next_batch(self) -> list[_Job[Any]]:
        with self._changed:
            while not self._waiting and not self._is_closing:
                self._changed.wait()
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._batch_limit))]
            self._queue_writes.set(len(self._waiting))
        return batch

    def _commit(self, batch: Sequence[_Job[Any]]) -> StoreUnavailableError | None:
        """Run a batch in one transaction; return why none of it is stored, or None."""
        started = time.perf_counter()
        try:
            connection = self._connect()
            self._database.begin(connection)
            for job in batch:
                _run_isolated(connection, job)
            # Looked at last: what went into a file that is gone must not be acknowledged.
            self._database.require_same_file()
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            return self._failed(translated(self._database.path, error))
        except StoreUnavailableError as error:
            return self._failed(error)
        self._commit_seconds.observe(time.perf_counter() - started)
        self._batch_writes.observe(len(batch))
        return None

    def _failed(self, error: StoreUnavailableError) -> StoreUnavailableError:
        _log.error("store_transaction_failed", error=error.message)
        self._failures.inc()
        # Closing rolls back; whatever state the connection was left in goes with it.
        self._disconnect()
        return error

    def _connect(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = self._database.writer()
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None


def _run_isolated(connection: sqlite3.Connection, job: _Job[Any]) -> None:
    connection.execute("SAVEPOINT one")
    try:
        job.result = job.work(connection)
    except (sqlite3.IntegrityError, sqlite3.DataError) as error:
        job.error = StoreUnavailableError(f"The store refused one write: {error}.")
        job.error.__cause__ = error
        connection.execute("ROLLBACK TO one")
    except sqlite3.Error:
        # Disk, lock, damage: SQLite may have undone the whole transaction, and the next write would fail alike.
        raise
    except Exception as error:  # noqa: BLE001 - handed to the one who asked; the others' writes go on
        job.error = error
        connection.execute("ROLLBACK TO one")
    connection.execute("RELEASE one")


def _answer(batch: Sequence[_Job[Any]], failure: StoreUnavailableError | None) -> None:
    for job in batch:
        if job.waiter.done():
            continue
        if failure is not None:
            # One exception object cannot be raised by several waiters at once without mixing their tracebacks.
            own = StoreUnavailableError(failure.message, hint=failure.hint)
            own.__cause__ = failure.__cause__
            job.waiter.set_exception(own)
        elif job.error is not None:
            job.waiter.set_exception(job.error)
        else:
            job.waiter.set_result(job.result)
