"""Pytest's end of the host: the controller (or the only process, without xdist) owns it, workers get its address.

1. Nothing is there until a server is asked for: no folder, no socket, no thread.
2. In the only process, the first request starts the host. With xdist, a Unix socket listens as soon as there is a
   worker, its path is what workers are told, and the first of them to connect makes a thread here start the host and
   hand the socket over, as systemd activates services.
3. `close` says the word and waits. Without the word, the host sees the pipe close and kills.
"""

from __future__ import annotations

import contextlib
import os
import secrets
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
from pratique.testkit.host.client import HostClient, short_path
from pratique.testkit.host.launch import BACKLOG
from pratique.testkit.host.remains import RUN_PREFIX, kill_marked, lock_folder, sweep

__all__ = ["OwnedHost", "listen", "start_host"]

_CLOSE_SECONDS: Final = 15.0
_KILL_SECONDS: Final = 5.0
_MODULE: Final = "pratique.testkit.host.supervisor"


def listen(address: Path) -> socket.socket:
    """Return the socket that a host will take requests from."""
    listener = socket.socket(socket.AF_UNIX)
    with short_path(address) as path:
        listener.bind(path)
    listener.listen(BACKLOG)
    return listener


def start_host(
    folder: Path, listener: socket.socket, *words: str, fds: tuple[int, ...] = ()
) -> subprocess.Popen[bytes]:
    """Start a host that takes over the socket.

    Raises:
        HostGoneError: no process could be started.
    """
    command = [sys.executable, "-P", "-m", _MODULE, "--listen", str(listener.fileno()), "--folder", str(folder), *words]
    try:
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
    except OSError as error:
        raise HostGoneError(f"The host of this run's servers could not be started: {error}.") from error


class OwnedHost:
    """A host that ends with this process. Making one does nothing yet."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.gettempdir()) / f"{RUN_PREFIX}{secrets.token_hex(6)}"
        self.client = HostClient(self.folder / "host.sock", prepare=self._prepare)
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._owner_lock: IO[str] | None = None
        self._listener: socket.socket | None = None
        self._lifeline = -1
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._wake: tuple[int, int] | None = None
        self._is_closed = False

    def serve_workers(self) -> None:
        """Have the host start when a worker first connects."""
        with self._lock:
            if self._thread is None:
                self._open()
                self._wake = os.pipe()
                self._thread = threading.Thread(target=self._activate, name="pratique-testkit-host", daemon=True)
                self._thread.start()

    def was_asked(self) -> bool:
        """Whether anybody has asked for a server so far."""
        with self._lock:
            if self._process is not None or self._listener is None:
                return self._process is not None
            return bool(_readable(self._listener.fileno(), milliseconds=0))

    def close(self) -> None:
        """End the host and all its servers, in order. Does nothing a second time, nor in a process forked off this."""
        if os.getpid() != self._pid or self._is_closed:
            return
        self._is_closed = True
        self._stop_thread()
        with self._lock:
            if self._listener is not None:
                self._listener.close()
            if self._process is not None:
                self._end(self._process)
            if self._owner_lock is not None:
                shutil.rmtree(self.folder, ignore_errors=True)
                self._owner_lock.close()

    def _prepare(self) -> None:
        if os.getpid() != self._pid or self._is_closed:
            return
        with self._lock:
            if self._process is None:
                self._open()
                self._start()

    def _open(self) -> None:
        if self._owner_lock is None:
            sweep(RUN_PREFIX)
            try:
                self.folder.mkdir(mode=0o700)
                self._owner_lock = lock_folder(self.folder)
                self._listener = listen(self.client.address)
            except OSError as error:
                raise HostGoneError(
                    f"The host of this run's servers cannot have its folder {self.folder}: {error}.",
                    hint="It is made in the folder for temporary files; TMPDIR names another one.",
                ) from error

    def _start(self) -> None:
        listener = self._listener
        if listener is None:
            return
        lifeline_read, self._lifeline = os.pipe()
        words = ("--lifeline", str(lifeline_read), "--owner", str(self._pid))
        try:
            self._process = start_host(self.folder, listener, *words, fds=(lifeline_read,))
        except HostGoneError:
            os.close(self._lifeline)
            self._lifeline = -1
            raise
        finally:
            os.close(lifeline_read)
            # Only the host may accept now: were it killed, whoever connects must be refused and not wait for nobody.
            listener.close()
            self._listener = None

    def _activate(self) -> None:
        listener, wake = self._listener, self._wake
        if listener is None or wake is None:
            return
        if wake[0] not in _readable(listener.fileno(), wake[0]):
            # Where it cannot be started, the socket is closed, and those who ask are told.
            with self._lock, contextlib.suppress(HostGoneError):
                if self._process is None:
                    self._start()

    def _stop_thread(self) -> None:
        if self._thread is None or self._wake is None:
            return
        os.write(self._wake[1], b"x")
        self._thread.join(_CLOSE_SECONDS)
        for fd in self._wake:
            os.close(fd)
        self._wake = None

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(OSError):
            os.write(self._lifeline, b"x")
        try:
            process.wait(_CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()  # its servers die with it
            with contextlib.suppress(subprocess.TimeoutExpired):  # in a system call that does not end: left behind
                process.wait(_KILL_SECONDS)
        os.close(self._lifeline)
        if process.returncode != 0:
            kill_marked(self.folder)


def _readable(*fds: int, milliseconds: int | None = None) -> set[int]:
    """Wait until one of them can be read. Not `select.select`, which takes no number beyond 1023."""
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return {fd for fd, _ in poll.poll(milliseconds)}
