"""Which processes there are, from /proc, and how a whole set of them is ended.

Standard library only: what runs on it (the guardian of a stack, the server host of the test kit) must start fast and
need nothing. Processes that end while they are looked at are simply not there.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

__all__ = [
    "ProcessEntry",
    "descendants",
    "is_alive",
    "kill_until_gone",
    "list_processes",
    "read_process",
    "reap_orphans",
]

_PAUSE_SECONDS: Final = 0.01


class ProcessEntry(NamedTuple):
    """One process as /proc shows it."""

    pid: int
    parent: int
    session: int
    state: str

    @property
    def is_zombie(self) -> bool:
        """Whether it has ended and only its exit code is left."""
        return self.state in {"Z", "X"}


def list_processes() -> list[ProcessEntry]:
    """Return every process of the machine that this user can see."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdecimal()]  # noqa: PTH208 - names are all it takes
    return [entry for entry in map(read_process, pids) if entry]


def read_process(pid: int) -> ProcessEntry | None:
    """Return one process, or None where it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - as above
            text = file.read()
    except OSError:
        return None
    # The name stands in parentheses and may hold anything, parentheses too.
    fields = text[text.rindex(b")") + 2 :].split()
    return ProcessEntry(pid=pid, parent=int(fields[1]), session=int(fields[3]), state=fields[0].decode())


def is_alive(pid: int) -> bool:
    """Whether a process of that id runs (a zombie does not)."""
    entry = read_process(pid)
    return entry is not None and not entry.is_zombie


def descendants(entries: Iterable[ProcessEntry], root: int) -> set[int]:
    """Return the children of `root` and theirs, as far down as they go."""
    children: dict[int, list[int]] = {}
    for entry in entries:
        children.setdefault(entry.parent, []).append(entry.pid)
    found: set[int] = set()
    pending = [root]
    while pending:
        for pid in children.get(pending.pop(), []):
            if pid not in found:
                found.add(pid)
                pending.append(pid)
    return found


def kill_until_gone(
    choose: Callable[[list[ProcessEntry]], Collection[int]], *, within_seconds: float = 10.0
) -> set[int]:
    """Kill what `choose` picks, and pick again, until nothing is left or the time is up; return what is left.

    Blocks. Chosen again each time, because a process can start another while it is being killed.
    """
    deadline = time.monotonic() + within_seconds
    while True:
        entries = list_processes()
        chosen = set(choose(entries)) - {os.getpid()}
        alive = {entry.pid for entry in entries if entry.pid in chosen and not entry.is_zombie}
        if not alive or time.monotonic() > deadline:
            return alive
        for pid in alive:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_PAUSE_SECONDS)


def reap_orphans(entries: Iterable[ProcessEntry], *, spare: Collection[int]) -> None:
    """Take the exit codes of the orphans that this process was given as their subreaper.

    `spare` are its own children, whose exit codes somebody waits for.
    """
    for entry in entries:
        if entry.parent == os.getpid() and entry.is_zombie and entry.pid not in spare:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(entry.pid, os.WNOHANG)
