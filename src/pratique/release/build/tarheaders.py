"""The headers of a tar, read as the engines that unpack layers read them, or not at all.

Engines are written in Go and use its `archive/tar`; Python's `tarfile` reads some headers differently: numbers that
begin with a zero byte, a prefix in old forms, global headers, several headers for one entry, records behind a header's
end. By any of them somebody could show one file to who looks at a layer and another to who runs it. So everything
that two readers may take for two things is refused here, with the reason, and what is left all read alike.

Sources: POSIX.1-2017, `pax`, "ustar Interchange Format" and "pax Header Block"; GNU tar, "Basic Tar Format".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Protocol

from pratique.release.errors import EvidenceError

__all__ = ["ByteSource", "Header", "TarReader"]

_BLOCK: Final = 512
_CHUNK: Final = 1024 * 1024
_MAX_HEADER_BYTES: Final = 1024 * 1024
_POSIX: Final = b"ustar\0"
_GNU: Final = b"ustar  \0"
_STAR: Final = b"tar\0"
_OCTAL: Final = re.compile(rb" *([0-7]*)[ \0]*")
_DECIMAL: Final = re.compile(r"[0-9]{1,19}", re.ASCII)
_SECONDS: Final = re.compile(r"-?[0-9]{1,19}(\.[0-9]*)?", re.ASCII)
_RECORD: Final = re.compile(rb"([1-9][0-9]{0,6}) ")
_WITH_CONTENT: Final = frozenset({"0", "\0", "7"})
_LONG: Final = frozenset({"L", "K", "x", "g"})


class ByteSource(Protocol):
    """What can be read once, from its beginning on."""

    def read(self, size: int = ..., /) -> bytes:
        """Return so many bytes, fewer at the end, all with -1."""
        ...


@dataclass(frozen=True, slots=True)
class Header:
    """What stands before an entry, all of its headers together."""

    name: str
    type: str
    """One character, as POSIX and GNU have them; "0" and "5" for files and folders of the oldest form."""
    mode: int
    owner: tuple[int, int]
    size: int
    """Bytes of content behind it."""
    mtime: float
    link: str
    device: tuple[int, int]
    records: dict[str, str] = field(default_factory=dict)
    """Of the extended header."""


class TarReader:
    """Goes through a tar, once. `read` gives the content of the entry that was returned last."""

    def __init__(self, stream: ByteSource) -> None:
        self._stream = stream
        self._is_begun = False
        self._left = 0
        """Content of the present entry that was not read yet."""

    def read(self, size: int = -1, /) -> bytes:
        """Return so many bytes of the present entry's content, all that are left with -1.

        Raises:
            EvidenceError: the tar ends before.
        """
        wanted = self._left if size < 0 else min(size, self._left)
        content = self._exactly(wanted) if wanted else b""
        self._left -= wanted
        return content

    def __iter__(self) -> Iterator[Header]:
        """Go through the entries, to the end of the tar.

        Raises:
            EvidenceError: it is none, or two readers may read it differently.
        """
        block = self._block()
        if block is None and not self._is_begun:
            raise EvidenceError("a layer cannot be read: it is empty")
        while block is not None:
            header = self._entry(block)
            self._left = header.size
            yield header
            while self.read(_CHUNK):
                pass
            self._exactly(-header.size % _BLOCK)
            block = self._block()

    def _block(self) -> bytes | None:
        """Return the next header's bytes; None at the end: two blocks of zeros, or nothing more."""
        block = self._at_most(_BLOCK)
        if not block:
            return None
        self._is_begun = True
        if len(block) < _BLOCK:
            raise EvidenceError("a layer cannot be read: it ends within a header")
        if any(block):
            return block
        if any(self._at_most(_BLOCK)):
            raise EvidenceError("a layer has something behind the end that its first block of zeros is")
        return None

    def _entry(self, block: bytes) -> Header:
        """Read an entry's headers, the long ones before it first."""
        records: dict[str, str] = {}
        longer: dict[str, str] = {}
        kinds: list[str] = []
        while (kind := _checked(block)[156:157].decode("latin-1")) in _LONG:
            content = self._long(block)
            if kinds and (kind in kinds or {"x", "g"} & {kind, *kinds}):
                raise EvidenceError("a layer has two headers for one entry, of which readers take either")
            if kind == "g":
                _require_harmless(_records(content))
            elif kind == "x":
                records = _records(content)
            else:
                longer[kind] = _text(content)
            kinds += [kind] if kind != "g" else []
            following = self._block()
            if following is None:
                raise EvidenceError("a layer ends with a header for nothing")
            block = following
        return _header(block, records, longer)

    def _long(self, block: bytes) -> bytes:
        size = _number(block[124:136], "size")
        if not 0 <= size <= _MAX_HEADER_BYTES:
            raise EvidenceError(f"a layer has a header of {size} bytes; at most {_MAX_HEADER_BYTES} are read")
        content = self._exactly(size)
        self._exactly(-size % _BLOCK)
        return content

    def _exactly(self, size: int) -> bytes:
        content = self._at_most(size) if size else b""
        if len(content) < size:
            raise EvidenceError("a layer cannot be read: it ends within an entry")
        return content

    def _at_most(self, size: int) -> bytes:
        """Read so many bytes, fewer only at the end of the stream."""
        content = self._stream.read(size)
        while len(content) < size and (more := self._stream.read(size - len(content))):
            content += more
        return content


