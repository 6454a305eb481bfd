"""Programs that outlive the command which started them, found again by a mark in their environment.

The mark says whose they are and what they run, so there is no file of process ids that could be wrong: not after a
crash, not after a reboot, and not where a number was given to somebody else.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pratique.core import procfs
from pratique.fleet.targets.interface import TargetError

__all__ = ["MARK", "MarkedPrograms"]

MARK: Final = "PRATIQUE_TARGET"
_PAUSE_SECONDS: Final = 0.02
_KILL_SECONDS: Final = 5.0
_MARK_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class MarkedPrograms:
    """The programs of one owner, each in a role. A role is any text without a line break."""

    owner: str

    def start(self, role: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        """Start a program in a session of its own; its output is added to a file. From then on it is found.

        Raises:
            TargetError: it cannot be started.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o600),
            (os.POSIX_SPAWN_OPEN, 2, str(log.with_suffix(".err")), flags, 0o600),
        ]
        marked = {**environment, MARK: f"{self.owner}\n{role}"}
        try:
            pid = os.posix_spawnp(command[0], list(command), marked, file_actions=actions, setsid=True)
        except OSError as error:
            raise TargetError(f"'{command[0]}' cannot be started: {error.strerror}") from error
        self._await_mark(pid)

    def running(self) -> dict[str, set[int]]:
        """Return the process ids by role."""
        found: dict[str, set[int]] = {}
        for entry in procfs.list_processes():
            if not entry.is_zombie and (role := self._role(entry.pid)) is not None:
                found.setdefault(role, set()).add(entry.pid)
        return found

    def stop(self, role: str, *, grace_seconds: float) -> None:
        """Ask a program to end, and kill what is left of it after the grace."""
        for pid in self.running().get(role, set()):
            entry = procfs.read_process(pid)
            if entry is not None and entry.session == pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + grace_seconds
        while self._is_running(role) and time.monotonic() < deadline:
            time.sleep(_PAUSE_SECONDS)
        left = procfs.kill_until_gone(
            lambda entries: {entry.pid for entry in entries if self._role(entry.pid) == role},
            within_seconds=_KILL_SECONDS,
        )
        if left:
            raise TargetError(f"the processes {sorted(left)} of '{role}' cannot be ended")

    def _await_mark(self, pid: int) -> None:
        """Wait until the mark can be read: on a busy machine Linux lets the parent go on a moment before."""
        deadline = time.monotonic() + _MARK_SECONDS
        while self._role(pid) is None and procfs.is_alive(pid) and time.monotonic() < deadline:
            time.sleep(_PAUSE_SECONDS)

    def _is_running(self, role: str) -> bool:
        self._reap()
        return bool(self.running().get(role))

    def _reap(self) -> None:
        """Take the exit codes of those that this very process started."""
        for entry in procfs.list_processes():
            if entry.parent == os.getpid() and entry.is_zombie and entry.session == entry.pid:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(entry.pid, os.WNOHANG)

    def _role(self, pid: int) -> str | None:
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123 - read for every process of the machine
                text = file.read()
        except OSError:
            return None
        for variable in text.split(b"\0"):
            name, _, value = variable.partition(b"=")
            if name == MARK.encode():
                owner, _, role = value.decode(errors="replace").partition("\n")
                return role if owner == self.owner else None
        return None
