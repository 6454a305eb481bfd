"""What a run that was killed may leave: a folder, and the children of servers whose host was killed as well.

A run, or a host that is reused, holds a lock on a file in its folder for as long as it lives. A folder whose lock is
free is nobody's. What may remain: where the controller of xdist is killed with -9 before any worker has asked for a
server, its folder with an empty socket, until the next run begins.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import shutil
import signal
import stat
import tempfile
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from pratique.core import procfs
from pratique.testkit.host.launch import MARKER

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["RUN_PREFIX", "die_with_parent", "is_private", "kill_marked", "lock_folder", "sweep"]

RUN_PREFIX: Final = "pratique-testkit-run-"
"""Of the folder of a run's host."""
_LOCK: Final = "owner.lock"
_MAKING_SECONDS: Final = 60.0
"""A folder without a lock that is older than this is no longer being made."""
_KILL_SECONDS: Final = 5.0
_PR_SET_PDEATHSIG: Final = 1
_PRCTL: Final = ctypes.CDLL(None).prctl
"""Looked up here: where `die_with_parent` runs after a fork, the dynamic linker may be locked."""


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the thread that started it ends, which has to be its parent's main one."""
    _PRCTL(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)  # it died before the kernel was told


def lock_folder(folder: Path) -> IO[str]:
    """Hold a folder for as long as this process lives. The lock appears under its name only when it is held."""
    making = folder / f"{_LOCK}.new"
    lock = making.open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    making.rename(folder / _LOCK)
    return lock


def is_private(folder: Path) -> bool:
    """Whether it is a folder, no link to one, that this user owns and nobody else can enter."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077


def sweep(prefix: str, within: Path | None = None) -> None:
    """Remove what killed hosts left in a folder (that for temporary files), which others use as well."""
    for folder in (within or Path(tempfile.gettempdir())).glob(f"{prefix}*"):
        if is_private(folder) and _is_nobodys(folder):
            kill_marked(folder)
            shutil.rmtree(folder, ignore_errors=True)


def kill_marked(folder: Path) -> None:
    """End the processes that the host of this folder started, should it have been killed before it could."""
    mark = f"{MARKER}={folder}".encode()
    procfs.kill_until_gone(
        lambda entries: {entry.pid for entry in entries if mark in _environment_of(entry.pid)},
        within_seconds=_KILL_SECONDS,
    )


def _is_nobodys(folder: Path) -> bool:
    try:
        with (folder / _LOCK).open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    except FileNotFoundError:
        with contextlib.suppress(OSError):
            return time.time() - folder.stat().st_mtime > _MAKING_SECONDS
    except OSError:
        pass  # held, or gone
    return False


def _environment_of(pid: int) -> Iterable[bytes]:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return ()
