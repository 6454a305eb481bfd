"""Layers, read as streams and within limits: nothing is unpacked, and nothing in a layer is believed.

A layer is a tar, plain or in gzip (OCI image specification, "Image Layer Filesystem Changeset"). Refused with the
reason: more bytes, entries or longer names than allowed (a bomb), paths that leave the root, headers of megabytes,
sparse files, what is no tar, and whatever two readers may read differently (`tarheaders`).
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Final, Literal, cast

from pratique.release.build.tarheaders import ByteSource, Header, TarReader
from pratique.release.errors import EvidenceError

__all__ = ["ByteSource", "Entry", "LayerLimits", "open_plain", "plain_path", "read_entries"]


Kind = Literal["file", "directory", "symlink", "hardlink", "device", "fifo"]
WHITEOUT: Final = ".wh."
OPAQUE: Final = ".wh..wh..opq"

_GZIP_MAGIC: Final = b"\x1f\x8b"
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_CHUNK: Final = 1024 * 1024
_BROKEN: Final = (EOFError, OSError, zlib.error)
_KINDS: Final[dict[str, Kind]] = {
    "0": "file",
    "7": "file",
    "5": "directory",
    "2": "symlink",
    "1": "hardlink",
    "3": "device",
    "4": "device",
    "6": "fifo",
}


@dataclass(slots=True)
class LayerLimits:
    """What may be read of one image, in all its layers; what is left of it goes down while one reads."""

    num_bytes: int = 32 * 1024**3
    """Uncompressed."""
    num_entries: int = 2_000_000
    max_path: int = 4096

    def take_bytes(self, count: int) -> None:
        """Count bytes that were read.

        Raises:
            EvidenceError: that is more than is allowed.
        """
        self.num_bytes -= count
        if self.num_bytes < 0:
            raise EvidenceError("the layers hold more bytes, uncompressed, than are read of one image")

    def take_entry(self) -> None:
        """Count an entry.

        Raises:
            EvidenceError: that is one more than is allowed.
        """
        self.num_entries -= 1
        if self.num_entries < 0:
            raise EvidenceError("the layers hold more entries than are read of one image")


@dataclass(frozen=True, slots=True)
class Entry:
    """What one entry of a layer says. Its content can be read until the next entry is asked for."""

    path: str
    """Without a slash at either end; the root itself is the empty path."""
    kind: Kind
    mode: int
    """Permissions with set-uid, set-gid and sticky bits."""
    owner: tuple[int, int]
    size: int
    mtime: float
    link: str
    """A symbolic link's text; a hard link's target as a plain path."""
    extra: tuple[tuple[str, str], ...] = ()
    """Extended attributes, and the numbers of a device."""
    content: ByteSource | None = field(default=None, compare=False)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def parent(self) -> str:
        """The path of the folder that it is in."""
        return self.path.rpartition("/")[0]

    @property
    def removes(self) -> str | None:
        """The path below that this entry hides (a whiteout); of an opaque folder, the folder itself; else None."""
        if self.name == OPAQUE or not self.name.startswith(WHITEOUT):
            return None
        hidden = self.name.removeprefix(WHITEOUT)
        return f"{self.parent}/{hidden}" if self.parent else hidden

    @property
    def is_opaque(self) -> bool:
        """Whether it hides all that lower layers have in its folder."""
        return self.name == OPAQUE


def read_entries(stream: ByteSource, limits: LayerLimits) -> Iterator[Entry]:
    """Go through a layer.

    Raises:
        EvidenceError: it breaks a limit, or is no layer.
    """
    plain = open_plain(stream, limits)
    tar = TarReader(plain)
    for header in tar:
        limits.take_entry()
        yield _entry(header, tar, limits)
    while plain.read(_CHUNK):  # what stands behind the end counts too, and is part of the layer's digest
        pass


def plain_path(path: str, *, max_path: int = 4096) -> str:
    """Return a path without its ornaments: `./usr//bin/` is `usr/bin`.

    Raises:
        EvidenceError: it is too long, leaves the root, or holds a zero byte.
    """
    parts = [part for part in path.split("/") if part not in {"", "."}]
    if len(path) > max_path or ".." in parts or "\0" in path:
        raise EvidenceError(f"a layer has an entry whose path leaves the root or is too long: {path[:100]!r}")
    return "/".join(parts)


def open_plain(stream: ByteSource, limits: LayerLimits) -> ByteSource:
    """Return a layer's bytes uncompressed, each counted.

    Raises:
        EvidenceError: it is compressed in a way that is not read here.
    """
    head = _Head(stream)
    if head.magic.startswith(_ZSTD_MAGIC):
        raise EvidenceError("a layer is compressed with zstd, and is not read here; push the image with gzip layers")
    if head.magic.startswith(_GZIP_MAGIC):
        return _Counted(gzip.GzipFile(fileobj=cast("IO[bytes]", head), mode="rb"), limits)
    return _Counted(head, limits)


class _Head:
    """A stream whose first bytes were looked at."""

    def __init__(self, stream: ByteSource) -> None:
        self.magic = stream.read(4)
        self._kept = self.magic
        self._stream = stream

    def read(self, size: int = -1, /) -> bytes:
        kept, self._kept = self._kept[:size] if size >= 0 else self._kept, self._kept[size:] if size >= 0 else b""
        if size < 0:
            return kept + self._stream.read()
        return kept + self._stream.read(size - len(kept)) if len(kept) < size else kept


class _Counted:
    def __init__(self, stream: ByteSource, limits: LayerLimits) -> None:
        self._stream = stream
        self._limits = limits

    def read(self, size: int = -1, /) -> bytes:
        try:
            content = self._stream.read(size)
        except _BROKEN as error:
            raise EvidenceError(f"a layer cannot be read: {error}") from error
        self._limits.take_bytes(len(content))
        return content


def _entry(header: Header, tar: TarReader, limits: LayerLimits) -> Entry:
    kind = _KINDS.get(header.type)
    if kind is None:
        raise EvidenceError(f"a layer has an entry of an unknown type: {header.type!r}")
    path = plain_path(header.name, max_path=limits.max_path)
    if not path and kind != "directory":
        raise EvidenceError(f"a layer has a {kind} in the place of its root")
    attributes = tuple(sorted((name, value) for name, value in header.records.items() if name.startswith("SCHILY.")))
    numbers = (("device", f"{header.device[0]}:{header.device[1]}"),) if kind == "device" else ()
    entry = Entry(
        path=path,
        kind=kind,
        mode=header.mode & 0o7777,
        owner=header.owner,
        size=header.size,
        mtime=header.mtime,
        link=plain_path(header.link, max_path=limits.max_path) if kind == "hardlink" else header.link,
        extra=attributes + numbers,
        content=tar if kind == "file" else None,
    )
    if entry.removes is not None and entry.name.removeprefix(WHITEOUT) in {"", ".", ".."}:
        raise EvidenceError(f"a layer has a whiteout of a folder by '{entry.name}', which engines read differently")
    return entry
