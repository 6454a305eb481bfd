"""Which image has which component, and where it runs: one SQLite file, filled from bills of materials and the ledger.

The index proves nothing. It is made from what was verified, can be thrown away, and is made anew from the registry and
the ledger. What it was told once it keeps: of several bills of materials of one image it holds what any of them names.
Adding is idempotent by the statement's digest. One object serves one thread; a file may have many readers and a writer.

`contains` is clustered by component: the images that have one are one run of the file.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar, cast

import msgspec

from pratique.release.decoding import decode_json
from pratique.release.errors import UnavailableError
from pratique.release.triage.parts import Part, Reach
from pratique.release.triage.places import Place
from pratique.release.values import Digest

__all__ = ["Holding", "IndexUnavailableError", "Inventory", "Kept", "TriageIndex"]

T = TypeVar("T")

_SCHEMA_VERSION: Final = 1
_HINT: Final = "Fill one: pratique inventory sync."
_BUSY_SECONDS: Final = 30.0
_MAX_VARIABLES: Final = 400
"""In one list of a statement. SQLite before 3.32 takes 999 in all."""

_TABLES: Final = """
CREATE TABLE images (id INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE, repository TEXT NOT NULL);
CREATE TABLE sboms (digest TEXT PRIMARY KEY, image INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX sboms_by_image ON sboms (image);
CREATE TABLE components (id INTEGER PRIMARY KEY, purl TEXT NOT NULL UNIQUE, family TEXT NOT NULL,
  ecosystem TEXT NOT NULL, name TEXT NOT NULL, version TEXT NOT NULL);
CREATE INDEX components_by_name ON components (family, name);
CREATE TABLE reaches (id INTEGER PRIMARY KEY, body TEXT NOT NULL UNIQUE);
CREATE TABLE contains (component INTEGER, image INTEGER, reach INTEGER NOT NULL,
  PRIMARY KEY (component, image)) WITHOUT ROWID;
CREATE TABLE places (digest TEXT NOT NULL, environment TEXT NOT NULL, role TEXT NOT NULL, target TEXT NOT NULL,
  repository TEXT NOT NULL, since INTEGER NOT NULL, entry INTEGER NOT NULL);
"""


class IndexUnavailableError(UnavailableError):
    """There is no index, or what is there is none: nothing can be said about any image."""

    code = "triage_index"


@dataclass(frozen=True, slots=True)
class Inventory:
    """What one verified bill of materials says of an image."""

    image: Digest
    repository: str
    sbom: Digest
    """The statement."""
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Kept:
    """A component as the index has it."""

    id: int
    purl: str
    family: str
    ecosystem: str
    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Holding:
    """How one image came by one component."""

    component: int
    image: Digest
    reach: Reach


class TriageIndex:
    """The index. A context manager."""

    def __init__(self, path: Path, *, may_make: bool = False) -> None:
        """Open an index; to write where it may be made, else to read.

        Raises:
            IndexUnavailableError: there is none, or it is of another version or damaged.
        """
        if not may_make and not path.is_file():
            raise IndexUnavailableError(f"there is no triage index at {path}", hint=_HINT)
        self._path = path
        with self._translated():
            mode = "rwc" if may_make else "ro"
            self._db = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=_BUSY_SECONDS, isolation_level=None
            )
            try:
                self._prepare(may_make=may_make)
            except (sqlite3.Error, IndexUnavailableError):
                self._db.close()
                raise

    def _prepare(self, *, may_make: bool) -> None:
        self._db.execute("PRAGMA cache_size = -65536")
        self._db.execute("PRAGMA mmap_size = 1073741824")
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version == 0 and may_make:
            self._db.execute("PRAGMA page_size = 2048")
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.executescript(f"BEGIN IMMEDIATE;{_TABLES}PRAGMA user_version = {_SCHEMA_VERSION};COMMIT;")
        elif version != _SCHEMA_VERSION:
            raise IndexUnavailableError(f"{self._path} is of version {version}, expected {_SCHEMA_VERSION}", hint=_HINT)
        # A write that a power failure takes is made again by the next sync; one that a process's death takes is none.
        self._db.execute("PRAGMA synchronous = NORMAL")

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self._db.close()

    def add(self, inventory: Inventory) -> bool:
        """Keep what an image is made of; False: it was known.

        Raises:
            IndexUnavailableError: it cannot be written; nothing was.
        """
        with self._translated(), self._transaction():
            if self._db.execute("SELECT 1 FROM sboms WHERE digest = ?", (inventory.sbom,)).fetchone():
                return False
            image = self._image(inventory.image, inventory.repository)
            components = self._components(inventory.parts)
            bodies = {one.reach: _encode(one.reach) for one in inventory.parts}
            reaches = self._reaches(list(bodies.values()))
            rows = [(components[one.purl], image, reaches[bodies[one.reach]]) for one in inventory.parts]
            self._db.executemany("INSERT OR IGNORE INTO contains VALUES (?, ?, ?)", sorted(rows))
            self._db.execute("INSERT INTO sboms VALUES (?, ?)", (inventory.sbom, image))
            return True

    def put_places(self, places: Iterable[Place]) -> None:
        """Keep what runs where, instead of what was kept."""
        rows = [
            (one.digest, one.environment, one.role, one.target, one.repository, _micros(one.since), one.entry)
            for one in places
        ]
        with self._translated(), self._transaction():
            self._db.execute("DELETE FROM places")
            self._db.executemany("INSERT INTO places VALUES (?, ?, ?, ?, ?, ?, ?)", rows)

    def has_sbom(self, image: Digest) -> bool:
        """Whether it is known what an image is made of."""
        with self._translated():
            found = self._db.execute(
                "SELECT 1 FROM sboms JOIN images ON images.id = sboms.image WHERE images.digest = ?", (image,)
            )
            return found.fetchone() is not None

    def without_sbom(self) -> set[Digest]:
        """Return what runs, and of which it is not known what it is made of."""
        with self._translated():
            known = "SELECT 1 FROM images JOIN sboms ON sboms.image = images.id WHERE images.digest = places.digest"
            rows = self._db.execute(f"SELECT digest FROM places WHERE NOT EXISTS ({known})")  # noqa: S608 - as above
            return {Digest(digest) for (digest,) in rows}

    def num_images(self) -> int:
        """Return of how many images it is known what they are made of."""
        with self._translated():
            (number,) = self._db.execute("SELECT max(id) FROM images").fetchone()
            return int(number or 0)  # numbered from 1 when their first bill of materials comes; none is taken out

    def places(self) -> tuple[Place, ...]:
        """Return what runs where."""
        with self._translated():
            rows = self._db.execute("SELECT * FROM places ORDER BY environment, role DESC, digest")
            return tuple(
                Place(Digest(digest), environment, role, target, repository, _time(since), entry)
                for digest, environment, role, target, repository, since, entry in rows
            )

    def named(self, family: str, name: str) -> list[Kept]:
        """Return the components of a name, in all versions."""
        with self._translated():
            rows = self._db.execute(
                "SELECT id, purl, family, ecosystem, name, version FROM components WHERE family = ? AND name = ?",
                (family, name),
            )
            return [Kept(*row) for row in rows]

    def components(self) -> Iterator[Kept]:
        """Go through all components, those of one name together."""
        with self._translated():
            sql = "SELECT id, purl, family, ecosystem, name, version FROM components ORDER BY family, name"
            for row in self._db.execute(sql):
                yield Kept(*row)

    def images_with(self, components: Sequence[int], *, limit: int | None = None) -> tuple[Digest, ...]:
        """Return the images that have any of some components, or the first of them; each once."""
        each = "image" if len(components) == 1 else "DISTINCT image"  # clustered by component: of one, none comes twice
        end, values = ("", ()) if limit is None else ("LIMIT ?", (limit,))
        digests: list[str] = []
        with self._translated():
            for some in _in_bounds(components):
                found = f"SELECT {each} FROM contains WHERE component IN ({_marks(some)}) {end}"  # noqa: S608 - no value in it
                sql = f"SELECT group_concat(digest) FROM ({found}) CROSS JOIN images ON id = image"  # noqa: S608 - none here
                digests += self._texts(sql, (*some, *values))
        once = digests if len(components) <= _MAX_VARIABLES else dict.fromkeys(digests)
        return cast("tuple[Digest, ...]", tuple(itertools.islice(once, limit)))

    def num_with(self, components: Sequence[int]) -> int:
        """Return how many images have any of some components."""
        with self._translated():
            if len(components) == 1:
                sql = "SELECT count(*) FROM contains WHERE component = ?"
                return int(self._db.execute(sql, tuple(components)).fetchone()[0])
            images: set[str] = set()
            for some in _in_bounds(components):
                sql = f"SELECT group_concat(image) FROM contains WHERE component IN ({_marks(some)})"  # noqa: S608 - question marks
                images.update(self._texts(sql, some))
        return len(images)

    def counts(self, components: Sequence[int]) -> dict[int, int]:
        """Return how many images have each of some components."""
        found: dict[int, int] = {}
        number = "SELECT count(*) FROM contains WHERE component = components.id"  # half the time of GROUP BY
        with self._translated():
            for some in _in_bounds(components):
                sql = f"SELECT id, ({number}) FROM components WHERE id IN ({_marks(some)})"  # noqa: S608 - no value in it
                found.update(self._db.execute(sql, some))
        return found

    def holdings(self, components: Sequence[int], images: Sequence[Digest]) -> list[Holding]:
        """Return how some images came by some components."""
        rows: list[tuple[int, str, str]] = []
        with self._translated():
            for some, here in itertools.product(_in_bounds(components), tuple(_in_bounds(images))):
                sql = (
                    "SELECT component, images.digest, body FROM images"  # noqa: S608 - no value in it
                    f" CROSS JOIN contains ON component IN ({_marks(some)}) AND contains.image = images.id"
                    " CROSS JOIN reaches ON reaches.id = contains.reach"
                    f" WHERE images.digest IN ({_marks(here)})"
                )
                rows += self._db.execute(sql, (*some, *here))
        order = {component: number for number, component in enumerate(components)}
        rows.sort(key=lambda row: order[row[0]])
        return [Holding(component, Digest(digest), decode_json(body, Reach)) for component, digest, body in rows]

    def _image(self, digest: Digest, repository: str) -> int:
        self._db.execute("INSERT OR IGNORE INTO images (digest, repository) VALUES (?, ?)", (digest, repository))
        (number,) = self._db.execute("SELECT id FROM images WHERE digest = ?", (digest,)).fetchone()
        return int(number)

    def _components(self, parts: Sequence[Part]) -> dict[str, int]:
        """Return the numbers of components by package URL; new ones are written."""
        known = self._known("SELECT purl, id FROM components WHERE purl", [one.purl for one in parts])
        for one in parts:
            if one.purl not in known:
                values = (one.purl, one.family, one.ecosystem, one.name, one.version)
                sql = "INSERT INTO components (purl, family, ecosystem, name, version) VALUES (?, ?, ?, ?, ?)"
                known[one.purl] = int(self._db.execute(sql, values).lastrowid or 0)
        return known

    def _reaches(self, bodies: Sequence[str]) -> dict[str, int]:
        known = self._known("SELECT body, id FROM reaches WHERE body", bodies)
        for body in bodies:
            if body not in known:
                known[body] = int(self._db.execute("INSERT INTO reaches (body) VALUES (?)", (body,)).lastrowid or 0)
        return known

    def _texts(self, sql: str, values: tuple[object, ...]) -> list[str]:
        """Return what a query joins by commas. Stepping through 17,000 rows would take longer than finding them."""
        (text,) = self._db.execute(sql, values).fetchone()
        return text.split(",") if text else []

    def _known(self, select: str, texts: Sequence[str]) -> dict[str, int]:
        known: dict[str, int] = {}
        for some in _in_bounds(texts):
            known.update(self._db.execute(f"{select} IN ({_marks(some)})", some))
        return known

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
            raise IndexUnavailableError(f"{self._path} is no usable triage index: {error}", hint=_HINT) from error


def _in_bounds(items: Sequence[T]) -> Iterator[tuple[T, ...]]:
    return (tuple(items[at : at + _MAX_VARIABLES]) for at in range(0, len(items), _MAX_VARIABLES))


def _encode(reach: Reach) -> str:
    return msgspec.json.encode(reach).decode()


def _marks(items: Sequence[object]) -> str:
    return ", ".join("?" * len(items))


def _micros(at: datetime) -> int:
    return round(at.timestamp() * 1_000_000)


def _time(micros: int) -> datetime:
    return datetime.fromtimestamp(micros / 1_000_000, UTC)
