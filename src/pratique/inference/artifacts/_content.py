"""The checksums of a model's files, read in parallel with whatever loads them, and whether they stayed the same files.

A file is read once from front to back (SHA-256 has no other way); several are read at once. The reads run ahead of the
hashing by `posix_fadvise`, so that a load beside it finds the pages in memory instead of reading them twice.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pratique.inference.artifacts._files import Folder, Identity, opened, unreadable
from pratique.inference.artifacts._record import AGAIN, FileEntry, Manifest
from pratique.inference.errors import ArtifactError

__all__ = ["Seal", "VerificationCancelledError", "verify_content"]

_CHUNK_BYTES: Final = 1 << 20
"""Small enough to be cancelled within 0.1 s on a disk that reads 10 MB a second."""
_AHEAD_BYTES: Final = 16 << 20


class VerificationCancelledError(Exception):
    """The verification was told to stop; nothing is known about the files."""


@dataclass(frozen=True, kw_only=True)
class Seal:
    """Which files a model's folder had at one moment.

    Taken before the load begins and checked after both the load and the verification have ended, it says that what was
    loaded is what was hashed: no file was written to, exchanged or renamed in between.
    """

    folder: Path
    identities: Mapping[str, Identity]

    @classmethod
    def take(cls, folder: Path, manifest: Manifest) -> Seal:
        """Note which files the manifest's names lead to now.

        Raises:
            ArtifactError: one is missing, or no regular file.
        """
        with opened(folder) as files:
            return cls(folder=folder, identities={entry.name: _identity(files, entry) for entry in manifest.files})

    def check(self) -> None:
        """Raise where a name leads to another file now, or the file has been written to.

        Raises:
            ArtifactError: naming the first such file.
        """
        with opened(self.folder) as files:
            for name, identity in self.identities.items():
                try:
                    same = files.identity(name) == identity
                except FileNotFoundError:
                    same = False
                if not same:
                    raise ArtifactError(
                        f"{files.where(name)} changed while it was being verified.",
                        hint="Something writes to the model's folder: find it, then start again.",
                    )


def verify_content(
    folder: Path,
    manifest: Manifest,
    progress: Callable[[float], None] | None = None,
    *,
    cancelled: threading.Event | None = None,
    threads: int = 2,
) -> None:
    """Compare every file's SHA-256 with the manifest, several files at once, in bounded memory.

    Args:
        folder: the model's; `check_layout` has passed it.
        manifest: what `check_layout` returned.
        progress: hears the share of the bytes that is checked, 0…1, never less than before; called by other threads.
        cancelled: ends the verification within a tenth of a second once it is set.
        threads: how many files are read at once.

    Raises:
        ArtifactError: naming the first file found that differs, or cannot be read, or changed meanwhile.
        VerificationCancelledError: `cancelled` was set before everything was checked.
    """
    stop = cancelled or threading.Event()
    seal = Seal.take(folder, manifest)
    tally = _Tally(manifest.size_bytes, progress)
    failed = threading.Event()
    largest_first = sorted(manifest.files, key=lambda entry: -entry.size_bytes)
    with opened(folder) as files, ThreadPoolExecutor(max(1, threads), thread_name_prefix="verify") as pool:
        try:
            jobs = [
                pool.submit(_verify_file, files, entry, tally.add, lambda: stop.is_set() or failed.is_set())
                for entry in largest_first
            ]
            done, _ = wait(jobs, return_when=FIRST_EXCEPTION)
        finally:
            failed.set()  # whatever ended the wait, an interrupt too: the others need not read to their ends
    errors = [error for job in done if (error := job.exception()) is not None]
    # A file that differs says more than one whose reading was given up for it.
    for error in sorted(errors, key=lambda error: isinstance(error, VerificationCancelledError)):
        raise error
    seal.check()
    tally.finish()


class _Tally:
    """The bytes that all threads have read, told one step at a time."""

    def __init__(self, total_bytes: int, progress: Callable[[float], None] | None) -> None:
        self._total = total_bytes or 1
        self._done = 0
        self._progress = progress
        self._lock = threading.Lock()

    def add(self, num_bytes: int) -> None:
        with self._lock:
            self._done += num_bytes
            if self._progress is not None:
                self._progress(min(self._done / self._total, 1.0))

    def finish(self) -> None:
        if self._progress is not None and self._done < self._total:
            self._progress(1.0)


def _verify_file(files: Folder, entry: FileEntry, read: Callable[[int], None], must_stop: Callable[[], bool]) -> None:
    where = files.where(entry.name)
    try:
        with files.open(entry.name) as descriptor:
            digest = _hash(descriptor, read, must_stop)
    except FileNotFoundError as error:
        raise ArtifactError(f"{where} is missing.", hint=AGAIN) from error
    except OSError as error:
        raise unreadable(where, error) from error
    if digest != entry.sha256:
        raise ArtifactError(f"{where} has SHA-256 {digest}, expected {entry.sha256}.", hint=AGAIN)


def _hash(descriptor: int, read: Callable[[int], None], must_stop: Callable[[], bool]) -> str:
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(_CHUNK_BYTES))
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
    position = advised = 0
    while not must_stop():
        if position >= advised - _AHEAD_BYTES // 2:
            os.posix_fadvise(descriptor, advised, _AHEAD_BYTES, os.POSIX_FADV_WILLNEED)
            advised += _AHEAD_BYTES
        num_bytes = os.readv(descriptor, [buffer])
        if not num_bytes:
            return digest.hexdigest()
        digest.update(buffer[:num_bytes])
        position += num_bytes
        read(num_bytes)
    raise VerificationCancelledError


def _identity(files: Folder, entry: FileEntry) -> Identity:
    try:
        return files.identity(entry.name)
    except FileNotFoundError as error:
        raise ArtifactError(f"{files.where(entry.name)} is missing.", hint=AGAIN) from error
