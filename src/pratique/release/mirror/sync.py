"""Fetches approved files, and only those, into the store; refreshes what is known about them.

1. A project of ours is never asked for upstream (dependency confusion): it comes from a folder.
2. What a source offers under an approved name with another hash is refused and told loudly; nothing is replaced.
3. What comes is hashed on the way, and kept only where it is the approved file.
4. What was taken back upstream (PEP 592) is told, and served as such from then on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Literal

import msgspec

from pratique.core.events import get_logger
from pratique.release.mirror.approved import Approved, ApprovedFile
from pratique.release.mirror.errors import HashDiffersError
from pratique.release.mirror.interface import IndexFile, Source
from pratique.release.mirror.metadata import field_of, metadata_of_wheel
from pratique.release.mirror.store import MirrorStore, State, StoredFile
from pratique.release.values import Digest

__all__ = ["Outcome", "SyncReport", "SyncRequest", "sync"]

Verdict = Literal["added", "present", "would-add", "missing", "refused", "skipped"]
_logger = get_logger("mirror")
_SHOWN = 200


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one approved file."""

    package: str
    filename: str
    verdict: Verdict
    reason: str = ""
    yanked: str | None = None
    """Why it was taken back where it came from; None: it was not."""


class SyncReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a sync did."""

    schema_version: int = 1
    source: str
    outcomes: tuple[Outcome, ...]

    @property
    def is_refused(self) -> bool:
        """Whether somebody has to look: a hash differs, or an approved file is nowhere."""
        return any(one.verdict in {"refused", "missing"} for one in self.outcomes)


class SyncRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What to sync, and how."""

    is_upstream: bool
    """Whether the source is somebody else's: then names of ours are left out."""
    is_dry_run: bool = False
    max_file_bytes: int = 4 * 1024**3


def sync(
    approved: Approved, source: Source, store: MirrorStore, request: SyncRequest, *, say: Callable[[str], None]
) -> SyncReport:
    """Bring what is approved, as far as the source has it.

    Raises:
        UpstreamError, MirrorStoreError: what was brought until then is kept, and served.
    """
    old = store.read_state()
    # What is approved no longer is forgotten here; its bytes stay in the store, and nobody gets them.
    known = {str(file.digest): old.files[file.digest] for file in approved.files() if file.digest in old.files}
    work = _Sync(source, store, request, known)
    outcomes: list[Outcome] = []
    try:
        for name in approved.packages:
            files = tuple(approved.files(name))
            if request.is_upstream and approved.is_private(name):
                outcomes += [_outcome(file, "skipped", "a name of ours: sync it from a folder") for file in files]
                continue
            found = work.project(name, files)
            outcomes += found
            for one in found:
                say(f"{one.filename}: {one.verdict}{f', {one.reason}' if one.reason else ''}")
    finally:
        if not request.is_dry_run:
            store.write_state(State(files=dict(sorted(work.known.items()))))
    return SyncReport(source=source.name, outcomes=tuple(outcomes))


class _Sync:
    """One sync: the source's pages against what is approved."""

    def __init__(self, source: Source, store: MirrorStore, request: SyncRequest, known: dict[str, StoredFile]) -> None:
        self._source = source
        self._store = store
        self._request = request
        self.known = known

    def project(self, name: str, files: tuple[ApprovedFile, ...]) -> list[Outcome]:
        project = self._source.project(name)
        offered = {one.filename: one for one in project.files} if project is not None else {}
        return [self._file(file, offered.get(file.filename)) for file in files]

    def _file(self, file: ApprovedFile, offer: IndexFile | None) -> Outcome:
        is_here = file.digest in self.known and self._store.has(file.digest)
        if offer is None:
            return self._not_offered(file, is_here=is_here)
        if offer.digest is not None and offer.digest != file.digest:
            return self._alert(file, f"approved is {file.digest}, offered is {offer.digest}")
        verdict: Verdict = "present" if is_here else "would-add" if self._request.is_dry_run else "added"
        try:
            if is_here:
                self._store.open(file.digest).close()  # hashes it: a changed file is told, and left to look into
                self._refresh(file, offer)
            elif verdict == "added":
                self._bring(file, offer)
        except HashDiffersError as error:
            return self._alert(file, error.message)
        return _outcome(file, verdict, _taken_back(offer), offer.yanked)

    def _not_offered(self, file: ApprovedFile, *, is_here: bool) -> Outcome:
        if is_here:
            return _outcome(file, "present", f"not offered by {self._source.name}"[:_SHOWN])
        # A folder holds some of what is approved; an index that lacks a file says something.
        return _outcome(file, "missing" if self._request.is_upstream else "skipped", "is not offered")

    def _refresh(self, file: ApprovedFile, offer: IndexFile) -> None:
        known = self.known[file.digest]
        if self._request.is_upstream:  # a folder says nothing about times, nor of what was taken back
            known = msgspec.structs.replace(known, yanked=offer.yanked, uploaded_at=offer.uploaded_at)
        self.known[file.digest] = known

    def _bring(self, file: ApprovedFile, offer: IndexFile) -> None:
        limit = self._request.max_file_bytes
        size = self._store.add(file.digest, self._source.read(offer), max_bytes=limit)
        metadata, requires_python = None, offer.requires_python
        if file.filename.endswith(".whl"):
            with self._store.open(file.digest) as opened:
                content = metadata_of_wheel(opened)
            if content is not None:
                metadata = Digest(f"sha256:{hashlib.sha256(content).hexdigest()}")
                self._store.add(metadata, [content], max_bytes=limit)
                requires_python = field_of(content, "Requires-Python")
        self.known[file.digest] = StoredFile(
            filename=file.filename,
            size_bytes=size,
            uploaded_at=offer.uploaded_at,
            requires_python=requires_python,
            yanked=offer.yanked,
            metadata=metadata,
        )

    def _alert(self, file: ApprovedFile, reason: str) -> Outcome:
        _logger.error("mirror_hash_differs", package=file.package, file=file.filename, reason=reason)
        return _outcome(file, "refused", reason)


def _taken_back(offer: IndexFile) -> str:
    return "" if offer.yanked is None else f"yanked: {offer.yanked or 'without a reason'}"[:_SHOWN]


def _outcome(file: ApprovedFile, verdict: Verdict, reason: str = "", yanked: str | None = None) -> Outcome:
    return Outcome(package=file.package, filename=file.filename, verdict=verdict, reason=reason, yanked=yanked)
