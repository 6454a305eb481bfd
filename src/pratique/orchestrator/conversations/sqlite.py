"""Conversations in one SQLite file, shared by all replicas on this machine.

Writes go through one thread per process with group commit, reads through a few threads with a connection each. The
rules of `interface` hold across processes, because each write decides inside its own transaction.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Annotated, TypeVar

from msgspec import Meta

from pratique.core.clock import Clock, SystemClock
from pratique.core.ids import ConversationId, GenerationId, IdSource, PrincipalId, RandomIds
from pratique.core.metrics import Metrics
from pratique.core.settings import Settings
from pratique.orchestrator.conversations import rules
from pratique.orchestrator.conversations._database import Database, translated
from pratique.orchestrator.conversations._personal import erase_step, purge_step, select_export, select_names
from pratique.orchestrator.conversations._rows import (
    select_generation,
    select_page,
    select_running,
    select_snapshot,
)
from pratique.orchestrator.conversations._transactions import BeginRetry, BeginTurn, Transactions
from pratique.orchestrator.conversations._writer import GroupWriter
from pratique.orchestrator.conversations.errors import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from pratique.orchestrator.conversations.interface import (
        BegunTurn,
        Erased,
        ExportedConversation,
        FinishedGeneration,
        GenerationOptions,
        GenerationRecord,
        Outcome,
        Page,
        StoredConversation,
    )

__all__ = ["SqliteConversationStore", "SqliteSettings"]

T = TypeVar("T")


class SqliteSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds of the store in one process."""

    busy_seconds: Annotated[float, Meta(gt=0)] = 5.0
    """How long a transaction waits for another process's."""
    deadline_seconds: Annotated[float, Meta(gt=0)] = 10.0
    """How long a caller waits for its read or write."""
    queue_limit: Annotated[int, Meta(ge=1)] = 4096
    """Writes that may wait for a transaction."""
    batch_limit: Annotated[int, Meta(ge=1)] = 256
    """Writes in one transaction."""
    reader_threads: Annotated[int, Meta(ge=1, le=64)] = 4
    read_queue_limit: Annotated[int, Meta(ge=1)] = 1024
    """Reads under way or waiting for a thread."""


