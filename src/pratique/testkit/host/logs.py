"""The logs of servers: files that only grow, however large."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["read_tail", "size_of"]

_TAIL_BYTES: Final = 32 * 1024


def read_tail(log: Path, lines: int, *, since: int = 0) -> str:
    """Return the last lines of a file, of what was written beyond its first `since` bytes; "" where there is none."""
    size = size_of(log)
    begin = since if since <= size else 0  # it was begun anew
    try:
        with log.open("rb") as file:
            file.seek(max(begin, size - _TAIL_BYTES))
            text = file.read(_TAIL_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def size_of(log: Path) -> int:
    """Return how long a log is; 0 where there is none."""
    try:
        return log.stat().st_size
    except OSError:
        return 0
