"""Builds an index beside the one in use, then switches by renaming the manifest.

The steps, each labelled below:
1. Take the lock: one builder at a time.
2. Write a new generation in a folder of its own, and bring it to the disk.
3. Replace the manifest: from now on readers open the new generation.
4. Remove older generations, but for the one that was replaced: a reader may just be opening it. Those that have it
   open keep it, removed or not.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import msgspec

from pratique.core.errors import EnvironmentFaultError
from pratique.orchestrator.retrieval._extras import import_extra
from pratique.orchestrator.retrieval.embedded._engine import BODY, TEXT, TITLE, make_schema, register_words
from pratique.orchestrator.retrieval.embedded.manifest import (
    FORMAT,
    IndexDamagedError,
    IndexFile,
    IndexMissingError,
    IndexVersionError,
    Manifest,
    digest_of,
    load_manifest,
    made_by,
    verify_version,
)
from pratique.orchestrator.retrieval.passages import Cut, split_document
from pratique.orchestrator.retrieval.words import Words

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pratique.orchestrator.retrieval.documents import Source
    from pratique.orchestrator.retrieval.passages import Piece

__all__ = ["IndexBusyError", "build_index", "ensure_index", "is_current"]

_WRITER_BYTES: Final = 64_000_000
_LOCK_SECONDS: Final = 60.0
_LOCK_POLL_SECONDS: Final = 0.05
_NOT_KEPT: Final = frozenset({".tantivy-meta.lock", ".tantivy-writer.lock"})


class IndexBusyError(EnvironmentFaultError):
    """Somebody else builds an index in this folder, and does not come to an end."""

    code = "index_busy"


def build_index(source: Source, folder: Path, cut: Cut | None = None, *, words: Words | None = None) -> Manifest:
    """Build an index of the documents and make it the folder's; return its manifest.

    Raises:
        IndexBusyError, ExtraMissingError: see there.
        EnvironmentFaultError: the folder cannot be written.
    """
    with _locked(folder):  # 1
        return _build(source, folder, cut or Cut(), words or Words())


def ensure_index(source: Source, folder: Path, cut: Cut) -> tuple[Manifest, bool]:
    """Build the index unless the folder's is of the same source, cut and versions; return it, and whether it was built.

    Of several who come at the same time one builds, the others wait.
    """
    with _locked(folder):
        try:
            manifest = load_manifest(folder)
        except (IndexMissingError, IndexDamagedError):
            manifest = None
        if manifest is not None and is_current(manifest, source, cut):
            return manifest, False
        return _build(source, folder, cut, Words()), True


def is_current(manifest: Manifest, source: Source, cut: Cut) -> bool:
    """Whether building it again would make the same index."""
    return (manifest.format, manifest.made_by, manifest.source_sha256) == (FORMAT, made_by(), source.digest) and (
        manifest.passage_characters,
        manifest.overlap_characters,
    ) == (cut.size, cut.overlap)


def _build(source: Source, folder: Path, cut: Cut, words: Words) -> Manifest:
    generation = f"g-{source.digest[:12]}-{secrets.token_hex(4)}"
    place = folder / generation
    pieces = [piece for document in source.documents for piece in split_document(document, cut)]
    try:
        files = _write_generation(pieces, place, words)  # 2
        manifest = Manifest(
            format=FORMAT,
            made_by=made_by(),
            generation=generation,
            num_documents=len(source.documents),
            num_passages=len(pieces),
            passage_characters=cut.size,
            overlap_characters=cut.overlap,
            source_sha256=source.digest,
            files=files,
        )
        replaced = _generation_in_use(folder)
        _switch(folder, manifest)  # 3
    except OSError as error:
        shutil.rmtree(place, ignore_errors=True)
        raise EnvironmentFaultError(f"The index cannot be written in {folder}: {error}.") from error
    _remove_others(folder, {generation, replaced})  # 4
    return manifest


def _write_generation(pieces: list[Piece], place: Path, words: Words) -> dict[str, IndexFile]:
    engine = import_extra("tantivy")
    place.mkdir()
    index = engine.Index(make_schema(), path=str(place))
    register_words(index)
    try:
        writer = index.writer(_WRITER_BYTES, 1)
        for piece in pieces:
            document = engine.Document()
            document.add_text(TITLE, " ".join(words.of(piece.title)))
            document.add_text(TEXT, " ".join(words.of(piece.searched)))
            document.add_bytes(BODY, _body_of(piece))
            writer.add_document(document)
        writer.commit()
        writer.wait_merging_threads()
    except ValueError as error:  # tantivy's word for whatever went wrong, full disks included
        raise OSError(str(error)) from error
    files = {}
    for path in sorted(place.iterdir()):
        if path.name in _NOT_KEPT:
            path.unlink()
            continue
        _flush(path)
        files[path.name] = digest_of(path)
    _flush(place)
    return files


def _body_of(piece: Piece) -> bytes:
    return msgspec.json.encode(
        {"source_id": piece.source_id, "title": piece.title, "url": piece.url, "text": piece.given}
    )


def _switch(folder: Path, manifest: Manifest) -> None:
    beside = folder / f".manifest-{secrets.token_hex(4)}"
    beside.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n")
    _flush(beside)
    beside.replace(folder / "manifest.json")
    _flush(folder)


def _generation_in_use(folder: Path) -> str:
    try:
        manifest = load_manifest(folder)
        verify_version(manifest, folder)
    except (IndexMissingError, IndexVersionError, IndexDamagedError):
        return ""
    return manifest.generation


def _remove_others(folder: Path, kept: set[str]) -> None:
    for path in folder.glob("g-*"):
        if path.name not in kept:
            shutil.rmtree(path, ignore_errors=True)
    for path in folder.glob(".manifest-*"):
        path.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise EnvironmentFaultError(f"The index cannot be written in {folder}: {error}.") from error
    try:
        _await_lock(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


def _await_lock(descriptor: int, folder: Path) -> None:
    until = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= until:
                raise IndexBusyError(
                    f"Another process builds an index in {folder}, for more than {_LOCK_SECONDS:.0f} seconds.",
                    hint="Wait for it, or end it.",
                ) from error
            time.sleep(_LOCK_POLL_SECONDS)
        else:
            return
