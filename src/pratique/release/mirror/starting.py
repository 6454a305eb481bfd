"""Goes through locks, and asks a source what their hashes belong to; what to propose of it is said by `proposing`."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.tags import Tag
from packaging.version import Version

from pratique.release.errors import EvidenceError
from pratique.release.lock.interface import Entry
from pratique.release.lock.settings import LockSettings
from pratique.release.lock.verifying import entries_of, verify_lock
from pratique.release.mirror.approved import Approved
from pratique.release.mirror.errors import HashDiffersError
from pratique.release.mirror.interface import IndexFile, Source
from pratique.release.mirror.metadata import licence_classifiers, licence_of, metadata_of_wheel
from pratique.release.mirror.proposing import Proposal, files_of, narrow
from pratique.release.mirror.sources import HttpIndex

__all__ = ["Proposed", "propose"]


@dataclass(frozen=True, slots=True)
class Proposed:
    """What came of some locks."""

    proposals: tuple[Proposal, ...]
    problems: tuple[str, ...]
    """What a lock names and nothing can be proposed for."""


def propose(
    locks: Iterable[Path],
    approved: Approved,
    source: Source,
    *,
    settings: LockSettings,
    tags: Sequence[Tag] | None,
    say: Callable[[str], None],
) -> Proposed:
    """Say what would have to be approved for some locks.

    Args:
        locks: each must pin everything.
        approved: what is approved already.
        source: who knows which files the hashes are of.
        settings: of locks.
        tags: take of each version only the one file that such a Python installs; None: all that the lock pins.
        say: is told what is looked at.

    Raises:
        CallerError: there is no such lock.
        EvidenceError: a lock does not pin everything.
        HashDiffersError: it sends another file than the lock names.
        UpstreamError: it does not answer.
    """
    proposals: list[Proposal] = []
    problems: list[str] = []
    for entry in _entries(locks, settings):
        named = f"{entry.name}=={entry.version}"
        if approved.is_private(entry.name):
            problems.append(f"{named} is one of our names: approve it by hand, from where it was built")
            continue
        say(named)
        project = source.project(entry.name)
        pinned = files_of(entry, project.files) if project is not None else ()
        chosen = pinned if tags is None else narrow(pinned, tags)
        if not chosen:
            reason = "no file with a hash of the lock" if not pinned else "no such file that can be installed here"
            problems.append(f"{named}: {source.name} offers {reason}")
            continue
        _add(proposals, problems, _Found(named, entry, chosen), approved, source)
    return Proposed(tuple(proposals), tuple(problems))


@dataclass(frozen=True, slots=True)
class _Found:
    named: str
    entry: Entry
    files: tuple[IndexFile, ...]


def _add(proposals: list[Proposal], problems: list[str], found: _Found, approved: Approved, source: Source) -> None:
    name, version = found.entry.name, str(Version(found.entry.version))
    known = {file.filename for file in approved.files(name) if file.version == version}
    missing = {one.filename: one.digest for one in found.files if one.filename not in known and one.digest is not None}
    if missing and known:
        files = ", ".join(f'"{filename}" = "{digest}"' for filename, digest in missing.items())
        problems.append(f"{found.named} is approved with other files; add by hand: {files}")
    elif missing:
        licence = "" if name in approved.packages else _licence(source, found.files)
        proposals.append(Proposal(name, version, missing, licence))


def _entries(locks: Iterable[Path], settings: LockSettings) -> Iterator[Entry]:
    found: dict[tuple[str, str], Entry] = {}
    for lock in locks:
        verified = verify_lock(lock, settings)
        if verified.problems:
            raise EvidenceError(
                f"{lock} does not pin everything: {verified.problems[0]}", hint=f"pratique lock verify {lock}"
            )
        for entry in entries_of(lock, settings):
            if not entry.is_constraint:
                found.setdefault((entry.name, entry.version), entry)
    yield from (found[key] for key in sorted(found))


def _licence(source: Source, files: Sequence[IndexFile]) -> str:
    """Return what the project says of its licence, in the first wheel; empty: nothing in one line."""
    wheel = next((one for one in files if one.filename.endswith(".whl")), None)
    metadata = _metadata(source, wheel) if wheel is not None else None
    if metadata is None:
        return ""
    return licence_of(metadata) or "; ".join(licence_classifiers(metadata))


def _metadata(source: Source, wheel: IndexFile) -> bytes | None:
    if isinstance(source, HttpIndex) and (offered := source.read_metadata(wheel)) is not None:
        return offered
    with tempfile.TemporaryFile() as file:
        hashed = hashlib.sha256()
        for piece in source.read(wheel):
            hashed.update(piece)
            file.write(piece)
        if f"sha256:{hashed.hexdigest()}" != wheel.digest:
            raise HashDiffersError(f"{source.name} sends another {wheel.filename} than the lock names")
        return metadata_of_wheel(file)
