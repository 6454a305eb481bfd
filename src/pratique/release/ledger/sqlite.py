"""A ledger's rows in an SQLite file: one machine, any number of processes.

WAL, synchronous FULL: what `add` confirmed survives a crash of the process and of the machine. Rows are never changed
or removed: triggers keep mistakes from it, the chain shows what is no mistake.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, cast

from pratique.release.errors import UnavailableError
from pratique.release.ledger.chain import format_time, parse_time
from pratique.release.ledger.errors import LedgerBrokenError
from pratique.release.ledger.interface import Entry, EntryKind
from pratique.release.ledger.store import Row, TakenError
from pratique.release.values import Digest

__all__ = ["SqliteStore"]

_APPLICATION_ID: Final = 0x50524C45
_VERSION: Final = 1
_PAGE: Final = 500
_COLUMNS: Final = "idx, at, kind, subject, environment, body, actor, previous, hash, bundle"
_SCHEMA: Final = """
CREATE TABLE entries (
    idx INTEGER PRIMARY KEY,
    at TEXT NOT NULL,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    environment TEXT NOT NULL,
    body BLOB NOT NULL,
    actor TEXT NOT NULL,
    previous TEXT NOT NULL,
    hash TEXT NOT NULL,
    bundle BLOB NOT NULL
);
CREATE TRIGGER entries_never_change BEFORE UPDATE ON entries
BEGIN SELECT RAISE(ABORT, 'an entry of a ledger never changes'); END;
CREATE TRIGGER entries_never_go BEFORE DELETE ON entries
BEGIN SELECT RAISE(ABORT, 'an entry of a ledger is never removed'); END;
"""
_CORRUPT: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class SqliteStore:
    """The file. One connection, used by one thread at a time."""

    def __init__(self, file: Path, *, busy_seconds: float, trace: Callable[[str], None] | None = None) -> None:
        """Open or make it.

        Args:
            file: its folder must exist.
            busy_seconds: how long to wait for other processes.
            trace: called before each statement, for tests that end the process there.

        Raises:
            UnavailableError: it cannot be opened, or is another program's.
        """
        self._file = file
        self._lock = threading.RLock()
        try:
            # For its owner only, which SQLite's files beside it inherit.
            handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
            self._opened = _identity_of(os.fstat(handle))
            os.close(handle)
        except OSError as error:
            raise UnavailableError(f"the ledger {file} cannot be opened: {error}") from error
        with self._translated():
            self._connection = sqlite3.connect(
                file, timeout=busy_seconds, isolation_level=None, check_same_thread=False
            )
            self._connection.set_trace_callback(trace)
        try:
            self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def rows(self, start: int, end: int) -> Iterator[Row]:
        """Go through rows, some at a time: a slow reader keeps no writer waiting."""
        for first in range(start, end, _PAGE):
            yield from self._select("idx >= ? AND idx < ?", (first, min(first + _PAGE, end)))

    def rows_at(self, indices: Sequence[int]) -> Iterator[Row]:
        """Go through the rows at these indices, some at a time."""
        for first in range(0, len(indices), _PAGE):
            page = indices[first : first + _PAGE]
            found = {row.entry.index: row for row in self._select(f"idx IN ({','.join('?' * len(page))})", page)}
            yield from (found[index] for index in page if index in found)

    def size(self) -> int:
        """Return the index behind the last row.

        Raises:
            LedgerBrokenError: there are fewer rows than that.
        """
        self._require_there()
        with self._lock, self._translated():
            query = "SELECT coalesce(max(idx) + 1, 0), count(*) FROM entries"
            size, count = self._connection.execute(query).fetchone()
        if size != count:
            raise LedgerBrokenError(f"the ledger {self._file} should have {size} entries, and has {count}")
        return int(size)

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Begin a transaction that writes; it ends with the body."""
        self._require_there()
        with self._lock, self._translated():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            finally:
                if self._connection.in_transaction:  # nothing was added: `add` ends it
                    self._connection.execute("ROLLBACK")

    def add(self, row: Row) -> None:
        """Write a row and end the transaction: when this returns, it is on disk."""
        entry = row.entry
        values = (
            entry.index, format_time(entry.at), entry.kind, entry.subject, entry.environment, entry.body, entry.actor,
            entry.previous, entry.hash, row.bundle,
        )  # fmt: skip
        with self._lock, self._translated():
            try:
                self._connection.execute(f"INSERT INTO entries ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?)", values)  # noqa: S608 - our own names
            except sqlite3.IntegrityError as error:
                raise TakenError(f"there is an entry {entry.index} in {self._file}") from error
            if self._connection.in_transaction:
                self._connection.execute("COMMIT")

    def _require_there(self) -> None:
        """Make sure that the file has not been exchanged: what is written into one that has no name is lost.

        Raises:
            LedgerBrokenError: it was.
        """
        try:
            is_same = _identity_of(self._file.stat()) == self._opened
        except OSError:
            is_same = False
        if not is_same:
            raise LedgerBrokenError(
                f"the ledger {self._file} was exchanged or removed while it was open",
                hint="Find out who did so; what was added since then may be in a file that has no name any more.",
            )

    def _select(self, where: str, values: Sequence[int]) -> list[Row]:
        query = f"SELECT {_COLUMNS} FROM entries WHERE {where} ORDER BY idx"  # noqa: S608 - our own words
        with self._lock, self._translated():
            return [_row(found) for found in self._connection.execute(query, values)]

    def _prepare(self) -> None:
        with self._translated():
            for pragma in ("journal_mode = WAL", "synchronous = FULL"):
                self._connection.execute(f"PRAGMA {pragma}")
            self._connection.execute("BEGIN IMMEDIATE")
            (application,) = self._connection.execute("PRAGMA application_id").fetchone()
            (version,) = self._connection.execute("PRAGMA user_version").fetchone()
            (tables,) = self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if (application, version) == (_APPLICATION_ID, _VERSION):
                self._connection.execute("ROLLBACK")
                return
            if application or version or tables:
                raise UnavailableError(f"{self._file} is no ledger, or a newer one", hint="Name another file.")
            for statement in _statements():
                self._connection.execute(statement)
            self._connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            self._connection.execute(f"PRAGMA user_version = {_VERSION}")
            self._connection.execute("COMMIT")

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _CORRUPT:
                raise LedgerBrokenError(f"the ledger {self._file} is damaged: {error}") from error
            raise UnavailableError(
                f"the ledger {self._file} cannot be used: {error}", hint="Check the disk, the owner, and who holds it."
            ) from error


def _identity_of(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _statements() -> list[str]:
    """Split the schema where statements end, which in a trigger is not every semicolon."""
    found, pending = [], ""
    for piece in _SCHEMA.split(";"):
        pending += piece + ";"
        if sqlite3.complete_statement(pending):
            found.append(pending)
            pending = ""
    return found


def _row(found: tuple[Any, ...]) -> Row:
    index, at, kind, subject, environment, body, actor, previous, hash_, bundle = found
    if not (isinstance(body, bytes) and isinstance(bundle, bytes) and all(isinstance(one, str) for one in found[1:5])):
        raise LedgerBrokenError(f"entry {index} is not as it was written")
    entry = Entry(
        index=index,
        at=parse_time(at),
        kind=cast("EntryKind", kind),
        subject=Digest(subject),
        environment=environment,
        body=body,
        actor=str(actor),
        previous=Digest(str(previous)),
        hash=Digest(str(hash_)),
    )
    return Row(entry, bundle)
