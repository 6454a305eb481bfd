"""Which tags are being written: leases in SQLite, shared by all fronts of one registry on a machine.

A lease that its holder did not give back (it was killed, or the registry never said whether it wrote) keeps its tag
closed until it runs out: what may still arrive at the registry must not overwrite what came after it.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pratique.release.registry.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["FrontState"]

_APPLICATION_ID: Final = 0x50524652
_BUSY_SECONDS: Final = 5.0
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS leases (
    name TEXT PRIMARY KEY,
    holder TEXT NOT NULL,
    until REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS upstream (one INTEGER PRIMARY KEY CHECK (one = 1), url TEXT NOT NULL);
"""


class FrontState:
    """The file. Blocking; every call is one short transaction."""

    def __init__(
        self, folder: Path, upstream: str, *, lease_seconds: float, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Open or make the file.

        Args:
            folder: made where there is none.
            upstream: the registry that it belongs to.
            lease_seconds: how long a lease lasts.
            monotonic: seconds of a clock that all processes of the machine share.

        Raises:
            StateError: it belongs to another registry or program, or cannot be used.
        """
        self._path = folder / "front.db"
        self._lease_seconds = lease_seconds
        self._monotonic = monotonic
        self._holder = uuid.uuid4().hex
        self._lock = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise StateError(f"the folder {folder} cannot be made: {error}") from error
        with self._translated():
            self._connection = sqlite3.connect(
                self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
        try:
            self._prepare(upstream)
        except BaseException:
            self._connection.close()
            raise

    def take(self, name: str) -> float | None:
        """Take a lease; returns until when it lasts (monotonic), None where somebody has it."""
        now = self._monotonic()
        until = now + self._lease_seconds
        with self._transaction() as connection:
            # Clocks begin anew with the machine: a lease that ends later than any taken now is from before.
            connection.execute("DELETE FROM leases WHERE name = ? AND NOT until BETWEEN ? AND ?", (name, now, until))
            taken = connection.execute(
                "INSERT OR IGNORE INTO leases (name, holder, until) VALUES (?, ?, ?)", (name, self._holder, until)
            )
            return until if taken.rowcount else None

    def give_back(self, name: str) -> None:
        """End a lease of this process."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM leases WHERE name = ? AND holder = ?", (name, self._holder))

    def keep_closed(self, name: str) -> None:
        """Leave a lease to run out, from now on: nobody knows whether what was written arrives."""
        until = self._monotonic() + self._lease_seconds
        with self._transaction() as connection:
            # Nobody's from now on: a later one of this process does not end it either.
            connection.execute(
                "UPDATE leases SET until = ?, holder = '' WHERE name = ? AND holder = ?", (until, name, self._holder)
            )

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def _prepare(self, upstream: str) -> None:
        with self._translated():
            (application,) = self._connection.execute("PRAGMA application_id").fetchone()
            (tables,) = self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if application != _APPLICATION_ID and (tables or application):
                raise StateError(f"{self._path} is a database of another program", hint="Name another folder.")
            self._connection.execute("PRAGMA journal_mode = WAL")
            # A lease that a crash of the machine loses was held by a process that it ended.
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.executescript(
                f"BEGIN IMMEDIATE; PRAGMA application_id = {_APPLICATION_ID}; {_SCHEMA} COMMIT;"
            )
            self._connection.execute("INSERT OR IGNORE INTO upstream VALUES (1, ?)", (upstream,))
            (known,) = self._connection.execute("SELECT url FROM upstream").fetchone()
        if known != upstream:
            raise StateError(
                f"{self._path} belongs to the front of {known}, not of {upstream}", hint="Name another folder."
            )

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._translated():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StateError(
                f"the state in {self._path} cannot be used: {error}", hint="Check the disk, the owner and the mode."
            ) from error
