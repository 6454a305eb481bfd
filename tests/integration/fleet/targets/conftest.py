"""A local target over small programs, and clients that load it."""

from __future__ import annotations

import contextlib
import http.client
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pratique.fleet.targets.local import LocalSettings, LocalTarget
from pratique.testkit.ports import reserved_port

PROGRAM = Path(__file__).with_name("replica_program.py")


@dataclass
class Load:
    """Clients that ask all the time, each on connections of its own."""

    port: int
    clients: int = 4
    answers: Counter[str] = field(default_factory=Counter)
    stopped: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._threads = [threading.Thread(target=self._ask) for _ in range(self.clients)]
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:
        while not self.stopped.wait(0.005):
            self.answers[ask(self.port)] += 1

    def stop(self) -> None:
        self.stopped.set()
        for thread in self._threads:
            thread.join(30)


def ask(port: int) -> str:
    """Return who answered, or why nobody did."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", "/")
        answer = connection.getresponse()
        text = answer.read().decode()
    except OSError as error:
        return type(error).__name__
    else:
        return text if answer.status == 200 else f"status {answer.status}"
    finally:
        connection.close()


@dataclass
class Stage:
    """A local target, and what its programs are like."""

    settings: LocalSettings
    programs: Path

    def make(self, digest: str, what: str, value: str = "") -> None:
        (self.programs / f"{digest.removeprefix('sha256:')[:4]}.{what}").write_text(value)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with contextlib.ExitStack() as kept:
        ports = [kept.enter_context(reserved_port()) for _ in range(4)]
        settings = LocalSettings(
            folder=tmp_path / "target",
            command=(sys.executable, str(PROGRAM), "{digest}", "{port}", str(tmp_path)),
            port=ports[0],
            admin_port=ports[1],
            slot_ports=(ports[2], ports[3]),
            ready_seconds=20.0,
            drain_seconds=10.0,
            grace_seconds=2.0,
        )
        yield Stage(settings, tmp_path)


@pytest.fixture
def target(stage: Stage) -> Iterator[LocalTarget]:
    made = LocalTarget(stage.settings)
    yield made
    made.close()


@pytest.fixture
def load(target: LocalTarget, stage: Stage) -> Iterator[Load]:
    """Load that begins with the test's first release; `target` first, so that it is ended last."""
    made = Load(stage.settings.port)
    yield made
    made.stop()
