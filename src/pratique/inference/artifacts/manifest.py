"""The manifest beside a model's files: sizes and SHA-256 of each, where they came from, under which licence."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from pratique.inference.errors import ArtifactError

__all__ = ["MANIFEST", "FileEntry", "Manifest", "hash_file", "read_manifest", "verify", "write_manifest"]

MANIFEST: Final = "manifest.json"
_CHUNK_BYTES: Final = 1 << 22


class FileEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One file of the model."""

    name: str
    size_bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a model's folder holds. Nothing else may be in it."""

    schema_version: int = 1
    name: str
    origin: str
    origin_sha256: str
    licence: str
    files: tuple[FileEntry, ...]


def hash_file(path: Path, read: Callable[[int], None] | None = None) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal; `read` hears the bytes of each step."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            if read is not None:
                read(len(chunk))
    return digest.hexdigest()


def write_manifest(folder: Path, *, name: str, origin: str, origin_sha256: str, licence: str) -> Manifest:
    """Describe the files that are in `folder` now, and write the manifest beside them."""
    files = tuple(
        FileEntry(name=path.name, size_bytes=path.stat().st_size, sha256=hash_file(path))
        for path in sorted(folder.iterdir())
        if path.name != MANIFEST
    )
    manifest = Manifest(name=name, origin=origin, origin_sha256=origin_sha256, licence=licence, files=files)
    (folder / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """Read a folder's manifest.

    Raises:
        ArtifactError: it is missing or malformed.
    """
    path = folder / MANIFEST
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError as error:
        raise ArtifactError(
            f"{path} does not exist: this is no imported model.", hint="`pratique model import` makes one."
        ) from error
    except (OSError, msgspec.DecodeError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}.", hint="Import the model again.") from error


def verify(folder: Path, progress: Callable[[float], None] | None = None) -> Manifest:
    """Compare every file with the manifest: names, sizes, checksums, nothing missing, nothing added.

    `progress` hears the share of the bytes that is checked, 0…1.

    Raises:
        ArtifactError: naming the first file that differs, with what was expected and found.
    """
    manifest = read_manifest(folder)
    expected = {entry.name: entry for entry in manifest.files}
    found = {path.name for path in folder.iterdir()} - {MANIFEST}
    for name in sorted(expected.keys() ^ found):
        problem = "is missing" if name in expected else "is not in the manifest"
        raise ArtifactError(f"{folder / name} {problem}.", hint="Import the model again.")
    total = sum(entry.size_bytes for entry in manifest.files) or 1
    done = 0

    def read(num_bytes: int) -> None:
        nonlocal done
        done += num_bytes
        if progress is not None:
            progress(min(done / total, 1.0))

    for entry in manifest.files:
        _verify_file(folder / entry.name, entry, read)
    return manifest


def _verify_file(path: Path, entry: FileEntry, read: Callable[[int], None]) -> None:
    if path.is_symlink() or not path.is_file():
        raise ArtifactError(f"{path} is not a regular file.", hint="Import the model again.")
    size = path.stat().st_size
    if size != entry.size_bytes:
        raise ArtifactError(f"{path} has {size} bytes, expected {entry.size_bytes}.", hint="Import the model again.")
    try:
        digest = hash_file(path, read)
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error}.", hint="Import the model again.") from error
    if digest != entry.sha256:
        raise ArtifactError(f"{path} has SHA-256 {digest}, expected {entry.sha256}.", hint="Import the model again.")