def _checked(block: bytes) -> bytes:
    """Return a header whose sum is right. Old programs added up signed bytes."""
    written = _OCTAL.fullmatch(block[148:156])
    plain = block[:148] + b" " * 8 + block[156:]
    unsigned = sum(plain)
    signed = unsigned - 256 * sum(one > 127 for one in plain)  # noqa: PLR2004 - the largest signed byte
    if written is None or int(written[1] or b"0", 8) not in {unsigned, signed}:
        raise EvidenceError("a layer has a header that is none: its sum is wrong")
    return block


def _header(block: bytes, records: dict[str, str], longer: dict[str, str]) -> Header:
    if any(name.startswith("GNU.sparse.") for name in records) or block[156:157] == b"S":
        raise EvidenceError("a layer has a sparse file, whose size says nothing; it is not read")
    name = longer.get("L") or records.get("path") or _name(block)
    kind = block[156:157].decode("latin-1")
    if kind == "\0":
        kind = "5" if name.endswith("/") else "0"
    size = _decimal(records, "size", _number(block[124:136], "size"))
    if size < 0:
        raise EvidenceError("a layer has an entry of negative size")
    return Header(
        name=name,
        type=kind,
        mode=_number(block[100:108], "mode"),
        owner=(
            _decimal(records, "uid", _number(block[108:116], "uid")),
            _decimal(records, "gid", _number(block[116:124], "gid")),
        ),
        size=size if kind in _WITH_CONTENT else 0,
        mtime=_seconds(records, _number(block[136:148], "mtime")),
        link=longer.get("K") or records.get("linkpath") or _text(block[157:257]),
        device=(_number(block[329:337], "device"), _number(block[337:345], "device")) if kind in {"3", "4"} else (0, 0),
        records=records,
    )


def _name(block: bytes) -> str:
    """Return the name, behind its prefix in the one form that has one."""
    name, rest = _text(block[:100]), block[345:500]
    is_posix = block[257:263] == _POSIX
    if is_posix and block[508:512] != _STAR:
        prefix = _text(rest)
        return f"{prefix}/{name}" if prefix else name
    times = (rest[:12], rest[12:24]) if block[257:265] == _GNU else ()
    if is_posix or any(rest[12 * len(times) :]) or not all(_OCTAL.fullmatch(one) for one in times):
        raise EvidenceError(f"a layer has a header with a prefix, in a form that has none: {name[:100]!r}")
    return name


def _text(content: bytes) -> str:
    return content.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _number(content: bytes, what: str) -> int:
    """Read octal digits, or, where the first bit is set, a binary number (GNU tar, "Extensions")."""
    if content[0] in {0x80, 0xFF}:
        return int.from_bytes(content[1:], "big") - (256 ** (len(content) - 1) if content[0] == 0xFF else 0)  # noqa: PLR2004
    found = _OCTAL.fullmatch(content)
    if found is None:
        raise EvidenceError(f"a layer has a header whose {what} is no number: {content[:12]!r}")
    return int(found[1] or b"0", 8)


def _decimal(records: dict[str, str], name: str, otherwise: int) -> int:
    if name not in records:
        return otherwise
    if not _DECIMAL.fullmatch(records[name]):
        raise EvidenceError(f"a layer has a header whose {name} is no number: '{records[name][:40]!r}'")
    return int(records[name])


def _seconds(records: dict[str, str], otherwise: int) -> float:
    if "mtime" not in records:
        return otherwise
    if not _SECONDS.fullmatch(records["mtime"]):
        raise EvidenceError(f"a layer has a header whose mtime is no number: '{records['mtime'][:40]!r}'")
    return float(records["mtime"])


def _records(content: bytes) -> dict[str, str]:
    """Read the records of an extended header: a length, a space, `key=value`, a line feed; and nothing behind them."""
    found: dict[str, str] = {}
    at = 0
    while at < len(content):
        head = _RECORD.match(content, at)
        end = at + int(head[1]) if head else 0
        key, sign, value = content[head.end() : end - 1].partition(b"=") if head else (b"", b"", b"")
        if not (key and sign) or end > len(content) or content[end - 1 : end] != b"\n":
            raise EvidenceError("a layer has an extended header with a record that is none")
        found[key.decode("utf-8", "surrogateescape")] = value.decode("utf-8", "surrogateescape")
        at = end
    if any(not found[name] for name in ("path", "linkpath") if name in found):
        raise EvidenceError("a layer has an extended header with an empty path, which readers take for none or for ''")
    return found


def _require_harmless(records: dict[str, str]) -> None:
    """What holds for all entries to some readers, and for none to others, may be a comment alone, as git writes it."""
    if set(records) - {"comment"}:
        raise EvidenceError("a layer has a global header that says more than a comment: engines do not read it")
