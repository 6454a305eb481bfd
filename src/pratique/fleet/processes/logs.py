"""What a service says: JSON lines in a rotated file, and its last lines in memory for error messages.

A line that is no JSON object is wrapped in one, so the file can be read line by line by a program. Rotation keeps a
few files of bounded size. A full disk loses lines, not the service: the loss is counted, and writing goes on when
there is room.
"""

from __future__ import annotations

import collections
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, BinaryIO, Final

from pratique.core.clock import Clock, SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["LineBuffer", "ServiceLog", "plain_text"]

_MAX_LINE_BYTES: Final = 64 * 1024
_TAIL_LINES: Final = 40


class LineBuffer:
    """Cuts a stream of bytes into lines; a line without end is cut at 64 KiB."""

    def __init__(self, take: Callable[[bytes], None]) -> None:
        self._take = take
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Pass on every line that is complete now."""
        *lines, rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._take(line)
        while len(rest) > _MAX_LINE_BYTES:
            self._take(rest[:_MAX_LINE_BYTES])
            rest = rest[_MAX_LINE_BYTES:]
        self._rest = rest

    def close(self) -> None:
        """Pass on what came last without a line's end."""
        if self._rest:
            self._take(self._rest)
            self._rest = b""


class ServiceLog:
    """The log of one service."""

    def __init__(
        self,
        path: Path,
        service: str,
        *,
        max_bytes: int = 8 * 2**20,
        backups: int = 2,
        clock: Clock | None = None,
    ) -> None:
        self._path = path
        self._service = service
        self._max_bytes = max_bytes
        self._backups = backups
        self._clock = clock or SystemClock()
        self._file: BinaryIO | None = None
        self._size = 0
        self._tail: collections.deque[str] = collections.deque(maxlen=_TAIL_LINES)
        self.lost_lines = 0

    @property
    def tail(self) -> tuple[str, ...]:
        """The last lines in plain words, oldest first."""
        return tuple(self._tail)

    @property
    def last_line(self) -> str:
        return self._tail[-1] if self._tail else ""

    def write(self, line: bytes) -> None:
        """Keep a line; empty ones are dropped."""
        text = line.decode("utf-8", "replace").rstrip("\r").rstrip()
        if not text:
            return
        self._tail.append(plain_text(text))
        if not _is_object(text):
            text = self._wrap(text)
        try:
            self._append(text.encode() + b"\n")
        except OSError:
            self.lost_lines += 1
            self.close()

    def note(self, event: str) -> None:
        """Add a line of the supervisor's own."""
        self.write(self._wrap(event, by="supervisor").encode())

    def close(self) -> None:
        """Close the file; another line opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _wrap(self, text: str, **more: str) -> str:
        stamp = datetime.fromtimestamp(self._clock.epoch(), UTC).isoformat(timespec="milliseconds")
        return json.dumps({"timestamp": stamp, "service": self._service, "event": text, **more}, ensure_ascii=False)

    def _append(self, data: bytes) -> None:
        if self._file is not None and self._size + len(data) > self._max_bytes:
            self._rotate()
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("ab", buffering=0)
            self._size = self._file.tell()
        self._size += self._file.write(data)

    def _rotate(self) -> None:
        self.close()
        for number in range(self._backups - 1, 0, -1):
            older = self._path.with_name(f"{self._path.name}.{number}")
            if older.exists():
                older.replace(self._path.with_name(f"{self._path.name}.{number + 1}"))
        self._path.replace(self._path.with_name(f"{self._path.name}.1"))


def _is_object(text: str) -> bool:
    if not (text.startswith("{") and text.endswith("}")):
        return False
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def plain_text(line: str) -> str:
    """Return a log line for people: level, event and fields without braces; a line of plain text as it is."""
    try:
        fields = json.loads(line)
    except ValueError:
        return line
    if not isinstance(fields, dict) or "event" not in fields:
        return line
    event = str(fields.pop("event"))
    for known in ("timestamp", "service", "room", "by"):
        fields.pop(known, None)
    level = str(fields.pop("level", "")).lower()
    shown = " ".join(f"{name}={value}" for name, value in fields.items() if value not in (None, ""))
    return " ".join(part for part in ("" if level in {"", "info"} else f"{level}:", event, shown) if part)
