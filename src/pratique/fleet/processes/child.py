"""One run of one program: started in a session of its own, watched through a pidfd, ended with all it started.

The child is told by the kernel to die with the supervisor (PR_SET_PDEATHSIG); what it starts in turn is the guardian's
to end. Its output comes line by line through one pipe.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pratique.core import procfs
from pratique.fleet.processes.logs import LineBuffer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

__all__ = ["Child", "Program"]

_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None)
_READ_BYTES: Final = 64 * 1024
_GONE_SECONDS: Final = 5.0


@dataclass(frozen=True, kw_only=True)
class Program:
    """What is run. `environment` is all of it: nothing is inherited."""

    command: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)  # may hold a password
    folder: Path


class Child:
    """A running program. Make with `start`, then await `wait`, then call `close`."""

    def __init__(self, program: Program, take_line: Callable[[bytes], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._exited: asyncio.Future[int] = self._loop.create_future()
        self._lines = LineBuffer(take_line)
        self._output, write_end = os.pipe()
        os.set_blocking(self._output, False)
        try:
            self._process = _spawn(program, write_end)
        except BaseException:
            os.close(self._output)
            raise
        finally:
            os.close(write_end)
        self.pid = self._process.pid
        self._pidfd = os.pidfd_open(self.pid)
        self._loop.add_reader(self._pidfd, self._on_exit)
        self._loop.add_reader(self._output, self._on_output)

    @property
    def has_exited(self) -> bool:
        return self._exited.done()

    async def wait(self) -> int:
        """Return the exit code, or minus the signal's number. A cancelled wait leaves the program running."""
        return await asyncio.shield(self._exited)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the program itself."""
        if not self.has_exited:
            self._process.send_signal(number)

    async def terminate(self, grace_seconds: float) -> int:
        """Ask it to end, and kill it with all it started where it has not within the grace; return the exit code."""
        self.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(grace_seconds):
                return await self.wait()
        except TimeoutError:
            self.kill()
            return await self.wait()

    def kill(self) -> None:
        """Kill it and its group at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    async def close(self) -> None:
        """End what it left behind in its session, and take in the last of its output. After its exit."""
        self.kill()
        await asyncio.to_thread(
            procfs.kill_until_gone,
            lambda entries: {entry.pid for entry in entries if entry.session == self.pid},
            within_seconds=_GONE_SECONDS,
        )
        self._stop_reading()

    def _on_exit(self) -> None:
        code = self._process.poll()
        if code is None:
            return
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._exited.set_result(code)

    def _on_output(self) -> None:
        try:
            data = os.read(self._output, _READ_BYTES)
        except BlockingIOError:
            return
        if data:
            self._lines.feed(data)
        else:
            self._stop_reading()

    def _stop_reading(self) -> None:
        if self._output < 0:
            return
        self._loop.remove_reader(self._output)
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._output, _READ_BYTES):
                self._lines.feed(data)
        self._lines.close()
        os.close(self._output)
        self._output = -1


def _spawn(program: Program, output: int) -> subprocess.Popen[bytes]:
    parent = os.getpid()

    def die_with_parent() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return subprocess.Popen(  # noqa: S603 - commands come from the stack's plan
        program.command,
        env=dict(program.environment),
        cwd=program.folder,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
        preexec_fn=die_with_parent,  # noqa: PLW1509 - two system calls; no lock that another thread could hold
    )
