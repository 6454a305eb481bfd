"""Servers that outlive a run on request: shared by runs, ended by time, and never somebody else's."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pratique.core import procfs
from pratique.testkit.errors import TestkitUsageError
from pratique.testkit.host.client import HostClient
from pratique.testkit.host.launch import ProcessLaunch, Status, Statuses, TcpReady
from pratique.testkit.host.owner import OwnedHost
from pratique.testkit.host.reuse import ReusedHost, end_reused_hosts, reuse_folder
from pratique.testkit.host.supervisor import Host

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.integration

SOURCE = (
    "import socket, time; s = socket.socket(); s.setsockopt(1, 2, 1); s.bind(('127.0.0.1', {port})); s.listen();"
    "time.sleep(60)"
)
SERVER = ProcessLaunch(command=(sys.executable, "-S", "-c", SOURCE), ready=TcpReady())

TEST = """
    import pathlib
    def test_it(valkey):
        pathlib.Path("pid").write_text(str(valkey.client().info("server")["process_id"]))
        valkey.client().set(valkey.key("left"), 1)
    def test_clean(valkey):
        assert valkey.endpoint.admin.dbsize() == 0
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files of its own; whatever is reused in it ends with the test."""
    folder = tmp_path / "temporary"
    folder.mkdir(exist_ok=True)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    end_reused_hosts()


@pytest.mark.parametrize("words", [(), ("-n2",)], ids=["alone", "workers"])
def test_second_run_gets_the_server_of_the_first(
    inner: Callable[..., Any], temporary: Path, words: tuple[str, ...]
) -> None:
    pids = []
    for _ in range(2):
        run = inner(test_a=TEST).start("--pratique-reuse-seconds=60", *words)
        code, output = run.finish()
        assert code == 0, output
        pids.append((run.folder / "pid").read_text())
    assert pids[0] == pids[1]
    assert temporary.exists()
    hosts = end_reused_hosts()
    assert (len(hosts.ended), hosts.left) == (1, [])
    assert not procfs.is_alive(int(pids[0]))
    assert end_reused_hosts() == ([], [])


def test_runs_at_once_share_one_server(inner: Callable[..., Any], temporary: Path) -> None:
    runs = [inner(test_a=TEST.replace("== 0", ">= 0")).start("--pratique-reuse-seconds=60") for _ in range(3)]
    assert [run.finish()[0] for run in runs] == [0, 0, 0]
    assert temporary.exists()
    assert len({(run.folder / "pid").read_text() for run in runs}) == 1


def test_run_that_asks_for_nothing_starts_no_host(inner: Callable[..., Any], temporary: Path) -> None:
    code, output = inner(test_a="def test_it(): pass\n").start("--pratique-reuse").finish()
    assert code == 0, output
    assert list(temporary.glob("pratique-*")) == []


def test_host_ends_when_it_was_idle_and_not_before(temporary: Path, wait_until: Callable[..., None]) -> None:
    host = ReusedHost(reuse_folder(), idle_seconds=0.3)
    running = host.client.ensure("one", SERVER)
    time.sleep(0.6)
    assert host.client.ensure("one", SERVER) == running  # the lease keeps it
    host.close()
    wait_until(lambda: not procfs.is_alive(running.pid))
    wait_until(lambda: not reuse_folder().exists())
    assert temporary.exists()


def test_path_after_the_switch_is_a_path(inner: Callable[..., Any], temporary: Path) -> None:
    run = inner(test_a="def test_it(): pass\n", test_b="def test_it(): assert 0\n")
    code, output = run.start("--pratique-reuse", "test_a.py").finish()
    assert code == 0, output
    assert "1 passed" in output
    assert temporary.exists()


def test_kill_of_a_run_leaves_the_reused_server(
    inner: Callable[..., Any], temporary: Path, wait_until: Callable[..., None]
) -> None:
    hang = (
        TEST
        + "\n    def test_hang(valkey):\n        pathlib.Path('up').write_text('x'); __import__('time').sleep(60)\n"
    )
    run = inner(test_a=hang).start("--pratique-reuse-seconds=60")
    run.reach("up")
    os.kill(run.pid, signal.SIGKILL)
    wait_until(lambda: not procfs.is_alive(run.pid))
    again = inner(test_a=TEST.replace("== 0", ">= 0")).start("--pratique-reuse-seconds=60")
    assert again.finish()[0] == 0
    assert (again.folder / "pid").read_text() == (run.folder / "pid").read_text()
    assert temporary.exists()


def test_host_that_was_killed_is_replaced(temporary: Path) -> None:
    first = ReusedHost(reuse_folder(), idle_seconds=60)
    old = first.client.ensure("one", SERVER)
    os.kill(first.client.status().pid, signal.SIGKILL)
    first.close()
    second = ReusedHost(reuse_folder(), idle_seconds=60)
    new = second.client.ensure("one", SERVER)
    assert new.pid != old.pid
    assert second.was_asked()
    second.close()
    assert temporary.exists()


SLOW_END = ProcessLaunch(
    command=(
        *(sys.executable, "-S", "-c"),
        "import signal, sys, time; signal.signal(15, lambda *_: (time.sleep(1), sys.exit())); " + SOURCE,
    ),
    ready=TcpReady(),
)


def test_host_that_ends_late_leaves_its_successor_alone(temporary: Path, wait_until: Callable[..., None]) -> None:
    first = ReusedHost(reuse_folder(), idle_seconds=60)
    first.client.ensure("one", SLOW_END)
    ending = first.client.status().pid
    os.kill(ending, signal.SIGTERM)
    second = ReusedHost(reuse_folder(), idle_seconds=60)
    new = second.client.ensure("one", SERVER)
    assert procfs.is_alive(ending)
    first.close()
    wait_until(lambda: not procfs.is_alive(ending))
    assert Path(new.folder).is_dir()
    assert second.client.ensure("one", SERVER) == new
    second.close()
    assert len([path for path in temporary.glob("pratique-*/*-*") if path.is_dir()]) == 1


def test_host_that_was_stopped_and_goes_on_leaves_its_successor_alone(
    temporary: Path, wait_until: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ReusedHost(reuse_folder(), idle_seconds=0.1)
    old = first.client.ensure("one", SERVER)
    stopped = first.client.status().pid
    first.close()
    os.kill(stopped, signal.SIGSTOP)
    monkeypatch.setattr("pratique.testkit.host.client._ASK_SECONDS", 0.3)
    monkeypatch.setattr(HostClient._ask, "__kwdefaults__", {"seconds": 0.3})
    second = ReusedHost(reuse_folder(), idle_seconds=60)
    new = second.client.ensure("one", SERVER)
    assert procfs.is_alive(old.pid)  # what a living host has is not swept
    os.kill(stopped, signal.SIGCONT)
    wait_until(lambda: not procfs.is_alive(stopped))
    assert Path(new.folder).is_dir()
    assert second.client.ensure("one", SERVER) == new
    second.close()
    assert temporary.exists()


def test_host_that_is_ending_is_not_taken_for_one_that_stays(temporary: Path) -> None:
    host = Host(temporary, {})
    host.is_ending = True
    status = asyncio.run(host.answer(Status()))
    assert isinstance(status, Statuses)
    assert status.is_ending


def test_other_launch_is_another_server(temporary: Path) -> None:
    host = ReusedHost(reuse_folder(), idle_seconds=60)
    assert host.client.ensure("one", SERVER).pid != host.client.ensure("two", SERVER).pid
    host.close()
    assert temporary.exists()


@pytest.mark.parametrize("attack", ["open to all", "a link", "a file"])
def test_folder_that_is_not_ours_alone_is_refused(temporary: Path, attack: str) -> None:
    folder = temporary / f"pratique-testkit-reuse-{os.getuid()}"
    match attack:
        case "open to all":
            folder.mkdir()
            folder.chmod(0o777)
        case "a link":
            (temporary / "elsewhere").mkdir(mode=0o700)
            folder.symlink_to(temporary / "elsewhere")
        case _:
            folder.write_text("")
    host = ReusedHost(reuse_folder(), idle_seconds=60)
    assert not host.was_asked()
    with pytest.raises(TestkitUsageError, match="not this user's alone"):
        host.client.status()
    assert end_reused_hosts() == ([], [])


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_folder_of_another_user_is_refused(temporary: Path) -> None:
    folder = temporary / "pratique-testkit-reuse-0"
    folder.mkdir(mode=0o700)
    os.chown(folder, 12345, 12345)
    with pytest.raises(TestkitUsageError, match="not this user's alone"):
        ReusedHost(reuse_folder(), idle_seconds=60).client.status()
    os.chown(folder, 0, 0)


def test_folder_depends_on_the_python_and_on_what_is_spoken(monkeypatch: pytest.MonkeyPatch) -> None:
    here = reuse_folder()
    monkeypatch.setattr("sys.executable", "/another/python")
    assert reuse_folder() != here


def test_sweep_spares_folders_of_others_and_of_runs_that_live(temporary: Path) -> None:
    alive = OwnedHost()
    alive.client.status()
    foreign = temporary / "pratique-testkit-run-foreign"
    foreign.mkdir()
    foreign.chmod(0o755)
    (foreign / "owner.lock").touch()
    link = temporary / "pratique-testkit-run-link"
    link.symlink_to(foreign)
    making = temporary / "pratique-testkit-run-making"
    making.mkdir(mode=0o700)
    dead, old = temporary / "pratique-testkit-run-dead", temporary / "pratique-testkit-run-old"
    for folder in (dead, old):
        folder.mkdir(mode=0o700)
    (dead / "owner.lock").touch()
    os.utime(old, (0, 0))
    other = OwnedHost()
    other.client.status()
    other.close()
    assert alive.client.status().servers == ()
    assert {path.name for path in temporary.glob("*run-*")} == {alive.folder.name, foreign.name, link.name, making.name}
    alive.close()
