"""Inner runs of pytest: subprocesses with real signals, a folder for temporary files of their own, and a mark."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pratique.core import procfs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MARK = "PRATIQUE_INNER_RUN"
_RUN_SECONDS = 60.0
_ONLY_OURS = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": "pratique.testkit.plugin,xdist.plugin"}
"""An inner run takes a quarter of a second then, and two with every plugin that happens to be installed."""


@dataclass
class InnerRun:
    """One run of pytest in a session of its own. Whatever it starts inherits its mark."""

    folder: Path
    temporary: Path
    mark: str = field(default_factory=lambda: secrets.token_hex(8))
    process: subprocess.Popen[str] | None = None

    def start(self, *words: str, **environment: str) -> InnerRun:
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-W", "error", *words]
        self.process = subprocess.Popen(
            command,
            cwd=self.folder,
            env={**quiet_environment(), "TMPDIR": str(self.temporary), _MARK: self.mark, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        return self

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def finish(self) -> tuple[int, str]:
        """Wait for its end; return its exit code and all it said."""
        assert self.process is not None
        output, _ = self.process.communicate(timeout=_RUN_SECONDS)
        return self.process.returncode, output

    def reach(self, phase: str) -> str:
        """Wait until the tests inside say that they have come to a phase; return what they wrote."""
        file = self.folder / phase
        wait_until(lambda: file.exists() and file.read_text() != "", seconds=_RUN_SECONDS)
        return file.read_text()

    def processes(self) -> set[int]:
        """Return all processes of the run that live: pytest, workers, host, servers."""
        wanted = f"{_MARK}={self.mark}".encode()
        return {entry.pid for entry in procfs.list_processes() if not entry.is_zombie and wanted in environ(entry.pid)}

    def folders(self) -> list[str]:
        """Return what the test kit has in the folder for temporary files."""
        return sorted(path.name for path in self.temporary.glob("pratique-*"))

    def end(self) -> None:
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if self.process is not None:
            self.process.communicate(timeout=_RUN_SECONDS)


def quiet_environment() -> dict[str, str]:
    """Return this process's environment for an inner run: our plugin and xdist only, services from this machine.

    Without CI, where pytest repeats whole messages in its summary.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PRATIQUE_TEST_")}
    kept.pop("CI", None)
    return {**kept, **_ONLY_OURS}


def environ(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def wait_until(is_so: Callable[[], bool], *, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def quiet_inner_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for the runs that pytester makes."""
    monkeypatch.delenv("CI", raising=False)
    for name in [name for name in os.environ if name.startswith("PRATIQUE_TEST_")]:
        monkeypatch.delenv(name)
    for name, value in _ONLY_OURS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(name="wait_until")
def wait_until_fixture() -> Callable[..., None]:
    return wait_until


@pytest.fixture
def inner(tmp_path: Path) -> Iterator[Callable[..., InnerRun]]:
    """Make a run: `inner(test_a="source", conftest="source")`. Not started yet."""
    runs: list[InnerRun] = []
    temporary = tmp_path / "temporary"
    temporary.mkdir()

    def make(**sources: str) -> InnerRun:
        folder = tmp_path / f"run{len(runs)}"
        folder.mkdir()
        (folder / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers --strict-config\n")
        for name, source in sources.items():
            (folder / f"{name}.py").write_text(textwrap.dedent(source))
        runs.append(InnerRun(folder, temporary))
        return runs[-1]

    yield make
    for run in runs:
        run.end()
