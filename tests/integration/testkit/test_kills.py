"""However pytest ends, and whenever: within two seconds nothing of the run lives, and no other run is touched."""

from __future__ import annotations

import os
import signal
import socket
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.integration

GONE_SECONDS = 2.0

PHASES = """
    import os, pathlib, sys, time
    import pytest

    PHASE = os.environ.get("PHASE", "")

    def reach(phase):
        if phase == PHASE:
            pathlib.Path(phase).write_text(str(os.getpid()))
            time.sleep(60)

    @pytest.hookimpl(trylast=True)
    def pytest_configure(config):
        reach("configure")

    def pytest_collection_modifyitems(config):
        reach("collection")

    @pytest.fixture
    def torn(valkey):
        yield valkey
        reach("teardown")

    @pytest.fixture
    def slow(pytestconfig):
        from pratique.testkit.fixtures import kit_of
        from pratique.testkit.host.launch import ProcessLaunch, TcpReady
        if PHASE == "starting":
            # Deaf to SIGTERM, with a child in a session of its own that is deaf as well.
            deaf = "import os, pathlib, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\\n"
            fork = "if not os.fork(): os.setsid()\\nelse: pathlib.Path(FILE).write_text('x')\\ntime.sleep(60)"
            source = deaf + fork.replace("FILE", repr(os.path.abspath("starting")))
            command = (sys.executable, "-c", source)
            kit_of(pytestconfig).host.ensure("slow", ProcessLaunch(command=command, ready=TcpReady()))

    @pytest.hookimpl(tryfirst=True)
    def pytest_unconfigure(config):
        if not hasattr(config, "workerinput"):
            reach("unconfigure")
"""

TEST = """
    from conftest import reach
    def test_it(torn, slow):
        torn.client().set(torn.key("a"), 1)
        reach("test")
"""

OTHER = """
    import pathlib, time
    def test_it(valkey):
        pathlib.Path("up").write_text(str(valkey.endpoint.port))
        while not pathlib.Path("go").exists():
            time.sleep(0.05)
        assert valkey.client().ping()
"""


@pytest.fixture
def other(inner: Callable[..., Any]) -> Any:
    """Another run beside, whose server has to stay."""
    run = inner(test_other=OTHER).start()
    run.reach("up")
    return run


def check_other(run: Any) -> None:
    with socket.create_connection(("127.0.0.1", int(run.reach("up"))), timeout=5):
        pass
    (run.folder / "go").write_text("x")
    code, output = run.finish()
    assert code == 0, output


@pytest.mark.parametrize("words", [(), ("-n2",)], ids=["alone", "workers"])
@pytest.mark.parametrize("phase", ["starting", "test", "teardown", "unconfigure"])
def test_kill_of_pytest_leaves_no_orphan(
    inner: Callable[..., Any], wait_until: Callable[..., None], phase: str, words: tuple[str, ...]
) -> None:
    run = inner(conftest=PHASES, test_a=TEST).start(*words, PHASE=phase)
    run.reach(phase)
    os.kill(run.pid, signal.SIGKILL)
    wait_until(lambda: not run.processes(), seconds=GONE_SECONDS)
    wait_until(lambda: run.folders() == [], seconds=GONE_SECONDS)


@pytest.mark.parametrize("phase", ["configure", "collection"])
def test_kill_before_any_test_leaves_nothing(
    inner: Callable[..., Any], wait_until: Callable[..., None], phase: str
) -> None:
    run = inner(conftest=PHASES, test_a=TEST).start(PHASE=phase)
    run.reach(phase)
    os.kill(run.pid, signal.SIGKILL)
    wait_until(lambda: not run.processes(), seconds=GONE_SECONDS)
    assert run.folders() == []


def test_folder_of_a_run_that_was_killed_before_its_host_started_is_removed_by_the_next(
    inner: Callable[..., Any], wait_until: Callable[..., None]
) -> None:
    run = inner(conftest=PHASES, test_a=TEST).start("-n2", PHASE="collection")
    run.reach("collection")
    assert len(run.folders()) == 1
    workers = run.processes() - {run.pid}
    os.kill(run.pid, signal.SIGKILL)
    # Workers that have asked for nothing are xdist's alone: they stay for as long as their collection takes.
    wait_until(lambda: run.processes() <= workers, seconds=GONE_SECONDS)
    code, output = inner(conftest=PHASES, test_a=TEST).start().finish()
    assert code == 0, output
    assert run.folders() == []


def test_worker_whose_controller_was_killed_while_it_started_ends_at_its_first_request_and_tidies_up(
    inner: Callable[..., Any], wait_until: Callable[..., None]
) -> None:
    # Before the plugin is configured: the worker never sees who its parent was.
    late = """
    import os, pathlib, time
    if os.environ.get("PYTEST_XDIST_WORKER"):
        parent = os.getppid()
        pathlib.Path("starting").write_text("x")
        while os.getppid() == parent:
            time.sleep(0.01)
    """
    run = inner(conftest=late, test_a="def test_it(valkey): __import__('time').sleep(60)\n")
    run.start("-n1", PYTEST_XDIST_WORKER="")
    run.reach("starting")
    assert len(run.folders()) == 1
    os.kill(run.pid, signal.SIGKILL)
    wait_until(lambda: not run.processes(), seconds=2 * GONE_SECONDS)
    assert run.folders() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_to_pytest_ends_its_servers_only(
    inner: Callable[..., Any], other: Any, wait_until: Callable[..., None], number: signal.Signals
) -> None:
    run = inner(conftest=PHASES, test_a=TEST).start(PHASE="test")
    run.reach("test")
    os.kill(run.pid, number)
    run.process.wait(30)  # pytest reports first
    wait_until(lambda: not run.processes(), seconds=GONE_SECONDS)
    check_other(other)
    assert run.folders() == []


