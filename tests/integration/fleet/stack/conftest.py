"""The stack as its commands run it, with the simulated engine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from pratique.core import procfs
from pratique.fleet.processes.marker import has_marker
from pratique.fleet.stack.home import is_locked, state_key
from pratique.fleet.stack.settings import StackPaths

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CONFIG = """
[stack]
engine = "simulated"
port = 0
inference = 2
orchestrators = 2
orchestrator_grace_seconds = 3
inference_grace_seconds = 3

[orchestrator]
drain_seconds = 1

[inference]
drain_seconds = 1
simulated = { load_seconds = 0.1, token_seconds = 0.002 }
"""


def until(condition: Callable[[], bool], what: str, within: float = 30.0) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"not within {within} s: {what}"
        time.sleep(0.02)


@dataclass
class Home:
    """A state folder and the commands that work on it."""

    root: Path
    config: Path

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "pratique.cli.main", *arguments, "--state-dir", str(self.root)]

    def run(self, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments), capture_output=True, text=True, timeout=timeout, check=False, cwd=self.root.parent
        )

    def up(self, *flags: str) -> subprocess.CompletedProcess[str]:
        return self.run("up", "--config", str(self.config), *flags)

    def start_in_foreground(self, *flags: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command("up", "--config", str(self.config), *flags),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            # A shell ignores Ctrl-C for what it runs in the background, and that is inherited; a terminal does not.
            preexec_fn=_heed_interrupts,  # noqa: PLW1509 - no thread of this process holds a lock by then
        )

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run("status", "--json").stdout)
        return found

    def service(self, name: str) -> dict[str, Any]:
        return next(dict(service) for service in self.status()["services"] if service["name"] == name)

    def processes(self) -> set[int]:
        """All processes of any stack in this folder, wherever they went."""
        key = state_key(self.root)
        return {entry.pid for entry in procfs.list_processes() if has_marker(entry.pid, key)}

    def supervisors(self) -> set[int]:
        found = set()
        for entry in procfs.list_processes():
            try:
                with open(f"/proc/{entry.pid}/cmdline", "rb") as file:  # noqa: PTH123 - not a file on a disk
                    line = file.read()
            except OSError:
                continue
            if b"pratique.fleet.processes.guardian" in line and state_key(self.root).encode() in line:
                found.add(entry.pid)
        return found

    def nothing_is_left(self) -> bool:
        return not self.processes() and not self.supervisors()


@pytest.fixture(scope="session")
def make_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Home]]:
    made: list[Home] = []

    def make(config: str = CONFIG) -> Home:
        folder = tmp_path_factory.mktemp("stack")
        (folder / "pratique.toml").write_text(config, encoding="utf-8")
        home = Home(root=folder / "state", config=folder / "pratique.toml")
        made.append(home)
        return home

    yield make
    for home in made:
        if is_locked(StackPaths(root=home.root, model_root=home.root)):
            home.run("down")
        for pid in home.processes():
            os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="session")
def stack(make_home: Callable[..., Home]) -> Home:
    """A running stack that tests may disturb, as long as it is whole again afterwards."""
    home = make_home()
    started = home.up("--detach")
    assert started.returncode == 0, started.stderr
    until(lambda: all(service["ready"] for service in home.status()["services"]), "every service is ready")
    return home


def _heed_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
