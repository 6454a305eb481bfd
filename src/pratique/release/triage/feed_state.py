"""What a watcher has seen, and what it has still to tell: one SQLite file, in which one step is one transaction.

That a record was seen is written together with the alert that it makes. So a watcher that is killed has either not
seen the record, or has its alert in the outbox; nothing is lost, and what was told is taken out of the outbox.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

from pratique.release.errors import UnavailableError
from pratique.release.triage.alerts import FeedAlert
from pratique.release.values import Digest

__all__ = ["FeedState", "FeedStateError", "Seen"]

_SCHEMA_VERSION: Final = 1
_BUSY_SECONDS: Final = 30.0
_AT_ONCE: Final = 100
"""Alerts in memory. One about a package that everything has may be long."""
_TABLES: Final = """
CREATE TABLE sources (source TEXT PRIMARY KEY, etag TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE seen (source TEXT, name TEXT, digest TEXT NOT NULL, PRIMARY KEY (source, name)) WITHOUT ROWID;
CREATE TABLE told (advisory TEXT PRIMARY KEY, alert TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE outbox (number INTEGER PRIMARY KEY, alert TEXT NOT NULL, sink TEXT NOT NULL, body BLOB NOT NULL,
  UNIQUE (alert, sink));
"""


class FeedStateError(UnavailableError):
    """The watcher's state cannot be read or written."""

    code = "feed_state"


@dataclass(frozen=True, slots=True)
class Seen:
    """A record as it was looked at."""

    source: str
    name: str
    """Within the source."""
    digest: Digest


class FeedState:
    """A watcher's memory. A context manager; one object serves one thread."""

    def __init__(self, path: Path, *, is_dry_run: bool = False) -> None:
        """Open the file, or make it; in a dry run, work on a copy in memory.

        Raises:
            FeedStateError: it is none, of another version, or cannot be written.
        """
        self._path = path
        with self._translated():
            self._db = sqlite3.connect(":memory:" if is_dry_run else path, timeout=_BUSY_SECONDS, isolation_level=None)
            try:
                self._prepare(is_dry_run=is_dry_run)
            except (sqlite3.Error, FeedStateError):
                self._db.close()
                raise

    def _prepare(self, *, is_dry_run: bool) -> None:
        if is_dry_run and self._path.is_file():
            copied = sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=ro", uri=True)
            try:
                copied.backup(self._db)
            finally:
                copied.close()
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version == 0:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.executescript(f"BEGIN IMMEDIATE;{_TABLES}PRAGMA user_version = {_SCHEMA_VERSION};COMMIT;")
        elif version != _SCHEMA_VERSION:
            raise FeedStateError(f"{self._path} is of version {version}, expected {_SCHEMA_VERSION}")
        self._db.execute("PRAGMA synchronous = FULL")

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self._db.close()

    def etag(self, source: str) -> str:
        """Return what a source called its last state that was looked at whole; empty where there is none."""
        with self._translated():
            found = self._db.execute("SELECT etag FROM sources WHERE source = ?", (source,)).fetchone()
            return str(found[0]) if found else ""

    def put_etag(self, source: str, etag: str) -> None:
        """Note that a source's state was looked at whole."""
        with self._translated():
            self._db.execute("INSERT OR REPLACE INTO sources VALUES (?, ?)", (source, etag))

    def seen(self, source: str) -> dict[str, str]:
        """Return the digests of all records of a source, by their names."""
        with self._translated():
            return dict(self._db.execute("SELECT name, digest FROM seen WHERE source = ?", (source,)))

    def told(self, advisory: str) -> str | None:
        """Return the id of the last alert about an advisory; None: nothing was told of it."""
        with self._translated():
            found = self._db.execute("SELECT alert FROM told WHERE advisory = ?", (advisory,)).fetchone()
            return str(found[0]) if found else None

    def note(self, records: Iterable[Seen], alerts: Iterable[FeedAlert], sinks: Iterable[str]) -> None:
        """Write that records were looked at, and put their alerts into the outbox: all of it, or nothing."""
        with self._translated(), self._transaction():
            rows = [(one.source, one.name, one.digest) for one in records]
            self._db.executemany("INSERT OR REPLACE INTO seen VALUES (?, ?, ?)", rows)
            for alert in alerts:
                self._db.execute("INSERT OR REPLACE INTO told VALUES (?, ?)", (alert.advisory, alert.id))
                body = msgspec.json.encode(alert)
                for sink in sinks:
                    sql = "INSERT OR IGNORE INTO outbox (alert, sink, body) VALUES (?, ?, ?)"
                    self._db.execute(sql, (alert.id, sink, body))

    def waiting(self) -> Iterator[tuple[int, str, bytes]]:
        """Go through what is still to be told, oldest first: its number, whom, and what. A few are read at a time."""
        last = 0
        while True:
            with self._translated():
                sql = "SELECT number, sink, body FROM outbox WHERE number > ? ORDER BY number LIMIT ?"
                rows = self._db.execute(sql, (last, _AT_ONCE)).fetchall()
            if not rows:
                return
            yield from rows
            last = rows[-1][0]

    def num_waiting(self) -> int:
        """Return how much that is."""
        with self._translated():
            return int(self._db.execute("SELECT count(*) FROM outbox").fetchone()[0])

    def delivered(self, number: int) -> None:
        """Take out what was told."""
        with self._translated():
            self._db.execute("DELETE FROM outbox WHERE number = ?", (number,))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise FeedStateError(f"{self._path} is no usable state of a watcher: {error}") from error
