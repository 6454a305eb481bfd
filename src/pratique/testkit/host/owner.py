"""Pytest's end of the host: the controller (or the only process, without xdist) owns it, workers get its address.

1. A Unix socket listens from the start; its path is what workers are told. Nothing runs yet.
2. The first connection, from whichever worker needs a server first, makes a thread here start the host and hand the
   socket over, as systemd activates services. A run that needs no server starts nothing.
3. `close` says the word and waits. Without the word, the host sees the pipe close and kills.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO, Final

from pratique.testkit.errors import HostGoneError
from pratique.testkit.host.client import HostClient

__all__ = ["OwnedHost", "ReusedHost"]

_BACKLOG: Final = 128
_CLOSE_SECONDS: Final = 15.0
_MODULE: Final = "pratique.testkit.host.supervisor"
_PREFIX: Final = "pratique-testkit-"


def _listen(address: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(address))
    listener.listen(_BACKLOG)
    return listener


def _start_host(
    folder: Path, listener: socket.socket, *words: str, fds: tuple[int, ...] = ()
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-m", _MODULE, "--listen", str(listener.fileno()), "--folder", str(folder), *words]
    with (folder / "host.log").open("ab") as log:
        # In a session of its own: Ctrl-C in the terminal is for pytest, which then ends the host in order.
        return subprocess.Popen(  # noqa: S603 - our own module
            command,
            pass_fds=(listener.fileno(), *fds),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
        )


class OwnedHost:
    """A host that ends with this process."""

    def __init__(self) -> None:
        _sweep()
        self.folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self.client = HostClient(self.folder / "host.sock")
        self._owner_lock = _lock(self.folder)
        self._listener = _listen(self.client.address)
        self._wake_read, self._wake_write = os.pipe()
        self._lifeline = -1
        self._process: subprocess.Popen[bytes] | None = None
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._activate, name="pratique-testkit-host", daemon=True)
        self._thread.start()

    @property
    def is_started(self) -> bool:
        """Whether a server has been asked for."""
        return self._process is not None

    def close(self) -> None:
        """End the host and all its servers, in order. Does nothing in a process that was forked off the owner."""
        if os.getpid() != self._pid:
            return
        with contextlib.suppress(OSError):
            os.write(self._wake_write, b"x")
        self._thread.join(_CLOSE_SECONDS)
        self._listener.close()
        if self._process is not None:
            with contextlib.suppress(OSError):
                os.write(self._lifeline, b"x")
            os.close(self._lifeline)
            self._wait(self._process)
        for fd in (self._wake_read, self._wake_write):
            os.close(fd)
        self._owner_lock.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _activate(self) -> None:
        ready, _, _ = select.select([self._listener.fileno(), self._wake_read], [], [])
        if self._wake_read in ready:
            return
        lifeline_read, self._lifeline = os.pipe()
        words = ("--lifeline", str(lifeline_read), "--owner", str(self._pid))
        self._process = _start_host(self.folder, self._listener, *words, fds=(lifeline_read,))
        os.close(lifeline_read)
        # Only the host may accept now: were it killed, whoever connects must be refused and not wait for nobody.
        self._listener.close()

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        try:
            process.wait(_CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()  # its servers die with it
            process.wait()


class ReusedHost:
    """A host that outlives the run, for quick runs one after another; it ends when it has been idle."""

    def __init__(self, folder: Path, *, idle_seconds: float) -> None:
        self.client = HostClient(folder / "host.sock")
        self._folder = folder
        self._idle_seconds = idle_seconds
        self._lease: socket.socket | None = None

    def open(self) -> None:
        """Connect to the host that is there, or start one. Two runs that begin together get the same one."""
        self._folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._folder.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with contextlib.suppress(HostGoneError):
                self._lease = self.client.lease()
                return
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir(mode=0o700)
            with _listen(self.client.address) as listener:
                _start_host(self._folder, listener, "--idle", str(self._idle_seconds))
            self._lease = self.client.lease()

    @property
    def is_started(self) -> bool:
        """Whether there is one."""
        return self._lease is not None

    def close(self) -> None:
        """Leave it to itself."""
        if self._lease is not None:
            self._lease.close()
            self._lease = None


def _lock(folder: Path) -> IO[str]:
    """Hold a lock for as long as this process lives. It appears under its name only when it is held."""
    making = folder / "owner.lock.new"
    lock = making.open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    making.rename(folder / "owner.lock")
    return lock


def _sweep() -> None:
    """Remove the folders of runs that were killed before they had a host to do it."""
    for lock in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/owner.lock"):
        with contextlib.suppress(OSError), lock.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.parent, ignore_errors=True)