@pytest.mark.parametrize("phase", ["collection", "test", "teardown", "unconfigure"])
def test_ctrl_c_in_a_terminal_ends_all(inner: Callable[..., Any], wait_until: Callable[..., None], phase: str) -> None:
    """A terminal sends it to the whole process group, workers included."""
    run = inner(conftest=PHASES, test_a=TEST).start("-n2", PHASE=phase)
    run.reach(phase)
    os.killpg(run.pid, signal.SIGINT)
    run.process.wait(30)  # xdist gives its workers up to ten seconds
    wait_until(lambda: not run.processes(), seconds=GONE_SECONDS)
    assert run.folders() == []


def test_pytest_that_is_stopped_and_then_killed_leaves_no_orphan(
    inner: Callable[..., Any], other: Any, wait_until: Callable[..., None]
) -> None:
    run = inner(conftest=PHASES, test_a=TEST).start(PHASE="test")
    run.reach("test")
    os.kill(run.pid, signal.SIGSTOP)
    os.kill(run.pid, signal.SIGKILL)
    wait_until(lambda: not run.processes(), seconds=GONE_SECONDS)
    check_other(other)
    assert run.folders() == []


def test_worker_that_is_killed_leaves_the_run_its_server(inner: Callable[..., Any]) -> None:
    more = TEST + "\n\n    def test_more(valkey):\n        assert valkey.client().ping()\n"
    run = inner(conftest=PHASES, test_a=more).start("-n1", PHASE="test")
    os.kill(int(run.reach("test")), signal.SIGKILL)
    code, output = run.finish()
    assert code == 1
    assert "1 failed, 1 passed" in output
    assert run.processes() == set()
    assert run.folders() == []


HOST_GONE = """
    import os, signal, time
    from pratique.testkit.fixtures import kit_of

    def test_before(valkey, pytestconfig):
        host = kit_of(pytestconfig).host
        pids = [one.pid for one in host.status().servers]
        os.kill(host.status().pid, signal.SIGKILL)
        deadline = time.monotonic() + 2
        while any(os.path.exists(f"/proc/{pid}") for pid in pids):
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def test_after(valkey):
        pass

    def test_launch(pratique_launch):
        pratique_launch("valkey")
"""


def test_kill_of_the_host_ends_its_servers_and_is_told(
    inner: Callable[..., Any], wait_until: Callable[..., None]
) -> None:
    run = inner(test_a=HOST_GONE).start()
    code, output = run.finish()
    assert code == 1
    assert "HostGoneError: The host of this run's servers does not answer" in output
    assert "INTERNALERROR" not in output
    wait_until(lambda: not run.processes(), seconds=GONE_SECONDS)
    assert run.folders() == []


FORK = """
    import os, time
    def test_fork(valkey):
        if os.fork() == 0:
            time.sleep(30)  # holds every pipe of pytest's, and outlives it
            os._exit(0)
"""


@pytest.mark.parametrize("number", [None, signal.SIGKILL], ids=["ends", "is killed"])
def test_child_that_a_test_forked_keeps_no_server_alive(
    inner: Callable[..., Any], wait_until: Callable[..., None], number: signal.Signals | None
) -> None:
    sleep = "\n\n    def test_wait(valkey):\n        import pathlib\n        pathlib.Path('up').write_text('x')\n"
    sleep += "        time.sleep(60)\n" if number else ""
    run = inner(test_a=FORK + sleep).start()
    run.reach("up")
    if number:
        os.kill(run.pid, number)
    assert run.process is not None
    run.process.wait(30)
    wait_until(lambda: len(run.processes()) == 1, seconds=GONE_SECONDS)  # the forked child
    assert run.folders() == []


DEAF = """
    import sys
    from pratique.testkit.fixtures import kit_of
    from pratique.testkit.host.launch import ProcessLaunch, TcpReady

    def test_deaf(pytestconfig):
        source = (
            "import pathlib, signal, socket, time\\n"
            "def deaf(*_): pathlib.Path('stopping').write_text('x')\\n"
            "signal.signal(signal.SIGTERM, lambda *_: pathlib.Path(FILE).write_text('x'))\\n"
            "s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\\n"
            "s.bind(('127.0.0.1', {port})); s.listen()\\n"
            "while True: time.sleep(1)\\n"
        ).replace("FILE", repr(str(pytestconfig.rootpath / "stopping")))
        launch = ProcessLaunch(command=(sys.executable, "-c", source), ready=TcpReady(), stop_seconds=60)
        kit_of(pytestconfig).host.ensure("deaf", launch)
"""


def test_kill_of_pytest_while_it_waits_for_a_server_to_end_ends_that_at_once(
    inner: Callable[..., Any], wait_until: Callable[..., None]
) -> None:
    run = inner(test_a=DEAF).start()
    run.reach("stopping")
    os.kill(run.pid, signal.SIGKILL)
    wait_until(lambda: not run.processes(), seconds=GONE_SECONDS)
    assert run.folders() == []
