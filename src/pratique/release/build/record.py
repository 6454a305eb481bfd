"""What a build was made from: the facts that provenance (SLSA v1) is written from. Written beside the image.

Everything that went in is there by digest. Secrets are named, never told. A record is no evidence: it is signed as
part of the provenance, by whoever vouches for the machine that built.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Final, Literal

import msgspec

from pratique.release.decoding import MalformedError, decode_json
from pratique.release.errors import EvidenceError
from pratique.release.values import Digest

__all__ = ["BUILD_TYPE", "BuildRecord", "BuilderRecord", "Material", "SourceRecord", "load_record", "write_record"]

BUILD_TYPE: Final = "urn:pratique:build:dockerfile:v1"
"""What the members of `parameters` mean; goes into the provenance's `buildType`."""
MAX_RECORD_BYTES: Final = 16 * 1024 * 1024


class _Struct(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of what stands in a record."""


class Material(_Struct, frozen=True, kw_only=True):
    """Something that went in."""

    name: str
    """A file's path in the source, a base's reference, a wheel's file name, a folder's name."""
    digest: Digest


class SourceRecord(_Struct, frozen=True, kw_only=True):
    """The commit."""

    repository: str
    """Its address; empty where none is known."""
    commit: str
    committed_at: datetime
    is_dirty: bool
    """What was built differs from the commit."""
    authors: tuple[str, ...] = ()
    """The e-mail addresses of who wrote, co-wrote or committed what is new in the commit: they do not approve it."""


class BuilderRecord(_Struct, frozen=True, kw_only=True):
    """Who built, with what."""

    id: str
    """Of the machine or service that builds, a URI, as the settings name it: provenance's `builder.id`."""
    name: str
    """Of the program."""
    version: str
    parameters: dict[str, str]
    """Its switches that change the result."""


class BuildRecord(_Struct, frozen=True, kw_only=True):
    """One build."""

    schema_version: Literal[1] = 1
    build_type: str = BUILD_TYPE
    image: Digest
    tag: str
    invocation_id: str
    source: SourceRecord
    builder: BuilderRecord
    dockerfile: Material
    bases: tuple[Material, ...]
    locks: tuple[Material, ...]
    downloads: tuple[Material, ...]
    """What the dependency step brought, wheel by wheel; every one is named by a lock."""
    artifacts: tuple[Material, ...]
    """Folders that were given beside the commit."""
    parameters: dict[str, str]
    """Target, test stage, stages with network, build arguments (`arg:NAME`), platform, time."""
    secret_names: tuple[str, ...] = ()
    is_reproduced: bool | None = None
    """Built twice, and the same; None: it was not tried."""
    started_at: datetime
    finished_at: datetime
    log: Material


def write_record(path: Path, record: BuildRecord) -> None:
    """Write a record as JSON that people can read too."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")


def load_record(path: Path) -> BuildRecord:
    """Read a record.

    Raises:
        EvidenceError: it is none, or of a version that is not known here.
    """
    try:
        if path.stat().st_size > MAX_RECORD_BYTES:
            raise EvidenceError(f"{path} has more than {MAX_RECORD_BYTES} bytes: no build record is so long")
        return decode_json(path.read_bytes(), BuildRecord)
    except (OSError, MalformedError) as error:
        raise EvidenceError(f"{path} is no build record: {error}") from error
