"""Files of a folder that nobody vouches for: opened by name inside it, never through a link, never waiting for a pipe.

The folder is held open, so that all its files are those of one folder even where its path is exchanged meanwhile.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pratique.inference.errors import ArtifactError

__all__ = ["Folder", "Identity", "UnreadableError", "opened", "printable", "unreadable"]

_MAX_ENTRIES: Final = 10_000
_KINDS: Final = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class UnreadableError(ArtifactError):
    """A model's files, or what was recorded of them, cannot be read: whether they are as recorded is not known."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Which file it is, and in which state: writing to it or renaming it changes one of these."""

    device: int
    inode: int
    size_bytes: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> Identity:
        """Take it from what `stat` says."""
        return cls(
            device=found.st_dev,
            inode=found.st_ino,
            size_bytes=found.st_size,
            modified_ns=found.st_mtime_ns,
            changed_ns=found.st_ctime_ns,
        )


@dataclass(frozen=True, kw_only=True)
class Folder:
    """An open folder. Errors name files below `path`, which may be where they came from."""

    path: Path
    descriptor: int

    def where(self, name: str) -> str:
        """Return a file's path for people: a name cannot forge lines or terminal commands in it."""
        return printable(str(self.path / name))

    def names(self) -> set[str]:
        """Return the names in it.

        Raises:
            ArtifactError: there are more than a model has.
        """
        found: set[str] = set()
        with os.scandir(self.descriptor) as entries:
            for entry in entries:
                found.add(entry.name)
                if len(found) > _MAX_ENTRIES:
                    raise ArtifactError(f"{self.path} holds more than {_MAX_ENTRIES} files, which no model has.")
        return found

    def is_folder(self, name: str) -> bool:
        """Whether a name is that of a folder."""
        return stat.S_ISDIR(self._stat(name).st_mode)

    def identity(self, name: str) -> Identity:
        """Return a file's identity.

        Raises:
            ArtifactError: it is no regular file, or cannot be looked at.
            FileNotFoundError: there is none.
        """
        found = self._stat(name)
        if not stat.S_ISREG(found.st_mode):
            kind = next((text for matches, text in _KINDS if matches(found.st_mode)), "something else")
            raise ArtifactError(
                f"{self.where(name)} is not a regular file but {kind}.",
                hint="`pratique model import` makes a folder of plain files of it.",
            )
        return Identity.of(found)

    @contextmanager
    def open(self, name: str) -> Iterator[int]:
        """Yield a descriptor of a regular file, for reading.

        Raises:
            ArtifactError: it is no regular file, or cannot be opened.
            FileNotFoundError: there is none.
        """
        self.identity(name)  # before it is opened: opening a device can do something
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(name, flags, dir_fd=self.descriptor)
        except FileNotFoundError:
            raise
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise ArtifactError(f"{self.where(name)} is not a regular file but a symbolic link.") from None
            raise unreadable(self.where(name), error) from error
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ArtifactError(f"{self.where(name)} is not a regular file.")
            yield descriptor
        finally:
            os.close(descriptor)

    def read(self, name: str, max_bytes: int) -> bytes:
        """Return a small file's content.

        Raises:
            ArtifactError: it is no regular file, too long, or cannot be read.
            FileNotFoundError: there is none.
        """
        with self.open(name) as descriptor:
            size = os.fstat(descriptor).st_size
            if size > max_bytes:
                raise ArtifactError(f"{self.where(name)} has {size} bytes, expected at most {max_bytes}.")
            return self.read_at(name, descriptor, offset=0, num_bytes=size)

    def read_at(self, name: str, descriptor: int, *, offset: int, num_bytes: int) -> bytes:
        """Return `num_bytes` of an open file.

        Raises:
            ArtifactError: it ends before, or cannot be read.
        """
        parts: list[bytes] = []
        left = num_bytes
        try:
            while left and (part := os.pread(descriptor, left, offset)):
                parts.append(part)
                left -= len(part)
                offset += len(part)
        except OSError as error:
            raise unreadable(self.where(name), error) from error
        if left:
            raise ArtifactError(f"{self.where(name)} ends {left} bytes before it should.")
        return b"".join(parts)

    def _stat(self, name: str) -> os.stat_result:
        try:
            return os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise unreadable(self.where(name), error) from error


@contextmanager
def opened(path: Path, *, shown: Path | None = None) -> Iterator[Folder]:
    """Hold a folder open; errors name files below `shown` where it is given.

    Raises:
        ArtifactError: it is no folder, or cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise unreadable(str(path), error) from error
    try:
        yield Folder(path=shown or path, descriptor=descriptor)
    finally:
        os.close(descriptor)


def unreadable(where: str, error: OSError) -> UnreadableError:
    """Return the error for what the system would not let us read; raise it from `error`."""
    return UnreadableError(
        f"{where} cannot be read: {error.strerror or error}.", hint="Check the path, its permissions and the disk."
    )


def printable(text: str) -> str:
    """Return `text` with escapes for what is not printable: no lines or terminal commands can be forged with it."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
