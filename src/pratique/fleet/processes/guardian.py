"""The guardian: a small process that outlives the supervisor by moments, to end what the supervisor left behind.

It reads a pipe that only the supervisor holds open. The kernel closes it however the supervisor ends, kill -9
included; the guardian then kills every process of the stack, grandchildren too. It is in a session of its own and
ignores the signals that people send to groups. Nothing else: standard library only, a few MB.

Lines that it understands: `session N` (watch), `forget N`, `done` (the supervisor has cleaned up itself).
"""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

from pratique.core import procfs
from pratique.fleet.processes.marker import has_marker

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["choose_left_behind", "main", "watch"]


def watch(lines: Iterable[str]) -> set[int] | None:
    """Read until the pipe closes; return the sessions to end, or None where the supervisor said that it is done."""
    sessions: set[int] = set()
    for line in lines:
        word, _, number = line.strip().partition(" ")
        if word == "done":
            return None
        if word == "session" and number.isdecimal():
            sessions.add(int(number))
        if word == "forget" and number.isdecimal():
            sessions.discard(int(number))
    return sessions


def choose_left_behind(entries: list[procfs.ProcessEntry], sessions: set[int], marker: str) -> set[int]:
    """Return the processes of these sessions, and those that carry the marker wherever they went."""
    return {
        entry.pid
        for entry in entries
        if not entry.is_zombie and (entry.session in sessions or has_marker(entry.pid, marker))
    }


def main(marker: str) -> int:
    """Guard one run of a stack until its supervisor ends."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    sessions = watch(sys.stdin)
    if sessions is None:
        return 0
    left = procfs.kill_until_gone(lambda entries: choose_left_behind(entries, sessions, marker))
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
