"""What an index folder holds, and whether this installation may read it.

    FOLDER/manifest.json        which of the generations counts; replaced by a rename, so it is old or new, never half
    FOLDER/g-<digest>-<random>/ tantivy's files of one generation; never changed once the manifest names it
    FOLDER/lock                 held by whoever builds

Words must be made of a question as they were made of the documents, so an index counts only for the very versions of
the analyzer, its dictionary and the engine that made it.
"""

from __future__ import annotations

import hashlib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Final

import msgspec

from pratique.core.errors import EnvironmentFaultError
from pratique.orchestrator.retrieval._extras import ExtraMissingError
from pratique.orchestrator.retrieval.words import WORDS_VERSION

__all__ = [
    "FORMAT",
    "IndexDamagedError",
    "IndexFile",
    "IndexMissingError",
    "IndexVersionError",
    "Manifest",
    "digest_of",
    "load_manifest",
    "made_by",
    "verify_files",
    "verify_version",
]

FORMAT: Final = 1
_PACKAGES: Final = ("tantivy", "sudachipy", "sudachidict-small")
_MANIFEST: Final = "manifest.json"
_MAX_MANIFEST_BYTES: Final = 1 << 20
_REBUILD: Final = "Build it again: `pratique retrieval index SOURCE.jsonl --into FOLDER`."
_Count = Annotated[int, msgspec.Meta(ge=0)]


class IndexMissingError(EnvironmentFaultError):
    """There is no index in the folder."""

    code = "index_missing"


class IndexVersionError(EnvironmentFaultError):
    """The index was made by another version."""

    code = "index_version"


class IndexDamagedError(EnvironmentFaultError):
    """The index is not what its manifest says."""

    code = "index_damaged"


class IndexFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a generation."""

    bytes: _Count
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an index without opening it."""

    format: int
    made_by: dict[str, str]
    """Versions: of the packages, and of how words are made."""
    generation: Annotated[str, msgspec.Meta(pattern="^g-[0-9a-z-]{1,100}$")]
    """The folder that holds the files; a plain name, so that it cannot lead elsewhere."""
    num_documents: _Count
    num_passages: _Count
    passage_characters: _Count
    overlap_characters: _Count
    source_sha256: str
    files: dict[Annotated[str, msgspec.Meta(pattern=r"^[\w.-]{1,200}$")], IndexFile]


def made_by() -> dict[str, str]:
    """Return the versions that make an index here.

    Raises:
        ExtraMissingError: one of the packages is not installed.
    """
    try:
        return {name: version(name) for name in _PACKAGES} | {"words": str(WORDS_VERSION)}
    except PackageNotFoundError as error:
        raise ExtraMissingError(error.name) from error


def load_manifest(folder: Path) -> Manifest:
    """Read the manifest of an index folder.

    Raises:
        IndexMissingError: there is none.
        IndexDamagedError: it cannot be read.
    """
    path = folder / _MANIFEST
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_MANIFEST_BYTES)
    except FileNotFoundError as error:
        raise IndexMissingError(f"There is no index in {folder}: it has no {_MANIFEST}.", hint=_REBUILD) from error
    except OSError as error:
        raise IndexDamagedError(f"The manifest of the index cannot be read: {error}.") from error
    try:
        return msgspec.json.decode(raw, type=Manifest)
    except msgspec.MsgspecError as error:
        raise IndexDamagedError(f"{path} is no manifest of an index: {error}.", hint=_REBUILD) from error


def verify_version(manifest: Manifest, folder: Path) -> None:
    """Return if this installation makes the same words and files.

    Raises:
        IndexVersionError: naming what differs.
    """
    ours = made_by()
    if manifest.format != FORMAT:
        raise IndexVersionError(
            f"Expected format {FORMAT} of the index in {folder}; found {manifest.format}.", hint=_REBUILD
        )
    differing = [
        f"{name} {manifest.made_by.get(name, 'none')} (here: {number})"
        for name, number in ours.items()
        if manifest.made_by.get(name) != number
    ]
    if differing:
        raise IndexVersionError(
            f"The index in {folder} was made by other versions: {', '.join(differing)}.", hint=_REBUILD
        )


def verify_files(manifest: Manifest, folder: Path) -> None:
    """Return if every file is there as it was written. Reads all of them.

    Raises:
        IndexDamagedError: naming the first that is not.
    """
    for name, expected in manifest.files.items():
        path = folder / manifest.generation / name
        try:
            found = digest_of(path)
        except OSError as error:
            raise IndexDamagedError(f"A file of the index cannot be read: {error}.", hint=_REBUILD) from error
        if found != expected:
            raise IndexDamagedError(
                f"{path} is not what the manifest says: expected {expected.bytes} bytes, sha256 "
                f"{expected.sha256[:12]}…; found {found.bytes}, {found.sha256[:12]}….",
                hint=_REBUILD,
            )


def digest_of(path: Path) -> IndexFile:
    """Return size and digest of a file."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return IndexFile(bytes=file.tell(), sha256=sha256)
