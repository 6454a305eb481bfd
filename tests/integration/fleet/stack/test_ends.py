"""However a stack ends, or fails to start: nothing of it is left, and the next one starts."""

from __future__ import annotations

import os
import signal
import socket
import time
from typing import TYPE_CHECKING

import pytest
from tests.integration.fleet.stack.conftest import CONFIG, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.fleet.stack.conftest import Home

pytestmark = [pytest.mark.integration]

SMALL = CONFIG.replace("inference = 2", "inference = 1").replace("orchestrators = 2", "orchestrators = 1")
FAILING = SMALL.replace("load_seconds = 0.1", "load_seconds = 0.1, fail_load = true")
MISTAKEN = SMALL.replace("drain_seconds = 1\nsimulated", "no_such_setting = 1\nsimulated")


def test_down_leaves_nothing_and_is_no_error_the_second_time(make_home: Callable[..., Home]) -> None:
    home = make_home(SMALL)
    assert home.up("--detach").returncode == 0
    assert home.run("down").returncode == 0
    assert home.nothing_is_left()
    again = home.run("down")
    assert (again.returncode, "No stack runs" in again.stderr) == (0, True)
    assert home.run("status").returncode == 1
    assert home.status()["state"] == "stopped"
    assert not (home.root / "stack.json").exists()
    assert "phase" in home.run("logs").stdout, "logs outlive the stack"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_foreground_stops_on_a_signal(make_home: Callable[..., Home], number: signal.Signals) -> None:
    home = make_home(SMALL)
    running = home.start_in_foreground()
    until(lambda: home.status()["state"] == "ready", "ready")
    os.kill(running.pid, number)
    out, _ = running.communicate(timeout=30)
    assert running.returncode == 0, out
    assert "Ready after" in out
    assert "Ctrl-C" in out
    assert home.nothing_is_left()


def test_second_signal_does_not_wait_for_what_hangs(make_home: Callable[..., Home]) -> None:
    home = make_home(SMALL.replace("orchestrator_grace_seconds = 3", "orchestrator_grace_seconds = 600"))
    running = home.start_in_foreground()
    until(lambda: home.status()["state"] == "ready", "ready")
    os.kill(home.service("orchestrator-0")["pid"], signal.SIGSTOP)
    os.kill(running.pid, signal.SIGINT)
    until(lambda: home.status()["state"] == "stopping", "stopping")
    os.kill(running.pid, signal.SIGINT)
    running.communicate(timeout=30)
    assert running.returncode == 0
    assert home.nothing_is_left()


def test_signal_during_the_start_stops_it(make_home: Callable[..., Home]) -> None:
    home = make_home(SMALL.replace("load_seconds = 0.1", "load_seconds = 60"))
    running = home.start_in_foreground()
    until(lambda: len(home.processes()) >= 4, "services run")
    os.kill(running.pid, signal.SIGINT)
    running.communicate(timeout=30)
    assert running.returncode == 0
    assert home.nothing_is_left()


def test_interrupted_detached_start_leaves_nothing(make_home: Callable[..., Home]) -> None:
    home = make_home(SMALL.replace("load_seconds = 0.1", "load_seconds = 60"))
    launching = home.start_in_foreground("--detach")
    until(lambda: len(home.processes()) >= 4, "services run")
    os.kill(launching.pid, signal.SIGINT)
    launching.communicate(timeout=30)
    assert launching.returncode == 130
    until(home.nothing_is_left, "nothing is left")


def test_killed_supervisor_takes_its_services_along_and_the_next_starts(make_home: Callable[..., Home]) -> None:
    home = make_home(SMALL)
    assert home.up("--detach").returncode == 0
    os.kill(home.status()["pid"], signal.SIGKILL)
    until(home.nothing_is_left, "nothing is left", within=10)
    assert (home.root / "stack.json").exists(), "stale, as the killed one left it"
    assert home.run("status").returncode == 1
    assert home.up("--detach").returncode == 0
    assert home.status()["state"] == "ready"


def test_killed_together_with_its_guardian_the_next_start_cleans_up(make_home: Callable[..., Home]) -> None:
    home = make_home(SMALL)
    assert home.up("--detach").returncode == 0
    before = home.processes()
    for pid in home.supervisors():
        os.kill(pid, signal.SIGSTOP)
    os.kill(home.status()["pid"], signal.SIGKILL)
    for pid in home.supervisors():
        os.kill(pid, signal.SIGKILL)
    assert home.up("--detach").returncode == 0
    assert not before & home.processes()


def test_model_server_that_cannot_start_is_diagnosed(make_home: Callable[..., Home]) -> None:
    home = make_home(FAILING)
    failed = home.up("--detach")
    assert failed.returncode == 3, failed.stderr
    assert "error: inference-0 does not start: it exited with code 1" in failed.stderr
    assert "inference-0.log" in failed.stderr
    assert home.nothing_is_left()


def test_setting_that_does_not_exist_is_not_tried_three_times(make_home: Callable[..., Home]) -> None:
    home = make_home(MISTAKEN)
    started = time.monotonic()
    failed = home.up("--detach")
    assert failed.returncode == 3
    assert "no_such_setting" in failed.stderr
    assert "code 2" in failed.stderr
    assert time.monotonic() - started < 20
    assert home.nothing_is_left()


def test_foreground_start_that_fails_says_the_same(make_home: Callable[..., Home]) -> None:
    failed = make_home(MISTAKEN).up()
    assert failed.returncode == 3
    assert "error: inference-0 does not start" in failed.stderr


def test_start_has_a_deadline(make_home: Callable[..., Home]) -> None:
    config = SMALL.replace("load_seconds = 0.1", "load_seconds = 60").replace(
        "[stack]", "[stack]\nstart_deadline_seconds = 3"
    )
    home = make_home(config)
    failed = home.up("--detach")
    assert failed.returncode == 3
    assert "was not ready within 3 s" in failed.stderr
    assert "inference-0" in failed.stderr
    assert home.nothing_is_left()


def test_taken_port_names_the_program_that_has_it(make_home: Callable[..., Home]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        for flags in ((), ("--detach",)):
            home = make_home(SMALL)
            refused = home.up("--port", str(port), *flags)
            assert refused.returncode == 3
            assert f"127.0.0.1:{port} cannot be listened on" in refused.stderr
            assert f"pid {os.getpid()}" in refused.stderr
            assert "--port" in refused.stderr
            assert home.nothing_is_left()


def test_too_little_memory_names_the_way_out(make_home: Callable[..., Home]) -> None:
    config = SMALL.replace("[stack]", "[stack]\nreplica_memory_bytes = 1_000_000_000_000_000")
    refused = make_home(config).up()
    assert refused.returncode == 3
    assert "need about" in refused.stderr


def test_usage_errors_are_code_2(make_home: Callable[..., Home]) -> None:
    home = make_home(SMALL.replace("orchestrators = 1", "orchestrators = 99"))
    assert home.up().returncode == 2
    missing = home.run("up", "--config", "/nowhere.toml")
    assert (missing.returncode, "does not exist" in missing.stderr) == (2, True)
