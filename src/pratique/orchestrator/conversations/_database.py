"""The SQLite file: how it is made, opened, migrated, and what its errors mean. Blocking; called from threads only.

- WAL, synchronous FULL: a commit that returned survives a crash of the process and of the machine.
- Migrations run once, in order, under a lock file, also when several replicas start together: all or none of them,
  after a copy of the file was put beside it (`FILE.before-N`, N being the first migration that runs).
- A file that was removed or replaced while it was open is noticed: nothing is written into the one that is gone.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import sqlite3
import time
from typing import TYPE_CHECKING, Final

from pratique.orchestrator.conversations.errors import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Database", "translated"]

_APPLICATION_ID: Final = 0x50524154
_LOCK_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.02
_ASK_AGAIN_SECONDS: Final = (0.0002, 0.0008)

_MIGRATIONS: Final[tuple[str, ...]] = (
    """
    CREATE TABLE conversations (
        conversation_id TEXT PRIMARY KEY,
        owner TEXT NOT NULL,
        title TEXT NOT NULL,
        created_at REAL NOT NULL,
        updated_at REAL NOT NULL,
        version INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX conversations_by_owner ON conversations (owner, updated_at DESC, conversation_id DESC);

    CREATE TABLE generations (
        generation_id TEXT PRIMARY KEY,
        conversation_id TEXT NOT NULL REFERENCES conversations ON DELETE CASCADE,
        owner TEXT NOT NULL,
        user_turn_id TEXT NOT NULL,
        options TEXT NOT NULL,
        status TEXT NOT NULL CHECK (status IN ('running', 'finished')),
        epoch INTEGER NOT NULL DEFAULT 0,
        holder TEXT NOT NULL DEFAULT '',
        created_at REAL NOT NULL,
        touched_at REAL NOT NULL,
        outcome TEXT,
        turn_id TEXT,
        CHECK ((status = 'finished') = (outcome IS NOT NULL))
    ) WITHOUT ROWID;
    CREATE INDEX generations_by_conversation ON generations (conversation_id);
    CREATE UNIQUE INDEX one_generation_runs ON generations (conversation_id) WHERE status = 'running';
    CREATE INDEX generations_that_run ON generations (touched_at, generation_id) WHERE status = 'running';
    CREATE TRIGGER a_generation_ends_once BEFORE UPDATE ON generations WHEN OLD.status = 'finished'
    BEGIN
        SELECT RAISE(ABORT, 'a finished generation never changes');
    END;

    CREATE TABLE turns (
        conversation_id TEXT NOT NULL REFERENCES conversations ON DELETE CASCADE,
        position INTEGER NOT NULL,
        turn_id TEXT NOT NULL UNIQUE,
        role TEXT NOT NULL,
        text TEXT NOT NULL,
        status TEXT NOT NULL,
        created_at REAL NOT NULL,
        finish_reason TEXT,
        generation_id TEXT NOT NULL,
        error TEXT,
        was_truncated INTEGER NOT NULL DEFAULT 0,
        turns_dropped INTEGER NOT NULL DEFAULT 0,
        superseded_by TEXT,
        PRIMARY KEY (conversation_id, position)
    ) WITHOUT ROWID;
    CREATE UNIQUE INDEX one_reply_per_generation ON turns (generation_id) WHERE role = 'assistant';

    CREATE TABLE messages (
        owner TEXT NOT NULL,
        client_message_id TEXT NOT NULL,
        digest TEXT,
        began_conversation INTEGER NOT NULL,
        conversation_id TEXT NOT NULL,
        generation_id TEXT NOT NULL,
        PRIMARY KEY (owner, client_message_id)
    ) WITHOUT ROWID;
    CREATE INDEX messages_by_conversation ON messages (conversation_id);
    """,
    "ALTER TABLE turns ADD COLUMN details TEXT",
    "CREATE INDEX conversations_by_age ON conversations (updated_at, conversation_id)",
)

_MEANINGS: Final[dict[int, tuple[str, str]]] = {
    sqlite3.SQLITE_FULL: ("the disk is full", "Free space on that disk; nothing has to be restarted."),
    sqlite3.SQLITE_BUSY: ("another process has locked it for too long", "See who holds it open: lsof FILE."),
    sqlite3.SQLITE_LOCKED: ("another process has locked it for too long", "See who holds it open: lsof FILE."),
    sqlite3.SQLITE_CORRUPT: ("it is damaged", "Stop all replicas and restore a copy, or try: sqlite3 FILE .recover"),
    sqlite3.SQLITE_NOTADB: ("it is not an SQLite database, or damaged", "Stop all replicas and restore a copy."),
    sqlite3.SQLITE_READONLY: ("it cannot be written", "Check the owner and the mode of the file and its folder."),
    sqlite3.SQLITE_CANTOPEN: ("it cannot be opened", "Check that the folder exists and may be written."),
    sqlite3.SQLITE_PERM: ("it cannot be opened", "Check the owner and the mode of the file and its folder."),
    sqlite3.SQLITE_IOERR: ("reading or writing it failed", "Check the disk; the kernel's log says more."),
}


def translated(path: Path, error: sqlite3.Error) -> StoreUnavailableError:
    """Return what an SQLite error means to whoever runs this."""
    primary = getattr(error, "sqlite_errorcode", 0) & 0xFF
    meaning, hint = _MEANINGS.get(primary, ("SQLite failed", None))
    found = StoreUnavailableError(f"The conversations in {path} cannot be used: {meaning} ({error}).", hint=hint)
    found.__cause__ = error
    return found


class Database:
    """One file, from which writers and readers get their connections."""

    def __init__(self, path: Path, *, busy_seconds: float) -> None:
        self.path = path
        self._busy_seconds = busy_seconds
        self._identity: tuple[int, int] | None = None

    def prepare(self) -> None:
        """Make the file where there is none and bring it to the newest schema; raise `StoreUnavailableError`."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._locked():
                self._create()
                with contextlib.closing(self._open()) as connection:
                    self._migrate(connection)
        except OSError as error:
            raise StoreUnavailableError(f"The conversations in {self.path} cannot be opened: {error}.") from error
        except sqlite3.Error as error:
            raise translated(self.path, error) from error

    def writer(self) -> sqlite3.Connection:
        """Return a connection that writes, in transactions begun by `begin`."""
        self.require_same_file()
        connection = self._open()
        connection.execute("PRAGMA busy_timeout = 0")
        return connection

    def reader(self) -> sqlite3.Connection:
        """Return a connection that cannot write."""
        self.require_same_file()
        connection = self._open()
        connection.execute("PRAGMA query_only = ON")
        return connection

    def begin(self, connection: sqlite3.Connection) -> None:
        """Begin a transaction that writes, waiting for those of other processes.

        SQLite's own waiting sleeps up to 100 ms at a time: with two busy replicas, one of them was seen to starve for
        more than a second. Asking every half millisecond shares the file far more evenly.
        """
        deadline = time.monotonic() + self._busy_seconds
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(random.uniform(*_ASK_AGAIN_SECONDS))  # noqa: S311 - so that waiters do not ask in step
            else:
                return

    def require_same_file(self) -> None:
        """Raise `StoreUnavailableError` where the path no longer names the file that was prepared."""
        try:
            found = self.path.stat()
        except OSError as error:
            raise StoreUnavailableError(f"The conversations in {self.path} are gone: {error}.") from error
        if (found.st_dev, found.st_ino) != self._identity:
            raise StoreUnavailableError(
                f"The file {self.path} was replaced while it was open.", hint="Restart the orchestrators."
            )

    def touch(self, connection: sqlite3.Connection) -> None:
        """Write something that changes nothing, to learn whether writing works."""
        connection.execute(f"PRAGMA user_version = {len(_MIGRATIONS)}")

    def _open(self) -> sqlite3.Connection:
        # "rw": a file that vanished is not silently made anew.
        connection = sqlite3.connect(
            f"{self.path.resolve().as_uri()}?mode=rw",
            uri=True,
            timeout=self._busy_seconds,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "secure_delete = FAST"):
                connection.execute(f"PRAGMA {pragma}")
            connection.execute(f"PRAGMA journal_size_limit = {64 * 1024 * 1024}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _create(self) -> None:
        with contextlib.suppress(FileExistsError):
            # Readable by its owner only, which SQLite's files beside it inherit.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            _sync_folder(self.path.parent)
        found = self.path.stat()
        self._identity = (found.st_dev, found.st_ino)

    def _migrate(self, connection: sqlite3.Connection) -> None:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application != _APPLICATION_ID and (tables or application):
            raise StoreUnavailableError(f"{self.path} is a database of another program.", hint="Name another file.")
        if version > len(_MIGRATIONS):
            raise StoreUnavailableError(
                f"{self.path} has schema {version}, this program knows up to {len(_MIGRATIONS)}.",
                hint="Use the newer pratique that made it.",
            )
        if version == len(_MIGRATIONS):
            return
        if version:
            self._keep_copy(connection, next_version=version + 1)
        # All in one transaction: whatever fails, the file is as it was.
        scripts = ";".join(_MIGRATIONS[version:])
        connection.executescript(
            f"BEGIN IMMEDIATE; {scripts}; PRAGMA application_id = {_APPLICATION_ID};"
            f"PRAGMA user_version = {len(_MIGRATIONS)}; COMMIT;"
        )

    def _keep_copy(self, connection: sqlite3.Connection, *, next_version: int) -> None:
        """Copy the file beside itself before it is changed; one of an attempt that failed is replaced."""
        copy = self.path.with_name(f"{self.path.name}.before-{next_version}")
        unfinished = copy.with_name(f"{copy.name}.part")
        unfinished.unlink(missing_ok=True)
        os.close(os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        with contextlib.closing(sqlite3.connect(unfinished)) as target:
            connection.backup(target)
            # The copy is one file: it needs no WAL beside it to be whole.
            target.execute("PRAGMA journal_mode = DELETE")
        unfinished.replace(copy)
        _sync_folder(self.path.parent)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock file; SQLite's own lock does not cover the change to WAL."""
        handle = os.open(self.path.with_name(f"{self.path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            deadline = time.monotonic() + _LOCK_SECONDS
            while not _try_lock(handle):
                if time.monotonic() > deadline:
                    raise StoreUnavailableError(f"Another process has been opening {self.path} for {_LOCK_SECONDS} s.")
                time.sleep(_POLL_SECONDS)
            yield
        finally:
            os.close(handle)


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
