"""What is known about the files that somebody wants approved. Gathered from an index, or read from a file (offline)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import msgspec

from pratique.release.decoding import MalformedError, decode_json
from pratique.release.errors import EvidenceError
from pratique.release.mirror.approved import ApprovedFile, version_of_file
from pratique.release.mirror.interface import IndexFile, IndexProject
from pratique.release.mirror.metadata import licence_of
from pratique.release.mirror.sources import HttpIndex

__all__ = ["Facts", "FileFacts", "ProjectFacts", "gather", "parse_facts"]


class FileFacts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an index says of a file."""

    sha256: str = ""
    uploaded_at: datetime | None = None
    yanked: str | None = None
    has_provenance: bool = False


class ProjectFacts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an index says of a project."""

    files: dict[str, FileFacts] = {}
    first_uploaded_at: datetime | None = None
    num_versions: int = 0
    licences: dict[str, str] = {}
    """By version, as the project states it."""


class Facts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is known; a project that is missing here was not asked for, and one that is null does not exist."""

    schema_version: int = 1
    projects: dict[str, ProjectFacts | None] = {}


def parse_facts(body: bytes) -> Facts:
    """Read facts from a file.

    Raises:
        EvidenceError: it holds none.
    """
    try:
        facts = decode_json(body, Facts)
    except MalformedError as error:
        raise EvidenceError(f"the file of facts cannot be read: {error}") from error
    if facts.schema_version != 1:
        raise EvidenceError(f"expected facts of version 1, got {facts.schema_version}")
    return facts


def gather(files: Iterable[ApprovedFile], index: HttpIndex) -> Facts:
    """Ask an index about the projects of some files.

    Raises:
        UpstreamError: it does not answer.
    """
    wanted: dict[str, list[ApprovedFile]] = {}
    for file in files:
        wanted.setdefault(file.package, []).append(file)
    return Facts(projects={name: _project(index, name, some) for name, some in wanted.items()})


def _project(index: HttpIndex, name: str, wanted: list[ApprovedFile]) -> ProjectFacts | None:
    project = index.project(name)
    if project is None:
        return None
    moments = [one.uploaded_at for one in project.files if one.uploaded_at is not None]
    return ProjectFacts(
        files={one.filename: _file(one) for one in project.files},
        first_uploaded_at=min(moments, default=None),
        num_versions=len({found[1] for one in project.files if (found := version_of_file(one.filename))}),
        licences=_licences(index, project, wanted),
    )


def _file(one: IndexFile) -> FileFacts:
    digits = (one.digest or "").removeprefix("sha256:")
    return FileFacts(sha256=digits, uploaded_at=one.uploaded_at, yanked=one.yanked, has_provenance=one.has_provenance)


def _licences(index: HttpIndex, project: IndexProject, wanted: list[ApprovedFile]) -> dict[str, str]:
    offered = {one.filename: one for one in project.files}
    found: dict[str, str] = {}
    for file in wanted:
        offer = offered.get(file.filename)
        if offer is None or found.get(file.version):
            continue
        metadata = index.read_metadata(offer)
        found[file.version] = licence_of(metadata) if metadata is not None else ""
    return found
