"""A host that outlives the run, for quick runs one after another. It ends when nobody has used it for some time.

It is found by a link, whose name depends on the user, the Python and the version of what is spoken, and which leads to
the folder of the host. Each host has a new folder, and holds a lock on it: one that ends late, or was stopped and goes
on, removes what is its own and never what its successor has. The folder for temporary files is open to all users of
the machine: a folder there that is not ours alone is refused.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from pratique.core import procfs
from pratique.testkit.errors import HostGoneError, TestkitUsageError
from pratique.testkit.host import launch
from pratique.testkit.host.client import HostClient
from pratique.testkit.host.owner import listen, start_host
from pratique.testkit.host.remains import is_private, lock_folder, sweep

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pratique.testkit.host.launch import Statuses

__all__ = ["HostsEnded", "ReusedHost", "end_reused_hosts", "reuse_folder", "reused_hosts"]

_END_SECONDS: Final = 15.0
_PAUSE_SECONDS: Final = 0.02


def reuse_folder() -> Path:
    """Return the link to the folder of the host that runs like this one share."""
    spoken = Path(launch.__file__).read_bytes()
    digest = hashlib.sha256(b"\0".join((sys.executable.encode(), sys.version.encode(), spoken))).hexdigest()
    return _all_of_user() / digest[:12]


def _all_of_user() -> Path:
    return Path(tempfile.gettempdir()) / f"pratique-testkit-reuse-{os.getuid()}"


class ReusedHost:
    """The host that one link leads to, started by the first request of a run unless it runs already."""

    def __init__(self, link: Path, *, idle_seconds: float) -> None:
        self.client = HostClient(link / "host.sock", prepare=self._prepare)
        self._plain = HostClient(self.client.address)
        self._link = link
        self._idle_seconds = idle_seconds
        self._lease: socket.socket | None = None
        self._lock = threading.Lock()

    def serve_workers(self) -> None:
        """Do nothing: whoever is first starts it, a worker too."""

    def was_asked(self) -> bool:
        """Whether there is one."""
        if self._lease is None:
            try:
                self._plain.lease().close()
            except HostGoneError:
                return False
        return True

    def close(self) -> None:
        """Leave it to itself."""
        with self._lock:
            if self._lease is not None:
                self._lease.close()
                self._lease = None

    def _prepare(self) -> None:
        """Connect to the host that is there, or start one. Two runs that begin together get the same one."""
        with self._lock:
            if self._lease is not None:
                return
            _make_private(self._link.parent)
            with self._link.with_suffix(".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                self._lease = self._lease_or_start()

    def _lease_or_start(self) -> socket.socket:
        with contextlib.suppress(HostGoneError):
            return self._lease_of_living()
        sweep(f"{self._link.name}-", self._link.parent)  # of hosts that were killed
        folder = self._link.with_name(f"{self._link.name}-{secrets.token_hex(6)}")
        folder.mkdir(mode=0o700)
        try:
            self._start(folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return self._plain.lease()

    def _start(self, folder: Path) -> None:
        making = folder / "link"
        making.symlink_to(folder.name)
        # The host takes the lock over with its file, and holds it for as long as it lives.
        with lock_folder(folder) as lock, listen(folder / "host.sock") as listener:
            process = start_host(folder, listener, "--idle", str(self._idle_seconds), fds=(lock.fileno(),))
            process.returncode = 0  # it outlives us: nobody waits for it, nor has to be warned that nobody did
        making.replace(self._link)

    def _lease_of_living(self) -> socket.socket:
        lease = self._plain.lease()
        try:
            status = self._plain.status()  # a host that is just being killed may still take connections
        except HostGoneError:
            lease.close()
            raise
        if status.is_ending:
            lease.close()
            raise HostGoneError(f"The host {status.pid} is ending.")
        return lease


def _make_private(folder: Path) -> None:
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if not is_private(folder):
        raise TestkitUsageError(
            f"The folder of reused servers, {folder}, is not this user's alone: expected a folder of mode 0700.",
            hint="Somebody else may have made it. Remove it, or let TMPDIR name another folder.",
        )


class HostsEnded(NamedTuple):
    """What became of the hosts that were asked to end, by their process ids."""

    ended: list[int]
    left: list[int]
    """They still run."""


def end_reused_hosts() -> HostsEnded:
    """End every host of this user that waits to be reused, with its servers. Waits for it, up to 15 s."""
    pids = [status.pid for status in reused_hosts()]
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _END_SECONDS
    while any(map(procfs.is_alive, pids)) and time.monotonic() < deadline:
        time.sleep(_PAUSE_SECONDS)
    left = [pid for pid in pids if procfs.is_alive(pid)]
    return HostsEnded(ended=[pid for pid in pids if pid not in left], left=left)


def reused_hosts() -> list[Statuses]:
    """Return what every host of this user that waits to be reused says of itself."""
    return list(_statuses()) if is_private(_all_of_user()) else []


def _statuses() -> Iterator[Statuses]:
    for address in sorted(_all_of_user().glob("*-*/host.sock")):
        with contextlib.suppress(HostGoneError):
            yield HostClient(address).status()
