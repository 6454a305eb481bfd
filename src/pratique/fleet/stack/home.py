"""The state folder: one stack at a time in it, and what a killed one left is cleaned up before the next.

The lock is the kernel's (flock): it is free again however its holder ends. `stack.json` says who holds it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from typing import TYPE_CHECKING, BinaryIO, Self

import msgspec

from pratique.core import procfs
from pratique.fleet.errors import NoStackError, StackRunningError, StateDirError
from pratique.fleet.processes.marker import has_marker

if TYPE_CHECKING:
    from pathlib import Path

    from pratique.fleet.stack.settings import StackPaths

__all__ = ["StackDescription", "StateHome", "is_locked", "read_description", "state_key", "write_private"]


class StackDescription(msgspec.Struct, frozen=True, kw_only=True):
    """`stack.json`: where the running stack is. Unknown fields belong to a later version."""

    schema_version: int = 1
    pid: int
    url: str
    state_dir: str
    engine: str
    started_at: float
    """Seconds since 1970 UTC."""
    addresses: dict[str, str]
    """By service. Valkey's holds its password, which is why the file is private."""


def state_key(root: Path) -> str:
    """Return what marks the processes of this state folder, whatever run they are of."""
    return hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]


class StateHome:
    """The folder, held by this process. Use as a context manager around a stack's whole life."""

    def __init__(self, paths: StackPaths) -> None:
        self._paths = paths
        self._lock: BinaryIO | None = None

    def __enter__(self) -> Self:
        """Make the folder, take it, clean it.

        Raises:
            StateDirError: it cannot be made or written, or processes of a killed stack do not end.
            StackRunningError: another stack holds it.
        """
        _make(self._paths)
        try:
            self._lock = self._paths.lock.open("ab")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._release()
            raise _running(self._paths) from error
        except OSError as error:
            self._release()
            raise StateDirError(f"{self._paths.lock} cannot be locked: {error.strerror}.") from error
        try:
            _clean(self._paths)
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for path in (self._paths.control, self._paths.description):
            path.unlink(missing_ok=True)
        self._release()

    def describe(self, description: StackDescription) -> None:
        """Write `stack.json`."""
        write_private(self._paths.description, msgspec.json.format(msgspec.json.encode(description)))

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def is_locked(paths: StackPaths) -> bool:
    """Whether a stack runs in the folder."""
    try:
        with paths.lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def read_description(paths: StackPaths) -> StackDescription:
    """Return what the running stack says of itself.

    Raises:
        NoStackError: none runs here.
    """
    if is_locked(paths):
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            return msgspec.json.decode(paths.description.read_bytes(), type=StackDescription)
    raise NoStackError(f"No stack runs in {paths.root}.", hint="`pratique up` starts one.")


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    draft.replace(path)


def _make(paths: StackPaths) -> None:
    try:
        paths.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        for folder in (paths.logs, paths.valkey, paths.envoy):
            folder.mkdir(exist_ok=True, mode=0o700)
        paths.model_root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StateDirError(
            f"The state folder {error.filename or paths.root} cannot be made: {error.strerror}.",
            hint="Name one that you may write with --state-dir.",
        ) from error
    if not os.access(paths.root, os.W_OK | os.X_OK):
        raise StateDirError(
            f"The state folder {paths.root} cannot be written.", hint="Name one that you may write with --state-dir."
        )


def _clean(paths: StackPaths) -> None:
    key = f"{state_key(paths.root)}:"

    def left_behind(entries: list[procfs.ProcessEntry]) -> set[int]:
        return {entry.pid for entry in entries if has_marker(entry.pid, key)}

    if left := procfs.kill_until_gone(left_behind):
        raise StateDirError(
            f"Processes of a stack that was killed do not end: {', '.join(map(str, sorted(left)))}.",
            hint="End them, or choose another folder with --state-dir.",
        )
    for path in (paths.control, paths.description):
        path.unlink(missing_ok=True)


def _running(paths: StackPaths) -> StackRunningError:
    hint = f"`pratique down --state-dir {paths.root}` stops it; another one needs another --state-dir and --port."
    who = ""
    with contextlib.suppress(OSError, ValueError, KeyError):
        found = json.loads(paths.description.read_bytes())
        who = f": {found['url']}, pid {found['pid']}"
    return StackRunningError(f"A stack already runs in {paths.root}{who}.", hint=hint)
