"""The advisories of a machine in one SQLite file, indexed by package and by every name.

The file is read only and never changed: an import writes a new one (`importing`). It says which data it was made from
(`digest`) and how old that is (`updated_at`). One object serves one thread.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

from pratique.release.advisories.errors import AdvisoryDatabaseError
from pratique.release.advisories.matching import Lookup, Match, match
from pratique.release.advisories.records import Advisory
from pratique.release.decoding import MalformedError, decode_msgpack
from pratique.release.values import Digest

__all__ = ["AdvisoryDatabase", "DatabaseInfo", "EcosystemInfo", "write_database"]

_SCHEMA_VERSION: Final = 1
_HINT: Final = "Make one: pratique advisories import …/all.zip"

_TABLES: Final = """
CREATE TABLE info (body BLOB NOT NULL);
CREATE TABLE advisories (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, body BLOB NOT NULL);
CREATE TABLE packages (ecosystem TEXT, name TEXT, number INTEGER, PRIMARY KEY (ecosystem, name, number)) WITHOUT ROWID;
CREATE TABLE names (name TEXT, number INTEGER, PRIMARY KEY (name, number)) WITHOUT ROWID;
"""


class EcosystemInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one ecosystem."""

    num_advisories: int
    num_packages: int


class DatabaseInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a database was made from."""

    schema_version: int = _SCHEMA_VERSION
    digest: Digest
    """Of the records: the same data give the same, from an archive or a folder."""
    updated_at: datetime
    """How old the data are: of several sources, the oldest."""
    imported_at: datetime
    num_advisories: int
    num_withdrawn: int
    num_without_severity: int
    unreadable: tuple[str, ...] = ()
    """The records that were left out on request, and why."""
    ecosystems: Mapping[str, EcosystemInfo]


class AdvisoryDatabase:
    """Answers which advisories there are about a package, and what one of them says. A context manager."""

    def __init__(self, path: Path) -> None:
        """Open a database.

        Raises:
            AdvisoryDatabaseError: there is none, or it is of another version or damaged.
        """
        if not path.is_file():
            raise AdvisoryDatabaseError(f"there is no advisory database at {path}", hint=_HINT)
        self._path = path
        with self._translated():
            self._db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
            try:
                (body,) = self._db.execute("SELECT body FROM info").fetchone() or (b"",)
                self.info = decode_msgpack(body, DatabaseInfo)
            except (sqlite3.Error, MalformedError):
                self._db.close()
                raise
        if self.info.schema_version != _SCHEMA_VERSION:
            self._db.close()
            version = self.info.schema_version
            raise AdvisoryDatabaseError(f"{path} is of version {version}, expected {_SCHEMA_VERSION}", hint=_HINT)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Close; what is asked afterwards is refused."""
        self._db.close()

    def knows(self, lookup: Lookup) -> bool:
        """Whether there are any data for a component's ecosystem and release: without, nothing found means nothing."""
        return lookup.ecosystems[0] in self.info.ecosystems

    def matches(self, lookup: Lookup) -> tuple[Match, ...]:
        """Return the advisories that concern a component, or may."""
        return match(lookup, self.about(lookup.ecosystems, lookup.name))

    def about(self, ecosystems: Iterable[str], name: str) -> tuple[Advisory, ...]:
        """Return the advisories about a package, in any version, without withdrawn ones."""
        numbers: dict[int, bytes] = {}
        with self._translated():
            for ecosystem in ecosystems:
                numbers.update(
                    self._db.execute(
                        "SELECT number, body FROM packages JOIN advisories USING (number)"
                        " WHERE ecosystem = ? AND packages.name = ?",
                        (ecosystem, name),
                    )
                )
            return tuple(decode_msgpack(body, Advisory) for body in numbers.values())

    def named(self, name: str) -> tuple[Advisory, ...]:
        """Return the advisories that a name means: an id, an alias, or what a distribution's advisory is about."""
        with self._translated():
            rows = self._db.execute(
                "SELECT body FROM names JOIN advisories USING (number) WHERE names.name = ? ORDER BY id", (name,)
            )
            return tuple(decode_msgpack(body, Advisory) for (body,) in rows)

    def all(self) -> Iterator[Advisory]:
        """Go through all advisories, withdrawn ones too, in the order of their ids."""
        with self._translated():
            for (body,) in self._db.execute("SELECT body FROM advisories ORDER BY id"):
                yield decode_msgpack(body, Advisory)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, MalformedError) as error:
            raise AdvisoryDatabaseError(
                f"{self._path} is damaged, or no advisory database: {error}", hint=_HINT
            ) from error


def write_database(path: Path, info: DatabaseInfo, advisories: Iterable[Advisory]) -> None:
    """Write a new database file; nothing may be there. Its folder must be.

    Raises:
        AdvisoryDatabaseError: it cannot be written.
    """
    try:
        db = sqlite3.connect(path)
        try:
            db.execute("PRAGMA journal_mode = OFF")  # a file that was not written to its end is thrown away
            db.executescript(_TABLES)
            encode = msgspec.msgpack.Encoder().encode
            for number, one in enumerate(advisories):
                _insert(db, number, one, encode(one))
            db.execute("INSERT INTO info VALUES (?)", (encode(info),))
            db.commit()
        finally:
            db.close()
    except sqlite3.Error as error:
        raise AdvisoryDatabaseError(f"{path} cannot be written: {error}", hint="Is there room on the disk?") from error


def _insert(db: sqlite3.Connection, number: int, one: Advisory, body: bytes) -> None:
    db.execute("INSERT INTO advisories VALUES (?, ?, ?)", (number, one.id, body))
    names = {one.id, *one.aliases, *one.upstream}
    db.executemany("INSERT INTO names VALUES (?, ?)", [(name, number) for name in names])
    if one.withdrawn is None:
        packages = {(affected.ecosystem, affected.name, number) for affected in one.affected}
        db.executemany("INSERT INTO packages VALUES (?, ?, ?)", packages)
