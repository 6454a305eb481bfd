"""The owner's end of the host, where it does not go well; and how long its client waits."""

from __future__ import annotations

import fcntl
import os
import resource
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pratique.testkit.errors import HostGoneError
from pratique.testkit.host import owner
from pratique.testkit.host.client import HostClient
from pratique.testkit.host.owner import OwnedHost

pytestmark = pytest.mark.unit


@pytest.fixture
def owned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OwnedHost:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return OwnedHost()


def open_files() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def test_host_that_cannot_be_started_leaves_no_file_open(owned: OwnedHost, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("no more processes")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    before = open_files()
    with pytest.raises(HostGoneError, match="could not be started: no more processes"):
        owned.client.status()
    owned.close()
    assert open_files() == before
    assert not owned.folder.exists()


def test_file_with_a_number_beyond_those_of_select_is_waited_for() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    reading, writing = os.pipe()
    high = fcntl.fcntl(reading, fcntl.F_DUPFD_CLOEXEC, 1024)
    try:
        assert owner._readable(high, milliseconds=0) == set()
        os.write(writing, b"x")
        assert owner._readable(high) == {high}
    finally:
        for fd in (reading, writing, high):
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Stuck:
    """A process that does not end, whatever it is told."""

    returncode = None

    def __init__(self) -> None:
        self.waits: list[float | None] = []

    def wait(self, timeout: float | None = None) -> int:
        self.waits.append(timeout)
        raise subprocess.TimeoutExpired("host", timeout or 0)

    def kill(self) -> None: ...


def test_host_that_cannot_even_be_killed_is_left_behind(owned: OwnedHost) -> None:
    stuck: Any = Stuck()
    reading, owned._lifeline = os.pipe()
    owned._end(stuck)
    assert len(stuck.waits) == 2
    assert None not in stuck.waits
    assert os.read(reading, 2) == b"x"
    os.close(reading)


@pytest.mark.parametrize(
    ("action", "start_seconds", "waited"), [("pause", 0.0, 120.0), ("restart", 2.0, 120.0), ("restart", 600.0, 1815.0)]
)
def test_restart_is_waited_for_as_long_as_its_launch_may_start(
    monkeypatch: pytest.MonkeyPatch, action: str, start_seconds: float, waited: float
) -> None:
    seen: list[float] = []

    def send(_: HostClient, __: object, *, seconds: float) -> socket.socket:
        seen.append(seconds)
        here, there = socket.socketpair()
        with there:
            there.sendall(b'{"type":"ok"}\n')
        return here

    monkeypatch.setattr(HostClient, "_send", send)
    assert HostClient(Path("/no/host")).signal("a", action, start_seconds=start_seconds) is None
    assert seen == [waited]
