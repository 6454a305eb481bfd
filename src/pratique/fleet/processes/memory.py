"""How much memory services take."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from pratique.core.procfs import list_processes

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["load_own_bytes", "load_session_bytes"]

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


def load_session_bytes(sessions: Collection[int]) -> dict[int, int]:
    """Return bytes by session, all processes of one added up; a page shared by several counts once."""
    found: dict[int, int] = {}
    for entry in list_processes():
        if entry.session in sessions and not entry.is_zombie:
            found[entry.session] = found.get(entry.session, 0) + _load_bytes(entry.pid)
    return found


def load_own_bytes() -> int:
    """Return what this process takes."""
    return _load_bytes(os.getpid())


def _load_bytes(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:  # noqa: PTH123 - a file that is not on a disk
            for line in file:
                if line.startswith("Pss:"):
                    return int(line.split()[1]) * 1024
        with open(f"/proc/{pid}/statm", encoding="ascii") as file:  # noqa: PTH123 - as above
            return int(file.read().split()[1]) * _PAGE_BYTES
    except OSError:
        return 0
