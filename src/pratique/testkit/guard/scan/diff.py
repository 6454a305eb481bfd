"""Git's patches, read as a stream: the added lines, with commit, path and line number.

A hunk's header says how many lines it has, and so many are read: content that looks like a header is content. In the
patch of a merge a line counts as added where no parent has it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pratique.core.secrets.model import Place
from pratique.testkit.guard.scan.errors import ScanFailedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

__all__ = ["COMMIT_MARK", "Added", "Binary", "read_patches"]

COMMIT_MARK: Final = b"\x01commit "
"""Begins the line that names a commit; no line of a patch's header begins so."""
_HUNK: Final = re.compile(rb"(@{2,9}) ((?:-\d+(?:,\d+)? )+)\+(\d+)(?:,(\d+))? @+")
_RANGE: Final = re.compile(rb"-\d+(?:,(\d+))?")
_ESCAPE: Final = re.compile(rb"\\([0-7]{3}|.)", re.DOTALL)
_ESCAPES: Final = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v"}
_INDEX: Final = re.compile(rb"index [0-9a-f,]+\.\.([0-9a-f]{40,64})")
_MAX_LINE: Final = 4 * 1024 * 1024
_MAX_BLOCK: Final = 8 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Added:
    """Lines that stand together and were added."""

    place: Place
    first_line: int
    text: bytes


@dataclass(frozen=True, kw_only=True)
class Binary:
    """A file that git shows no lines of: UTF-16 is among them."""

    place: Place
    blob: str


@dataclass
class _Where:
    commit: str = ""
    path: str = ""
    blob: str = ""

    @property
    def place(self) -> Place:
        return Place(path=self.path, commit=self.commit)


@dataclass
class _Hunk:
    """What is left of a hunk, and what it added so far."""

    old: list[int]
    new: int
    line: int
    first: int = 0
    parts: list[bytes] = field(default_factory=list)
    size: int = 0

    @property
    def is_over(self) -> bool:
        return self.new <= 0 and max(self.old) <= 0

    def take(self, line: bytes) -> None:
        marks = line[: len(self.old)]
        if b"-" in marks:
            self.old = [left - (mark == ord("-")) for left, mark in zip(self.old, marks, strict=True)]
            return
        self.old = [left - (mark == ord(" ")) for left, mark in zip(self.old, marks, strict=True)]
        self.new -= 1
        if marks == b"+" * len(marks):
            self.first = self.first or self.line
            self.parts.append(line[len(marks) :])
            self.size += len(line)
        else:
            self.parts.append(b"\n")
            self.first = self.first or self.line
        self.line += 1

    def flush(self, where: _Where) -> Iterator[Added]:
        if self.parts:
            yield Added(place=where.place, first_line=self.first, text=b"".join(self.parts))
        self.parts, self.first, self.size = [], 0, 0


def read_patches(stream: IO[bytes]) -> Iterator[Added | Binary]:
    """Read the patches of `git log` or `git diff`.

    Raises:
        ScanFailedError: the output is cut short.
    """
    where = _Where()
    while line := stream.readline(_MAX_LINE):
        if hunk := _hunk(line):
            yield from _read_hunk(stream, hunk, where)
        elif line.startswith(COMMIT_MARK):
            where = _Where(commit=line[len(COMMIT_MARK) :].strip().decode("ascii", "replace"))
        elif line.startswith(b"+++ "):
            where.path = _path(line[4:])
        elif found := _INDEX.match(line):
            where.blob = found.group(1).decode()
        elif line.startswith(b"diff --"):
            where.path, where.blob = _path_of_header(line), ""
        elif line.startswith(b"Binary files ") and where.blob.strip("0"):
            yield Binary(place=where.place, blob=where.blob)


def _hunk(line: bytes) -> _Hunk | None:
    found = _HUNK.match(line)
    if found is None:
        return None
    old = [int(size) if size else 1 for size in _RANGE.findall(found.group(2))]
    return _Hunk(old=old, new=int(found.group(4) or 1), line=int(found.group(3)))


def _read_hunk(stream: IO[bytes], hunk: _Hunk, where: _Where) -> Iterator[Added]:
    while not hunk.is_over:
        line = stream.readline(_MAX_LINE)
        if not line:
            raise ScanFailedError(f"What git says of {where.path} ends in the middle of a hunk.")
        if line.startswith(b"\\"):  # "\ No newline at end of file"
            continue
        hunk.take(line)
        while not line.endswith(b"\n") and (line := stream.readline(_MAX_LINE)):
            # One line, longer than what is read at a time: its parts are told one by one.
            yield from hunk.flush(where)
            hunk.first, hunk.parts = hunk.line - 1, [line]
        if hunk.size >= _MAX_BLOCK:
            yield from hunk.flush(where)
    yield from hunk.flush(where)


def _path(name: bytes) -> str:
    name = name.rstrip(b"\n").removesuffix(b"\t")
    if name.startswith(b'"') and name.endswith(b'"'):
        name = _ESCAPE.sub(_unescape, name[1:-1])
    return name.removeprefix(b"b/").decode("utf-8", "surrogateescape")


def _unescape(found: re.Match[bytes]) -> bytes:
    code = found.group(1)
    return bytes([int(code, 8)]) if len(code) == 3 else _ESCAPES.get(code, code)  # noqa: PLR2004 - octal digits


def _path_of_header(line: bytes) -> str:
    # Only where no line of content follows is this all there is: the half after the middle, both being alike.
    rest = line.rstrip(b"\n").split(b" ", 2)[2] if line.count(b" ") >= 2 else b""  # noqa: PLR2004 - diff --git a b
    return _path(rest[len(rest) // 2 + 1 :] if line.startswith(b"diff --git") else rest)
