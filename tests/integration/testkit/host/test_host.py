"""The host under bad requests, bad servers, stolen ports and deaths, without pytest around it."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from pratique.core import procfs
from pratique.testkit.errors import HostGoneError, ServiceStartError, TestkitUsageError
from pratique.testkit.host.client import HostClient, short_path
from pratique.testkit.host.launch import HttpReady, ProcessLaunch, RedisReady, TcpReady
from pratique.testkit.host.owner import OwnedHost

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

LISTEN = (
    "import socket, time; s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1);"
    "s.bind(('127.0.0.1', {port})); s.listen(); "
)


def launch(source: str, **options: object) -> ProcessLaunch:
    given = {"ready": TcpReady(), "start_seconds": 10.0, **options}
    return ProcessLaunch(command=(sys.executable, "-S", "-c", source), **given)  # type: ignore[arg-type]  # any of them


SERVER = launch(LISTEN + "time.sleep(60)")


@pytest.fixture
def owned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OwnedHost]:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    owned = OwnedHost()
    yield owned
    owned.close()
    assert not owned.folder.exists()


@pytest.fixture
def host(owned: OwnedHost) -> HostClient:
    return owned.client


# Requests


def say(host: HostClient, *parts: bytes) -> bytes:
    with host.lease() as connection, connection.makefile("rb") as answers:
        for part in parts:
            connection.sendall(part)
        connection.shutdown(socket.SHUT_WR)
        return bytes(answers.readline())


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"{}\n",
        b"[]\n",
        b'{"type":"fly"}\n',
        b'{"type":"ensure","key":1}\n',
        b'{"type":"tail","key":"x","lines":"many"}\n',
        b"\xff\xfe\n",
        b"[" * 100_000 + b"\n",
        b'{"type":"stop","key":"half',
    ],
)
def test_request_that_means_nothing_is_answered_and_the_next_one_works(host: HostClient, line: bytes) -> None:
    assert b'"type":"failure"' in say(host, line)
    assert host.status().servers == ()


def test_line_beyond_the_bound_ends_its_connection_only(host: HostClient) -> None:
    try:
        answer = say(host, b"x" * (5 * 1024 * 1024), b"\n")
    except OSError:
        answer = b""
    assert answer == b""
    assert host.status().servers == ()
    with pytest.raises(TestkitUsageError, match="the host reads at most"):
        host.ensure("large", ProcessLaunch(command=("x",), ready=TcpReady(), files={"a": "x" * 5_000_000}))


def test_unknown_server_is_named_with_those_that_are_known(host: HostClient) -> None:
    host.ensure("known", SERVER)
    for ask in (lambda: host.tail("other"), lambda: host.signal("other", "kill"), lambda: host.stop("other")):
        with pytest.raises(ServiceStartError, match=r"no server 'other'.*known"):
            ask()
    with pytest.raises(ServiceStartError, match="got 'explode'"):
        host.signal("known", "explode")


def test_a_hundred_that_ask_at_once_get_one_server(host: HostClient) -> None:
    with ThreadPoolExecutor(100) as pool:
        found = list(pool.map(lambda _: host.ensure("one", SERVER), range(100)))
    assert len({(running.pid, running.port) for running in found}) == 1


def test_client_that_leaves_while_a_server_starts_leaves_it_to_the_next(host: HostClient) -> None:
    slow = launch("import time; time.sleep(0.5);" + LISTEN + "time.sleep(60)")
    host.begin("slow", slow, label="slow/process")
    status = host.status()
    assert status.starting == ("slow",)
    assert status.labels == {"slow": ("slow/process",)}
    assert host.ensure("slow", slow).starts == 1


# Servers that do not start


def test_failure_of_a_start_is_told_to_all_that_waited_for_it_and_tried_once(host: HostClient, tmp_path: Path) -> None:
    counting = f"open({str(tmp_path / 'tries')!r}, 'a').write('x'); import time; time.sleep(0.5); raise SystemExit(7)"

    def ask(_: int) -> str:
        with pytest.raises(ServiceStartError) as caught:
            host.ensure("bad", launch(counting))
        return str(caught.value)

    with ThreadPoolExecutor(8) as pool:
        said = set(pool.map(ask, range(8)))
    assert len(said) == 1
    assert "bad ended with exit code 7" in said.pop()
    assert (tmp_path / "tries").read_text() == "x"
    assert host.ensure("bad", SERVER).starts == 1


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (ProcessLaunch(command=("/no/such/program",), ready=TcpReady()), "could not be started.*No such file"),
        (ProcessLaunch(command=(), ready=TcpReady()), "its command is empty"),
        (ProcessLaunch(command=("nul\0",), ready=TcpReady()), "could not be started.*null byte"),
        (ProcessLaunch(command=("true",), ready=TcpReady()), "ended with exit code 0. It logged nothing"),
        (ProcessLaunch(command=("sh", "-c", "kill -9 $$"), ready=TcpReady()), "was ended by signal 9"),
        (launch("import time; time.sleep(60)", start_seconds=0.3), r"was not ready after 0\.[3-9]"),
        (launch("print('why', flush=True); raise SystemExit(1)"), "Its last log lines:\nwhy"),
        (launch("print('x' * 10_000_000)\nprint('the end', flush=True); raise SystemExit(1)"), "the end"),
        (launch(LISTEN + "s.accept(); time.sleep(60)", ready=RedisReady(), start_seconds=0.3), "was not ready"),
        (
            launch(LISTEN + "s.accept()[0].send(b'-ERR\\r\\n'); time.sleep(9)", ready=RedisReady(), start_seconds=0.3),
            "not",
        ),
        (launch(LISTEN + "s.accept()[0].send(b'x'*9999); time.sleep(9)", ready=HttpReady(), start_seconds=0.3), "not"),
    ],
)
def test_server_that_does_not_get_ready_says_why(host: HostClient, bad: ProcessLaunch, message: str) -> None:
    with pytest.raises(ServiceStartError, match=rf"(?s){message}"):
        host.ensure("bad", bad)
    assert host.status().servers == ()
    children = procfs.descendants(procfs.list_processes(), host.status().pid)
    assert not [pid for pid in children if procfs.is_alive(pid)]


def test_files_environment_and_command_carry_port_and_folder(host: HostClient) -> None:
    source = (
        "import os, socket, time; port, folder = open('deep/er.txt').read().split();"
        "assert os.environ['WHERE'] == folder == os.getcwd(); assert not [n for n in os.environ if 'AWS_' in n];"
        "assert os.environ['PRATIQUE_TESTKIT_HOST'];" + LISTEN.replace("{port}", "int(port)") + "time.sleep(60)"
    )
    given = launch(source, files={"deep/er.txt": "{port} {folder}"}, environment={"WHERE": "{folder}"})
    assert host.ensure("files", given).starts == 1


# Deaths


def test_server_that_died_is_started_again_on_its_port(host: HostClient) -> None:
    first = host.ensure("one", SERVER)
    os.kill(first.pid, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while host.status().servers:
        assert time.monotonic() < deadline
    again = host.ensure("one", SERVER)
    assert (again.port, again.starts) == (first.port, 2)
    assert again.pid != first.pid


def test_pause_of_a_server_that_does_not_run_is_refused(host: HostClient) -> None:
    host.ensure("one", SERVER)
    host.signal("one", "pause")
    host.signal("one", "kill")
    with pytest.raises(ServiceStartError, match="does not run"):
        host.signal("one", "pause")
    assert host.signal("one", "restart")


def test_orphans_of_a_server_leave_no_zombies_and_end_with_it(host: HostClient) -> None:
    forks = "import os\nfor _ in range(5):\n    if not os.fork():\n        os._exit(0) if os.fork() else os.setsid()\n"
    source = forks + "        time.sleep(60)\n        os._exit(0)\n"
    running = host.ensure("forks", launch("import time\n" + source + LISTEN + "\ntime.sleep(60)"))
    pid = host.status().pid
    host.stop("forks")
    time.sleep(0.1)
    left = procfs.descendants(procfs.list_processes(), pid)
    assert running.pid not in left
    assert not [one for one in procfs.list_processes() if one.pid in left and one.is_zombie]


def test_grandchildren_of_a_host_that_was_killed_end_at_the_latest_with_the_run(
    owned: OwnedHost, tmp_path: Path
) -> None:
    note = f"open({str(tmp_path / 'child')!r}, 'w').write(str(os.getpid()))"
    child = f"import os, time\nif not os.fork():\n    os.setsid(); {note}; time.sleep(60)\n"
    owned.client.ensure("parent", launch(child + LISTEN + "time.sleep(60)"))
    pid = int((tmp_path / "child").read_text())
    os.kill(owned.client.status().pid, signal.SIGKILL)
    with pytest.raises(HostGoneError):
        owned.client.status()
    owned.close()
    assert not procfs.is_alive(pid)


# Ports


def test_thirty_private_servers_have_thirty_ports_that_nobody_else_gets(host: HostClient) -> None:
    found: set[int] = set()
    stop = threading.Event()

    def grab() -> None:
        while not stop.is_set():
            held = [socket.socket() for _ in range(200)]
            for one in held:
                one.bind(("127.0.0.1", 0))
                found.add(one.getsockname()[1])
            for one in held:
                one.close()

    grabber = threading.Thread(target=grab)
    with ThreadPoolExecutor(10) as pool:
        ports = list(pool.map(lambda n: host.ensure(f"server{n}", SERVER).port, range(30)))
    grabber.start()
    for number in range(3):
        host.signal(f"server{number}", "kill")
    time.sleep(0.2)
    again = [host.signal(f"server{number}", "restart") for number in range(3)]
    stop.set()
    grabber.join(10)
    assert len(set(ports)) == 30
    assert [running.port for running in again if running] == ports[:3]
    assert not found & set(ports)


def test_port_that_another_program_takes_first_is_given_up_for_another(host: HostClient, tmp_path: Path) -> None:
    """The thief is no child of the host: this test is its parent."""
    request, done = tmp_path / "steal", tmp_path / "stolen"
    source = (
        f"import os, time\nif not os.path.exists({str(done)!r}):\n"
        f"    open({str(request)!r}, 'w').write('{{port}}')\n"
        f"    while not os.path.exists({str(done)!r}): time.sleep(0.01)\n" + LISTEN + "time.sleep(60)"
    )
    thief = socket.socket()
    thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)

    def steal() -> None:
        while not (request.exists() and request.read_text()):
            time.sleep(0.01)
        thief.bind(("127.0.0.1", int(request.read_text())))
        thief.listen()
        done.touch()

    thread = threading.Thread(target=steal)
    thread.start()
    with thief:
        running = host.ensure("one", launch(source))
        thread.join(10)
        assert running.port != thief.getsockname()[1]


def test_port_that_is_taken_while_a_server_is_down_is_told_at_restart(host: HostClient) -> None:
    running = host.ensure("one", SERVER)
    host.signal("one", "kill")
    with socket.socket() as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        thief.bind(("127.0.0.1", running.port))
        thief.listen()
        with pytest.raises(ServiceStartError, match=r"taken|in use"):
            host.signal("one", "restart")
    restarted = host.signal("one", "restart")
    assert restarted
    assert restarted.port == running.port


# The owner


def test_host_that_nobody_asked_does_not_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    owned = OwnedHost()
    assert not owned.was_asked()
    owned.close()
    assert list(tmp_path.iterdir()) == []


def test_socket_in_a_folder_of_a_very_long_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    owned = OwnedHost()
    owned.serve_workers()
    assert not owned.was_asked()
    try:
        with short_path(owned.client.address) as path:
            assert len(path) < 107
        assert HostClient(owned.client.address).status().servers == ()
        assert owned.was_asked()
    finally:
        owned.close()


def test_folder_that_cannot_be_made_is_an_error_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    owned = OwnedHost()
    with pytest.raises(HostGoneError, match="TMPDIR"):
        owned.client.status()
    owned.close()


def test_python_that_cannot_be_started_is_told_to_those_who_wait(
    owned: OwnedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", "/no/such/python")
    owned.serve_workers()
    worker = HostClient(owned.client.address)
    with pytest.raises(HostGoneError):
        worker.status()
    with pytest.raises(HostGoneError):
        worker.status()
