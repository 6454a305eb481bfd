"""Models in a registry: every file is pushed as a blob, and pulled into a folder that appears whole or not at all.

What is pulled is named by digest. Names were checked before anything is written; each file is bounded by the size that
the manifest states, and its bytes by their digest. The folder gets its name last.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, Final

from pratique.core.errors import EnvironmentFaultError
from pratique.release.errors import ConflictError, EvidenceError, VerificationError
from pratique.release.models.artifact import ModelArtifact, ModelFile, read_artifact, write_artifact
from pratique.release.registry.interface import IMAGE_MANIFEST, Blob, Registry
from pratique.release.values import Digest, Subject

__all__ = ["ModelFolderError", "pull_model", "push_model"]

_PIECE_BYTES: Final = 1 << 20
_THREADS: Final = 4
_SPARE_BYTES: Final = 64 << 20


class ModelFolderError(EnvironmentFaultError):
    """The place where a model is to be written cannot be used."""

    code = "model_folder"


def push_model(registry: Registry, repository: str, artifact: ModelArtifact, *, folder: Path, tag: str = "") -> Digest:
    """Write a model's files and its manifest; return the artifact's digest.

    Args:
        registry: where it goes.
        repository: the repository there, `host/path`.
        artifact: what the folder was found to hold.
        folder: the files.
        tag: its tag; empty: it lies under its digest only.

    Raises:
        EvidenceError: a file is not what the artifact says of it: it changed meanwhile.
        ConflictError: the tag is immutable and names something else.
    """
    written = write_artifact(artifact)

    def push(file: ModelFile) -> None:
        path = folder / file.name
        if path.is_symlink():
            raise EvidenceError(f"{path} is a link, expected a file")
        try:
            blob = registry.put_blob(repository, path)
        except OSError as error:
            raise ModelFolderError(f"{path} cannot be read: {error.strerror}") from error
        if blob != Blob(file.digest, file.size_bytes):
            raise EvidenceError(
                f"{path} changed while it was pushed: expected {file.digest}, got {blob.digest}",
                hint="Push it once nothing writes to the folder.",
            )

    with ThreadPoolExecutor(_THREADS, thread_name_prefix="push") as pool:
        list(pool.map(push, artifact.files))
    registry.put_blob(repository, written.config)
    return registry.put_manifest(repository, tag or written.digest, written.manifest, IMAGE_MANIFEST)


def pull_model(
    registry: Registry, subject: Subject, target: Path, *, check: Callable[[Path], object] = lambda _folder: None
) -> ModelArtifact:
    """Read a model into a new folder.

    Args:
        registry: where it lies.
        subject: the artifact, by its digest.
        target: the folder that is made. Nothing may be there.
        check: looks at the files before the folder has its name; raises where they are not what they should be.

    Raises:
        ConflictError: something is at `target`.
        ArtifactFormError: the manifest is no model's, or names what no model has; nothing was written.
        VerificationError: the registry sent other bytes than the digests name.
        ModelFolderError: there is no room, or the place cannot be written.
    """
    artifact = read_artifact(registry.manifest(subject.repository, subject.digest).content)
    _require_free(target, artifact)
    try:
        with tempfile.TemporaryDirectory(prefix=".pull-", dir=target.parent) as work:
            folder = Path(work) / "out"
            folder.mkdir()
            with ThreadPoolExecutor(_THREADS, thread_name_prefix="pull") as pool:
                list(pool.map(lambda file: _download(registry, subject.repository, file, folder), artifact.files))
            check(folder)
            _flush(folder)
            folder.rename(target)
    except OSError as error:
        raise ModelFolderError(f"{target} cannot be written: {error.strerror or error}") from error
    return artifact


def _require_free(target: Path, artifact: ModelArtifact) -> None:
    if target.exists() or target.is_symlink():
        raise ConflictError(f"{target} is there already", hint="Name another folder, or move this one away.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(target.parent).free
    except OSError as error:
        raise ModelFolderError(f"{target.parent} cannot be used: {error.strerror}") from error
    if free < artifact.size_bytes + _SPARE_BYTES:
        raise ModelFolderError(f"{target.parent} has {free} bytes free, the model has {artifact.size_bytes}")


def _download(registry: Registry, repository: str, file: ModelFile, folder: Path) -> None:
    with registry.open_blob(repository, file.digest) as stream, (folder / file.name).open("xb") as copy:
        size = _copy(stream, copy, file.size_bytes)
    if size != file.size_bytes:
        more = "more" if size > file.size_bytes else size
        raise VerificationError(f"{file.name!a} has {more} bytes, its manifest states {file.size_bytes}")


def _copy(stream: BinaryIO, copy: BinaryIO, max_bytes: int) -> int:
    """Copy to the end, or until there is more than there may be; return the number of bytes read."""
    size = 0
    while size <= max_bytes and (piece := stream.read(_PIECE_BYTES)):
        copy.write(piece)
        size += len(piece)
    return size


def _flush(folder: Path) -> None:
    for path in (*folder.iterdir(), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
