"""Reads the services' log files: the last lines of several in the order of their time, and new ones as they come."""

from __future__ import annotations

import collections
import json
import os
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO, Final

from pratique.fleet.processes.logs import plain_text

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
    from pathlib import Path

__all__ = ["LogLine", "follow", "last_lines", "render_line"]

_LOOK_SECONDS: Final = 0.2
_TIME_OF_DAY: Final = slice(11, 23)


@dataclass(frozen=True, kw_only=True)
class LogLine:
    """One line of a service's log."""

    service: str
    timestamp: str
    text: str


def last_lines(files: Sequence[Path], count: int) -> list[LogLine]:
    """Return the last lines of all files together, oldest first."""
    found: list[LogLine] = []
    for path in files:
        tail: collections.deque[bytes] = collections.deque(maxlen=count)
        for part in (path.with_name(f"{path.name}.1"), path):
            if part.exists():
                with part.open("rb") as file:
                    tail.extend(file)
        found += _dated(_parse(path.stem, raw) for raw in tail)
    found.sort(key=lambda line: line.timestamp)
    return found[-count:] if count else []


def follow(files: Sequence[Path], *, sleep: Callable[[float], None] = time.sleep) -> Generator[LogLine]:
    """Yield lines as they are written, through rotations, without end."""
    open_files = {path: _open_at_end(path) for path in files}
    try:
        while True:
            for path, file in open_files.items():
                for raw in file or ():
                    yield _parse(path.stem, raw)
                if file is None or _was_rotated(path, file):
                    open_files[path] = _reopen(path, file)
            sleep(_LOOK_SECONDS)
    finally:
        for file in open_files.values():
            if file is not None:
                file.close()


def render_line(line: LogLine) -> str:
    """Return a line for people: time of day, service, what happened."""
    return f"{line.timestamp[_TIME_OF_DAY]:12} {line.service:15} {plain_text(line.text)}"


def _dated(lines: Iterable[LogLine]) -> Iterator[LogLine]:
    """Give a line without a time that of the one before it, so that it stays behind it."""
    before = ""
    for line in lines:
        before = line.timestamp or before
        yield replace(line, timestamp=before)


def _parse(service: str, raw: bytes) -> LogLine:
    text = raw.decode("utf-8", "replace").rstrip("\n")
    try:
        timestamp = str(json.loads(text)["timestamp"])
    except (ValueError, KeyError, TypeError):
        timestamp = ""
    return LogLine(service=service, timestamp=timestamp, text=text)


def _open_at_end(path: Path) -> BinaryIO | None:
    if not path.exists():
        return None
    file = path.open("rb")
    file.seek(0, 2)
    return file


def _was_rotated(path: Path, file: BinaryIO) -> bool:
    return path.exists() and path.stat().st_ino != os.fstat(file.fileno()).st_ino


def _reopen(path: Path, file: BinaryIO | None) -> BinaryIO | None:
    if file is not None:
        file.close()
    return path.open("rb") if path.exists() else None
