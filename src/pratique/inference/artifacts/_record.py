"""What a manifest says, and how it is read and written: sizes and SHA-256 of each file, origin, licence.

Version 2 added the checksums of the files that the model was made from; version 1 is still read. Names are plain: no
folder, nothing absolute, no way out. All text is free of control characters, because people see it in terminals.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from pratique.inference.artifacts._files import UnreadableError, opened

__all__ = [
    "AGAIN",
    "MANIFEST",
    "MAX_MANIFEST_BYTES",
    "FileEntry",
    "Manifest",
    "encode_manifest",
    "hash_file",
    "parse_manifest",
    "read_manifest",
    "write_manifest",
]

MANIFEST: Final = "manifest.json"
AGAIN: Final = "Import the model again."
MAX_MANIFEST_BYTES: Final = 16 << 20
_CHUNK_BYTES: Final = 1 << 20

# msgspec searches for patterns with Python's `re`, where `$` also stands before a last newline: `\Z` does not.
_Text = Annotated[str, msgspec.Meta(max_length=4096, pattern=r"\A[^\x00-\x1f\x7f-\x9f]*\Z")]
_FileName = Annotated[
    str,
    msgspec.Meta(min_length=1, max_length=255, pattern=r"\A(?!\.\.?\Z)(?!manifest\.json\Z)[^/\x00-\x1f\x7f-\x9f]+\Z"),
]
_Digest = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]


class FileEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file: of the model, or of what it was made from."""

    name: _FileName
    size_bytes: Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]
    sha256: _Digest


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a model's folder holds. Nothing else may be in it."""

    schema_version: Literal[1, 2] = 2
    name: _Text
    origin: _Text
    origin_sha256: _Text = ""
    """Version 1: of the one file that it was made from; "" where there were several."""
    licence: _Text
    files: Annotated[tuple[FileEntry, ...], msgspec.Meta(min_length=1, max_length=10_000)]
    sources: Annotated[tuple[FileEntry, ...], msgspec.Meta(max_length=10_000)] = ()
    """Every file that it was made from, as it was then."""

    @property
    def size_bytes(self) -> int:
        """All files together."""
        return sum(entry.size_bytes for entry in self.files)

    def __post_init__(self) -> None:
        """Refuse two entries for one name: which of them counts would be the reader's choice."""
        for entries in (self.files, self.sources):
            names = [entry.name for entry in entries]
            if len(set(names)) < len(names):
                twice = next(name for name in names if names.count(name) > 1)
                raise ValueError(f"two entries for the file {twice!r}")


def parse_manifest(raw: bytes, where: Path) -> Manifest:
    """Parse a manifest that was read from `where`.

    Raises:
        UnreadableError: it is malformed; names `where`.
    """
    try:
        return msgspec.json.decode(raw, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableError(f"{where} is no valid manifest: {error}.", hint=AGAIN) from error


def read_manifest(folder: Path) -> Manifest:
    """Read a folder's manifest.

    Raises:
        UnreadableError, ArtifactError: it is missing, no regular file, too long or malformed.
    """
    with opened(folder) as files:
        try:
            raw = files.read(MANIFEST, MAX_MANIFEST_BYTES)
        except FileNotFoundError as error:
            raise UnreadableError(
                f"{files.where(MANIFEST)} does not exist: this is no imported model.",
                hint="`pratique model import` makes one.",
            ) from error
    return parse_manifest(raw, folder / MANIFEST)


def encode_manifest(manifest: Manifest) -> bytes:
    """Return a manifest's text, the same for the same manifest."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def hash_file(path: Path, read: Callable[[int], None] | None = None) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal; `read` hears the bytes of each step."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            if read is not None:
                read(len(chunk))
    return digest.hexdigest()


def write_manifest(
    folder: Path,
    *,
    name: str,
    origin: str,
    licence: str,
    sources: Iterable[FileEntry] = (),
) -> Manifest:
    """Describe the files that are in `folder` now, and write the manifest beside them."""
    files = tuple(
        FileEntry(name=path.name, size_bytes=path.stat().st_size, sha256=hash_file(path))
        for path in sorted(folder.iterdir())
        if path.name != MANIFEST
    )
    manifest = Manifest(name=name, origin=origin, licence=licence, files=files, sources=tuple(sources))
    raw = encode_manifest(manifest)
    # What is written must be readable: the constructor of a struct does not check its fields' bounds.
    parse_manifest(raw, folder / MANIFEST)
    (folder / MANIFEST).write_bytes(raw)
    return manifest
