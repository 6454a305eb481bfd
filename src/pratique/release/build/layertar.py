"""Layers, read as streams and within limits: nothing is unpacked, and nothing in a layer is believed.

A layer is a tar, plain or in gzip (OCI image specification, "Image Layer Filesystem Changeset"). Refused with the
reason: more bytes, entries or longer names than allowed (a bomb), paths that leave the root, headers of megabytes,
sparse files, and what is no tar.
"""

from __future__ import annotations

import gzip
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Final, Literal, Protocol, cast

from pratique.release.errors import EvidenceError

__all__ = ["ByteSource", "Entry", "LayerLimits", "open_plain", "plain_path", "read_entries"]


class ByteSource(Protocol):
    """What can be read once, from its beginning on."""

    def read(self, size: int = ..., /) -> bytes:
        """Return so many bytes, fewer at the end, all with -1."""
        ...


Kind = Literal["file", "directory", "symlink", "hardlink", "device", "fifo"]
WHITEOUT: Final = ".wh."
OPAQUE: Final = ".wh..wh..opq"

_GZIP_MAGIC: Final = b"\x1f\x8b"
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_CHUNK: Final = 1024 * 1024
_BROKEN: Final = (tarfile.TarError, EOFError, OSError, zlib.error, ValueError)
_MAX_HEADER_BYTES: Final = 1024 * 1024
_LONG_HEADERS: Final = frozenset(
    {tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK}
)
_KINDS: Final[dict[bytes, Kind]] = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.CONTTYPE: "file",
    tarfile.DIRTYPE: "directory",
    tarfile.SYMTYPE: "symlink",
    tarfile.LNKTYPE: "hardlink",
    tarfile.CHRTYPE: "device",
    tarfile.BLKTYPE: "device",
    tarfile.FIFOTYPE: "fifo",
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
    try:
        with tarfile.open(
            fileobj=cast("IO[bytes]", plain), mode="r|", tarinfo=_BoundedInfo, bufsize=_CHUNK, errorlevel=2
        ) as tar:
            while (info := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # it keeps all it has seen, which of an image is much
                limits.take_entry()
                yield _entry(tar, info, limits)
        while plain.read(_CHUNK):  # what stands behind the end counts too, and is part of the layer's digest
            pass
    except _BROKEN as error:
        raise EvidenceError(f"a layer cannot be read: {error}") from error


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
        content = self._stream.read(size)
        self._limits.take_bytes(len(content))
        return content


class _Content:
    """A file's bytes; what breaks while they are read is told like what breaks between files."""

    def __init__(self, stream: ByteSource) -> None:
        self._stream = stream

    def read(self, size: int = -1, /) -> bytes:
        try:
            return self._stream.read(size)
        except _BROKEN as error:
            raise EvidenceError(f"a layer cannot be read: {error}") from error


class _BoundedInfo(tarfile.TarInfo):
    """Refuses headers that tarfile would read whole, before it does."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _BoundedInfo:
        try:
            info = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            # tarfile takes a broken header for the end, and would hide what comes behind it.
            if len(buf) and any(buf):
                raise EvidenceError(f"a layer has a header that is none: {error}") from error
            raise
        if info.size < 0:
            raise EvidenceError("a layer has an entry of negative size")
        if info.type in _LONG_HEADERS and info.size > _MAX_HEADER_BYTES:
            raise EvidenceError(f"a layer has a header of {info.size} bytes; at most {_MAX_HEADER_BYTES} are read")
        if info.type == tarfile.GNUTYPE_SPARSE:
            raise EvidenceError("a layer has a sparse file, whose size says nothing; it is not read")
        return info


def _entry(tar: tarfile.TarFile, info: tarfile.TarInfo, limits: LayerLimits) -> Entry:
    if info.issparse():
        raise EvidenceError("a layer has a sparse file, whose size says nothing; it is not read")
    kind = _KINDS.get(info.type)
    if kind is None:
        raise EvidenceError(f"a layer has an entry of an unknown type: {info.type!r}")
    is_file = kind == "file"
    attributes = tuple(sorted((name, value) for name, value in info.pax_headers.items() if name.startswith("SCHILY.")))
    numbers = (("device", f"{info.devmajor}:{info.devminor}"),) if kind == "device" else ()
    return Entry(
        path=plain_path(info.name, max_path=limits.max_path),
        kind=kind,
        mode=info.mode & 0o7777,
        owner=(info.uid, info.gid),
        size=info.size if is_file else 0,
        mtime=info.mtime,
        link=plain_path(info.linkname, max_path=limits.max_path) if kind == "hardlink" else info.linkname,
        extra=attributes + numbers,
        content=_Content(cast("ByteSource", tar.extractfile(info))) if is_file else None,
    )
