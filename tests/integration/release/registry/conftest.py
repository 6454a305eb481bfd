"""Our front before Debian's registry, in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pratique.testkit.services.registry import RegistryEndpoint, RegistryNamespace

SECONDS = 20


@dataclass
class RunningFront:
    """A front that takes connections."""

    address: str
    process: subprocess.Popen[str]
    said: list[str]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(SECONDS)

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(SECONDS)


def launch(upstream: str, state: Path, *flags: str) -> RunningFront:
    words = ["registry", "serve", "--upstream", upstream, "--state-dir", str(state), "--port", "0", *flags]
    process = subprocess.Popen(
        [sys.executable, "-m", "pratique.cli.main", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
    )
    said: list[str] = []
    assert process.stdout is not None
    assert process.stderr is not None
    stderr = process.stderr

    def note() -> None:
        with stderr:
            said.extend(stderr)

    threading.Thread(target=note, daemon=True).start()
    with process.stdout:
        line = process.stdout.readline()
    if not line.startswith("listening on http://"):
        process.kill()
        process.wait(SECONDS)
        pytest.fail(f"the front did not start: {line}{''.join(said)}")
    return RunningFront(line.split("//")[1].strip(), process, said)


@pytest.fixture(scope="module")
def front(pratique_registry: RegistryEndpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFront]:
    started = launch(pratique_registry.url, tmp_path_factory.mktemp("front"))
    yield started
    code = started.stop()
    assert code == 0, "".join(started.said)


@pytest.fixture
def start_front() -> Iterator[Callable[..., RunningFront]]:
    """Start fronts that end with the test."""
    started: list[RunningFront] = []

    def start(*words: object) -> RunningFront:
        upstream, state, *flags = words
        front = launch(str(upstream), Path(str(state)), *map(str, flags))
        started.append(front)
        return front

    yield start
    codes = [front.stop() for front in started]
    assert set(codes) <= {0, -signal.SIGKILL}, [front.said for front in started]


@pytest.fixture
def repository(front: RunningFront, registry: RegistryNamespace) -> str:
    """A repository of this test, by way of the front."""
    return f"{front.address}/{registry.repository('app')}"
