"""Bytes that are checked on their way: nothing of a blob's end is given out before its digest was found right."""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from pratique.release.errors import VerificationError
from pratique.release.registry.interface import Blob
from pratique.release.values import Digest, digest_of

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["CheckedReader", "FileSlice", "blob_of", "check_digest"]

_PIECE_BYTES: Final = 1024 * 1024


def check_digest(content: bytes, expected: Digest, where: str) -> None:
    """Raise where bytes are not what a digest names.

    Raises:
        VerificationError: they are others.
    """
    found = digest_of(content)
    if found != expected:
        raise VerificationError(f"{where}: expected bytes of digest {expected}, got {found}")


def blob_of(content: bytes | Path) -> Blob:
    """Return the digest and the size of some bytes or of a file."""
    if isinstance(content, bytes):
        return Blob(digest_of(content), len(content))
    with content.open("rb") as file:
        return Blob(Digest("sha256:" + hashlib.file_digest(file, "sha256").hexdigest()), file.tell())


class CheckedReader(io.RawIOBase):
    """A stream of pieces; the last one is held back until the digest of all is right."""

    def __init__(self, pieces: Iterator[bytes], expected: Digest, where: str) -> None:
        super().__init__()
        self._pieces = pieces
        self._expected = expected
        self._where = where
        self._hasher = hashlib.sha256()
        self._ready = memoryview(b"")
        self._held = b""
        self._is_ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill a buffer; 0 at the end.

        Raises:
            VerificationError: the bytes were not what the digest names.
        """
        while not self._ready and not self._is_ended:
            self._advance()
        target = memoryview(buffer).cast("B")
        size = min(len(target), len(self._ready))
        target[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size

    def _advance(self) -> None:
        piece = next(self._pieces, b"")
        self._hasher.update(piece)
        if not piece:
            self._is_ended = True
            found = f"sha256:{self._hasher.hexdigest()}"
            if found != self._expected:
                self._held = b""
                raise VerificationError(f"{self._where}: expected bytes of digest {self._expected}, got {found}")
        self._ready, self._held = memoryview(self._held), piece


class FileSlice(io.RawIOBase):
    """A part of a file as a request's body; ends in an error where sending takes too long."""

    def __init__(self, file: IO[bytes], start: int, size: int, deadline: float) -> None:
        super().__init__()
        file.seek(start)
        self._file = file
        self._left = size
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill a buffer; 0 at the end.

        Raises:
            TimeoutError: the deadline has passed.
        """
        if time.monotonic() > self._deadline:
            raise TimeoutError("the upload is not done in time")
        piece = self._file.read(min(self._left, len(memoryview(buffer).cast("B"))))
        memoryview(buffer).cast("B")[: len(piece)] = piece
        self._left -= len(piece)
        return len(piece)
