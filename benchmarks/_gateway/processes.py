"""Processes under measurement: started, waited for, weighed, ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

__all__ = ["Measured", "running", "wait_for_http"]

_START_SECONDS = 120.0
_END_SECONDS = 15.0


class Measured:
    """A process and all its children."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log

    def cpu_seconds(self) -> float:
        """CPU time of all of them so far, with the resolution of the kernel's own account."""
        return sum(_cpu_seconds(process.pid) for process in self._tree())

    def rss_bytes(self) -> int:
        return sum(process.memory_info().rss for process in self._tree())

    def uss_bytes(self) -> int:
        """Memory that belongs to them alone."""
        return sum(process.memory_full_info().uss for process in self._tree())

    def check(self) -> None:
        """Raise where it has ended."""
        if self.process.poll() is not None:
            raise RuntimeError(f"The process ended with {self.process.returncode}:\n{self.tail()}")

    def tail(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")[-3000:]

    def _tree(self) -> list[psutil.Process]:
        process = psutil.Process(self.process.pid)
        return [process, *process.children(recursive=True)]


def _cpu_seconds(pid: int) -> float:
    # The clock of another process, as clock_getcpuclockid(3) names it; psutil's figure comes in steps of 10 ms.
    return time.clock_gettime((~pid << 3) | 2)


@contextlib.contextmanager
def running(command: Sequence[str | Path], *, folder: Path, **environment: str) -> Iterator[Measured]:
    """Run a program for as long as the body; its output goes to a file that is shown where the body fails."""
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".log", delete=False) as log:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "COVERAGE_PROCESS_CONFIG": "", **environment},
            cwd=folder,
        )
    measured = Measured(process, Path(log.name))
    try:
        yield measured
    except Exception as error:
        error.add_note(measured.tail())
        raise
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        children = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        children = []
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for child in psutil.wait_procs(children, timeout=2)[1]:
        child.kill()


def wait_for_http(measured: Measured, url: str) -> None:
    """Return once the address answers with 200."""
    deadline = time.monotonic() + _START_SECONDS
    while True:
        measured.check()
        try:
            with urllib.request.urlopen(url, timeout=2) as response:  # noqa: S310 - http, on this machine
                if response.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            if time.monotonic() > deadline:
                raise
        time.sleep(0.1)