class SqliteConversationStore:
    """A `ConversationStore`; make one with `open`."""

    def __init__(
        self, database: Database, *, settings: SqliteSettings, clock: Clock, ids: IdSource, metrics: Metrics
    ) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock
        self._transactions = Transactions(clock=clock, ids=ids)
        self._writer = GroupWriter(
            database,
            metrics=metrics,
            queue_limit=settings.queue_limit,
            batch_limit=settings.batch_limit,
            deadline_seconds=settings.deadline_seconds,
        )
        self._readers = ThreadPoolExecutor(settings.reader_threads, thread_name_prefix="conversations-reader")
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._num_reads = 0
        self._is_closed = False

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        settings: SqliteSettings | None = None,
        clock: Clock | None = None,
        ids: IdSource | None = None,
        metrics: Metrics | None = None,
    ) -> SqliteConversationStore:
        """Open the file, making or migrating it where needed.

        Raises:
            StoreUnavailableError: it cannot be made, opened or migrated, or belongs to something else.
        """
        settings = settings or SqliteSettings()
        clock = clock or SystemClock()
        database = Database(path, busy_seconds=settings.busy_seconds)
        await asyncio.to_thread(database.prepare)
        return cls(
            database,
            settings=settings,
            clock=clock,
            ids=ids or RandomIds(clock),
            metrics=metrics or Metrics(),
        )

    async def begin_turn(
        self,
        *,
        owner: PrincipalId,
        conversation_id: ConversationId | None,
        client_message_id: str,
        text: str,
        options: GenerationOptions,
    ) -> BegunTurn:
        request = BeginTurn(
            owner=owner,
            conversation_id=conversation_id,
            client_message_id=client_message_id,
            text=text,
            options=options,
        )
        return await self._writer.write(lambda c: self._transactions.begin_turn(c, request))

    async def begin_retry(
        self, *, owner: PrincipalId, conversation_id: ConversationId, client_message_id: str
    ) -> BegunTurn:
        request = BeginRetry(owner=owner, conversation_id=conversation_id, client_message_id=client_message_id)
        return await self._writer.write(lambda c: self._transactions.begin_retry(c, request))

    async def claim(self, generation_id: GenerationId, *, epoch: int, holder: str = "") -> GenerationRecord:
        return await self._writer.write(lambda c: self._transactions.claim(c, generation_id, epoch, holder))

    async def finish(self, generation_id: GenerationId, *, epoch: int, outcome: Outcome) -> FinishedGeneration:
        return await self._writer.write(lambda c: self._transactions.finish(c, generation_id, epoch, outcome))

    async def load_conversation(self, conversation_id: ConversationId) -> StoredConversation:
        return await self._read(partial(select_snapshot, conversation_id=conversation_id))

    async def load_generation(self, generation_id: GenerationId) -> GenerationRecord:
        return await self._read(partial(select_generation, generation_id=generation_id))

    async def list_conversations(self, *, owner: PrincipalId, limit: int, before: str | None = None) -> Page:
        place = (float("inf"), "") if before is None else rules.decode_cursor(before)
        return await self._read(partial(select_page, owner=owner, limit=rules.clamp_limit(limit), before=place))

    async def rename(self, *, owner: PrincipalId, conversation_id: ConversationId, title: str) -> StoredConversation:
        cleaned = rules.check_title(title)
        return await self._writer.write(lambda c: self._transactions.rename(c, owner, conversation_id, cleaned))

    async def delete(
        self,
        *,
        owner: PrincipalId,
        conversation_id: ConversationId,
        on_gone: Callable[[], Awaitable[None]] | None = None,
    ) -> GenerationId | None:
        active = await self._writer.write(lambda c: self._transactions.delete(c, owner, conversation_id))
        if on_gone is not None:
            await on_gone()
        return active

    async def running_generations(self, *, older_than_seconds: float) -> list[GenerationRecord]:
        touched_until = self._clock.epoch() - older_than_seconds
        return await self._read(partial(select_running, touched_until=touched_until))

    async def export(self, *, owner: PrincipalId) -> AsyncIterator[ExportedConversation]:
        after = ""
        while names := await self._read(partial(select_names, owner=owner, after=after)):
            for name in names:
                # A read each: a slow taker holds no transaction open, which would keep the WAL from being emptied.
                found = await self._read(partial(select_export, conversation_id=name))
                if found is not None:
                    yield found
            after = names[-1]

    async def erase(self, *, owner: PrincipalId, limit: int = 100) -> Erased:
        return await self._writer.write(lambda c: erase_step(c, owner=owner, limit=limit))

    async def purge(self, *, unchanged_since: float, limit: int = 100) -> tuple[ConversationId, ...]:
        return await self._writer.write(lambda c: purge_step(c, unchanged_since=unchanged_since, limit=limit))

    async def check(self) -> None:
        await self._read(lambda connection: connection.execute("SELECT 1 FROM conversations LIMIT 1").fetchone())
        if self._writer.last_failed:
            # Only then is a write worth its fsync: it tells whether writing works again.
            await self._writer.write(self._database.touch)

    async def aclose(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        await self._writer.aclose()
        await asyncio.to_thread(self._readers.shutdown)
        while self._connections:
            self._connections.pop().close()

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._is_closed:
            raise StoreUnavailableError(f"The store of {self._database.path} is closed.")
        if self._num_reads >= self._settings.read_queue_limit:
            raise StoreUnavailableError(f"{self._num_reads} reads of {self._database.path} are waiting already.")
        reading = asyncio.get_running_loop().run_in_executor(self._readers, self._read_in_thread, work)
        self._num_reads += 1
        reading.add_done_callback(self._read_ended)
        try:
            # Shielded: a caller that leaves does not leave a connection in the middle of a transaction.
            async with asyncio.timeout(self._settings.deadline_seconds):
                return await asyncio.shield(reading)
        except TimeoutError as error:
            raise StoreUnavailableError(
                f"Reading {self._database.path} took longer than {self._settings.deadline_seconds} s."
            ) from error

    def _read_ended(self, reading: asyncio.Future[T]) -> None:
        self._num_reads -= 1
        if not reading.cancelled():
            reading.exception()  # Retrieved: the one who asked may have left.

    def _read_in_thread(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            self._database.require_same_file()
            connection = self._reader()
            connection.execute("BEGIN")
            try:
                return work(connection)
            finally:
                connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            self._drop_reader()
            raise translated(self._database.path, error) from error

    def _reader(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._database.reader()
            self._connections.append(connection)
        return connection

    def _drop_reader(self) -> None:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is not None:
            self._connections.remove(connection)
            connection.close()
            self._local.connection = None
