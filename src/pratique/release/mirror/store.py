"""The mirror's store: files by their SHA-256, and what is known about them.

Invariants: a file is in the store only whole and with the digest that names it (written beside, hashed, renamed); what
is there is never replaced; what is given out was hashed since it last changed on the disk, through the same open file.
Safe to use from several threads, and by one process that writes while others read.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from pratique.release.decoding import MalformedError, decode_json
from pratique.release.files import replacing
from pratique.release.mirror.errors import HashDiffersError, MirrorStoreError
from pratique.release.values import Digest

__all__ = ["MirrorStore", "State", "StoredFile"]

_CHUNK: Final = 1024 * 1024
_SCHEMA: Final = 1
_Print = tuple[int, int, int, int]


class StoredFile(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about a file, beside its approval."""

    filename: str
    size_bytes: int
    uploaded_at: datetime | None = None
    """To where it came from."""
    requires_python: str = ""
    yanked: str | None = None
    """Upstream: why; empty without a reason; None: it is not."""
    metadata: Digest | None = None
    """Its core metadata, kept as a file of its own."""


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about all files, by their digests."""

    schema_version: int = _SCHEMA
    files: dict[str, StoredFile] = {}


class MirrorStore:
    """A folder of files by digest."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._checked: dict[Digest, _Print] = {}
        self._lock = threading.Lock()

    @property
    def state_file(self) -> Path:
        """Where the state is kept."""
        return self._folder / "state.json"

    def path_of(self, digest: Digest) -> Path:
        """Return where a file is, or would be."""
        digits = digest.removeprefix("sha256:")
        return self._folder / "sha256" / digits[:2] / digits

    def has(self, digest: Digest) -> bool:
        """Whether there is a file by this name; not whether it is still the same."""
        return self.path_of(digest).is_file()

    def add(self, digest: Digest, pieces: Iterable[bytes], *, max_bytes: int) -> int:
        """Write a file and return its size in bytes.

        Raises:
            HashDiffersError: it is another one, or too large; nothing is kept.
            MirrorStoreError: it cannot be written.
        """
        path = self.path_of(digest)
        with self._translated():
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as out:
                return _copy(digest, pieces, out, max_bytes=max_bytes)

    def open(self, digest: Digest) -> BinaryIO:
        """Open a file that is what its name says.

        Raises:
            HashDiffersError: it was changed.
            MirrorStoreError: it is not there.
        """
        with self._translated():
            opened = self.path_of(digest).open("rb")
        try:
            self._require(digest, opened)
        except BaseException:
            opened.close()
            raise
        return opened

    def recheck(self, digests: Iterable[Digest]) -> Iterator[tuple[Digest, str]]:
        """Hash files again, whatever was known of them; tells those that are changed or gone, and how."""
        for digest in digests:
            with self._lock:
                self._checked.pop(digest, None)
            try:
                self.open(digest).close()
            except (HashDiffersError, MirrorStoreError) as error:
                yield digest, error.message

    def read_state(self) -> State:
        """Return what is known; nothing where nothing was ever synced.

        Raises:
            MirrorStoreError: it cannot be read.
        """
        if not self.state_file.exists():
            return State()
        with self._translated():
            body = self.state_file.read_bytes()
        try:
            state = decode_json(body, State)
        except MalformedError as error:
            raise MirrorStoreError(f"{self.state_file} is damaged: {error}", hint="pratique mirror sync") from error
        if state.schema_version != _SCHEMA:
            raise MirrorStoreError(f"{self.state_file} is of version {state.schema_version}, expected {_SCHEMA}")
        return state

    def write_state(self, state: State) -> None:
        """Replace what is known, whole or not at all."""
        with self._translated():
            self._folder.mkdir(parents=True, exist_ok=True)
            with replacing(self.state_file) as file:
                file.write(msgspec.json.encode(state))

    def _require(self, digest: Digest, opened: BinaryIO) -> None:
        before = _print_of(opened)
        with self._lock:
            if self._checked.get(digest) == before:
                return
        content = hashlib.sha256()
        while piece := opened.read(_CHUNK):
            content.update(piece)
        opened.seek(0)
        if content.hexdigest() != digest.removeprefix("sha256:") or _print_of(opened) != before:
            raise HashDiffersError(f"expected {digest} in the store, got sha256:{content.hexdigest()}")
        with self._lock:
            self._checked[digest] = before

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise MirrorStoreError(f"the store {self._folder}: {error}") from error


def _copy(digest: Digest, pieces: Iterable[bytes], out: BinaryIO, *, max_bytes: int) -> int:
    size, content = 0, hashlib.sha256()
    for piece in pieces:
        size += len(piece)
        if size > max_bytes:
            raise HashDiffersError(f"expected {digest}, got more than {max_bytes} bytes")
        content.update(piece)
        out.write(piece)
    if content.hexdigest() != digest.removeprefix("sha256:"):
        raise HashDiffersError(f"expected {digest}, got sha256:{content.hexdigest()}")
    return size


def _print_of(opened: BinaryIO) -> _Print:
    """Return what changes whenever the content does: the change time cannot be set back by a program."""
    stat = os.fstat(opened.fileno())
    return stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
