"""Makes an advisory database from OSV's exports: read, united, rated, written beside the old one, and put in its place.

A record that cannot be read is no reason to know less than yesterday without saying so: the import is refused, unless
so many were allowed; then the database names them. How old the data are is told by the newest record, or by whoever
fetched them; never by when they were imported.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from pratique.release.advisories.database import DatabaseInfo, EcosystemInfo, write_database
from pratique.release.advisories.errors import AdvisoryDatabaseError, AdvisoryDataError
from pratique.release.advisories.matching import compact
from pratique.release.advisories.records import Advisory, parse_record
from pratique.release.advisories.severity import Rated, settle
from pratique.release.advisories.sources import RawRecord, read_source
from pratique.release.values import Digest

__all__ = ["ImportRequest", "import_advisories"]

_SHOWN: Final = 10
_BEGINNING: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """What to import, and where to."""

    sources: tuple[Path, ...]
    database: Path
    now: datetime
    as_of: datetime | None = None
    """When the sources were fetched; None: the newest record of each source tells."""
    max_unreadable: int = 0
    is_dry_run: bool = False


@dataclass(slots=True)
class _Loaded:
    """What was read so far: the later of two records with one id."""

    records: dict[str, tuple[Advisory, bytes]] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)
    newest: list[datetime] = field(default_factory=list)
    """Of each source."""


def import_advisories(request: ImportRequest, *, say: Callable[[str], None] = lambda _: None) -> DatabaseInfo:
    """Make a database of some sources, and return what it says of itself.

    Raises:
        AdvisoryDataError: a source cannot be read or has no records, too many records cannot be read, or the data are
            newer than when they are said to have been fetched.
        AdvisoryDatabaseError: the file cannot be written; the old one is as it was.
    """
    loaded = _Loaded()
    for source in request.sources:
        _load(loaded, source)
        say(f"{source}: {len(loaded.records)} advisories so far")
    if len(loaded.unreadable) > request.max_unreadable:
        listed = "\n".join(f"  {one}" for one in loaded.unreadable[:_SHOWN])
        hint = "Fetch the data again; --max-unreadable leaves so many out, and says so in the database."
        raise AdvisoryDataError(f"{len(loaded.unreadable)} records cannot be read:\n{listed}", hint=hint)
    advisories = _rated([one for one, _ in loaded.records.values()])
    info = _describe(request, loaded, advisories)
    if not request.is_dry_run:
        _replace(request.database, info, advisories)
    return info


def _load(loaded: _Loaded, source: Path) -> None:
    newest, num_read = _BEGINNING, 0
    for raw in read_source(source):
        num_read += 1
        try:
            newest = max(newest, _keep(loaded, raw) or _BEGINNING)
        except AdvisoryDataError as error:
            loaded.unreadable.append(f"{raw.where}: {error.message}")
    if not num_read:
        raise AdvisoryDataError(f"{source} has no records", hint="A source is an all.zip of OSV, or a folder of JSON.")
    loaded.newest.append(newest)


def _keep(loaded: _Loaded, raw: RawRecord) -> datetime | None:
    advisory = parse_record(raw.content)
    before = loaded.records.get(advisory.id)
    if before is None or (before[0].modified or _BEGINNING) < (advisory.modified or _BEGINNING):
        # Made compact at once: the lists of versions are most of what an export holds.
        kept = msgspec.structs.replace(advisory, affected=tuple(map(compact, advisory.affected)))
        loaded.records[advisory.id] = (kept, hashlib.sha256(raw.content).digest())
    return advisory.modified


def _rated(advisories: Iterable[Advisory]) -> list[Advisory]:
    """Give every advisory its severity, from others where it has none, in the order of their ids."""
    ordered = sorted(advisories, key=lambda one: one.id)
    severities = settle(
        Rated(one.id, one.aliases, one.upstream, one.severity) for one in ordered if one.withdrawn is None
    )
    return [
        msgspec.structs.replace(one, severity=found[0], severity_from=found[1])
        if (found := severities.get(one.id))
        else one
        for one in ordered
    ]


def _describe(request: ImportRequest, loaded: _Loaded, advisories: list[Advisory]) -> DatabaseInfo:
    newest = max(loaded.newest)
    fetched_at = request.as_of or newest
    if not newest <= fetched_at <= request.now:
        raise AdvisoryDataError(
            f"the data are said to be of {fetched_at.isoformat()}, and have a record of {newest.isoformat()};"
            f" now it is {request.now.isoformat()}",
            hint="--as-of is when they were fetched: after their newest record, and before now.",
        )
    content = hashlib.sha256()
    for name in sorted(loaded.records):
        content.update(name.encode() + b" " + loaded.records[name][1])
    valid = [one for one in advisories if one.withdrawn is None]
    return DatabaseInfo(
        digest=Digest(f"sha256:{content.hexdigest()}"),
        updated_at=request.as_of or min(loaded.newest),
        imported_at=request.now,
        num_advisories=len(advisories),
        num_withdrawn=len(advisories) - len(valid),
        num_without_severity=sum(one.severity == "unknown" for one in valid),
        unreadable=tuple(loaded.unreadable),
        ecosystems=_ecosystems(valid),
    )


def _ecosystems(advisories: Iterable[Advisory]) -> dict[str, EcosystemInfo]:
    ids: dict[str, set[str]] = {}
    packages: dict[str, set[str]] = {}
    for one in advisories:
        for affected in one.affected:
            ids.setdefault(affected.ecosystem, set()).add(one.id)
            packages.setdefault(affected.ecosystem, set()).add(affected.name)
    return {
        name: EcosystemInfo(num_advisories=len(ids[name]), num_packages=len(packages[name])) for name in sorted(ids)
    }


def _replace(path: Path, info: DatabaseInfo, advisories: Iterable[Advisory]) -> None:
    """Write beside, then rename: whoever has the old one open goes on reading it, and nobody sees half a file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
        new = Path(name)
        try:
            write_database(new, info, advisories)
            new.chmod(0o644)
            new.replace(path)
        finally:
            new.unlink(missing_ok=True)
    except OSError as error:
        raise AdvisoryDatabaseError(f"{path} cannot be written: {error.strerror}", hint="Name another file.") from error
