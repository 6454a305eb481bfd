"""The process: when it listens, and every way it ends. Over the simulated engine."""

from __future__ import annotations

import contextlib
import errno
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

if TYPE_CHECKING:
    from tests.integration.inference.conftest import ServerProcess, Start

pytestmark = pytest.mark.integration

FLAGS = ("--engine", "simulated")
SLOW = {"PRATIQUE_INFERENCE_SIMULATED": '{"load_seconds": 0, "token_seconds": 0.02, "reply_tokens": 2000}'}


def test_it_listens_within_a_second_and_answers_while_it_loads(start: Start) -> None:
    server = start(*FLAGS, PRATIQUE_INFERENCE_SIMULATED='{"load_seconds": 60}')
    server.listening()
    times = psutil.Process(server.process.pid).cpu_times()
    statuses = {path: server.get(path)[0] for path in ("/livez", "/ping", "/readyz", "/status", "/metrics")}
    assert statuses == {"/livez": 200, "/ping": 503, "/readyz": 503, "/status": 200, "/metrics": 200}
    assert "process_alive" in [step["state"] for step in server.status()["transitions"]]
    # The bound of the contract is about a second. Counted is processor time: the rest is what else the machine runs.
    assert times.user + times.system < 2


def test_it_becomes_ready_and_answers(start: Start) -> None:
    server = start(*FLAGS, "--name", "inference-7")
    server.ready(timeout=20)
    status, answer = server.post("/invocations", {"query": "hello", "max_tokens": 3})
    assert (status, answer["text"]) == (200, "You said: hello ")
    assert server.status()["name"] == "inference-7"
    assert [name for name, _ in server.stream({"query": "hello", "max_tokens": 2})] == [
        "start",
        "token",
        "token",
        "end",
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_drains_and_exits_with_0(start: Start, number: int) -> None:
    simulated = '{"load_seconds": 0, "token_seconds": 0.02, "reply_tokens": 60}'
    server = start(*FLAGS, PRATIQUE_INFERENCE_SIMULATED=simulated)
    server.ready(timeout=20)
    events = server.stream({"query": "hello"})
    assert next(events)[0] == "start"
    server.signal(number)
    server.wait_for(lambda: server.get("/ping")[0] == 503)
    assert server.status()["state"] == "draining"
    assert [*events][-1][0] == "end"
    assert server.wait() == 0


def test_past_the_drain_streams_end_with_an_error(start: Start) -> None:
    server = start(*FLAGS, PRATIQUE_INFERENCE_DRAIN_SECONDS="0.3", **SLOW)
    server.ready(timeout=20)
    events = server.stream({"query": "hello"})
    assert next(events)[0] == "start"
    server.signal(signal.SIGTERM)
    last = [*events][-1]
    assert (last[0], last[1]["code"]) == ("error", "draining")
    assert server.wait() == 0


def test_told_to_stop_while_it_loads_it_exits_with_0(start: Start) -> None:
    server = start(*FLAGS, PRATIQUE_INFERENCE_SIMULATED='{"load_seconds": 60}')
    server.listening()
    server.signal(signal.SIGTERM)
    assert server.wait(timeout=5) == 0


@pytest.mark.parametrize(
    "environment",
    [
        {"PRATIQUE_INFERENCE_SIMULATED": '{"fail_load": true, "load_seconds": 0}'},
        {"PRATIQUE_INFERENCE_SIMULATED": '{"load_seconds": 60}', "PRATIQUE_INFERENCE_LOAD_TIMEOUT_SECONDS": "0.2"},
        {
            "PRATIQUE_INFERENCE_SIMULATED": '{"load_seconds": 0, "first_token_seconds": 60}',
            "PRATIQUE_INFERENCE_WARMUP_TIMEOUT_SECONDS": "0.2",
        },
        {"PRATIQUE_INFERENCE_SIMULATED": '{"load_seconds": 0, "fail_after_tokens": 1}'},
    ],
    ids=["load fails", "load takes too long", "warmup takes too long", "warmup fails"],
)
def test_a_start_that_fails_exits_with_1(start: Start, environment: dict[str, str]) -> None:
    server = start(*FLAGS, **environment)
    assert server.wait(timeout=20) == 1
    assert '"state": "failed"' in server.log.read_text()


def test_an_engine_that_dies_is_replaced_in_the_same_process(start: Start) -> None:
    simulated = '{"load_seconds": 0.2, "crash_after_tokens": 8}'
    server = start(*FLAGS, PRATIQUE_INFERENCE_SIMULATED=simulated)
    server.ready(timeout=20)
    for number in (1, 2):
        last = [*server.stream({"query": "hello"})][-1]
        assert (last[0], last[1]["code"], last[1]["retryable"]) == ("error", "engine_dead", True)
        server.wait_for(lambda number=number: restarts(server) == number)  # type: ignore[misc]
        assert server.post("/invocations", {"query": "hello", "max_tokens": 3})[1]["text"] == "You said: hello "
    assert server.status()["pid"] == server.process.pid


def restarts(server: ServerProcess) -> int:
    status = server.status()
    kinds = [incident["kind"] for incident in status["models"][0]["incidents"]]
    return kinds.count("restart") if status["state"] == "traffic_ready" else 0


@pytest.mark.parametrize("failure", ["fail_load", "wrong manifest"])
def test_failed_starts_are_counted_across_processes(start: Start, tmp_path: Path, failure: str) -> None:
    """The third in a row is an alarm: the process that sees it is not the one that failed before."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"no header" if failure == "fail_load" else b"\x80\x04 pickled")
    for number in (1, 2, 3):
        server = start("--engine", "vllm", "--model", str(folder))
        assert server.wait(timeout=30) == 1
        log = server.log.read_text()
        assert "model.safetensors" in log
        assert ('"event": "repeated_load_failure"' in log) is (number == 3)


def test_a_taken_port_is_an_error_with_a_way_out(start: Start) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = start(*FLAGS, "--port", str(taken.getsockname()[1]))
        assert server.wait(timeout=10) == 3
    assert "Choose another port" in server.log.read_text()


@pytest.mark.parametrize("flags", [("--engine", "other"), ("--host", "not an address")])
def test_wrong_flags_are_refused(start: Start, flags: tuple[str, ...]) -> None:
    server = start(*FLAGS, *flags)
    assert server.wait(timeout=10) in {2, 3}


def test_a_client_that_leaves_frees_its_place(start: Start) -> None:
    server = start(*FLAGS, PRATIQUE_INFERENCE_MAX_QUEUED_REQUESTS="1", **SLOW)
    server.ready(timeout=20)
    leave(server)
    server.wait_for(lambda: b"pratique_inference_in_flight 0.0" in server.get("/metrics")[1], timeout=5)
    assert server.post("/invocations", {"query": "q", "max_tokens": 1})[0] == 200


def leave(server: ServerProcess) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    body = b'{"query": "q", "stream": true}'
    with socket.create_connection((host, int(port))) as client:
        client.sendall(b"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        assert client.recv(100)


def test_a_slow_reader_does_not_hold_the_others_up(start: Start) -> None:
    fast = '{"load_seconds": 0, "token_seconds": 0, "first_token_seconds": 0, "reply_tokens": 20000}'
    server = start(*FLAGS, PRATIQUE_INFERENCE_SIMULATED=fast)
    server.ready(timeout=20)
    host, port = server.url.removeprefix("http://").split(":")
    body = b'{"query": "q", "stream": true, "max_tokens": 2000}'
    with socket.create_connection((host, int(port))) as slow:
        slow.sendall(b"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        answered: list[int] = []
        threads = [
            threading.Thread(
                target=lambda: answered.append(server.post("/invocations", {"query": "q", "max_tokens": 5})[0])
            )
            for _ in range(8)
        ]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert answered == [200] * 8
        assert time.monotonic() - began < 5


def test_near_its_containers_limit_it_sheds_load_and_then_serves_again(memory_group: Path, start: Start) -> None:
    server = start(*FLAGS)
    (memory_group / "cgroup.procs").write_text(str(server.process.pid))
    server.ready(timeout=20)
    is_v2 = (memory_group / "memory.max").exists()
    limit = memory_group / ("memory.max" if is_v2 else "memory.limit_in_bytes")
    with ballast(memory_group, 300 << 20):
        server.wait_for(lambda: server.status()["memory"]["working_set_bytes"] > 300 << 20)
        server.wait_for(lambda: lower(limit, server))
        server.wait_for(lambda: server.status()["memory"]["verdict"] == "shed")
        status, answer = server.post("/invocations", {"query": "q", "max_tokens": 1})
        assert (status, answer["error"]["code"]) == (503, "capacity_limit")
        assert server.get("/ping")[0] == 200
        limit.write_text(str(8 << 30))
        server.wait_for(lambda: server.post("/invocations", {"query": "q", "max_tokens": 1})[0] == 200)
    counted = b'pratique_inference_refused_total{reason="memory"} '
    lines = [line for line in server.get("/metrics")[1].splitlines() if line.startswith(counted)]
    assert [float(line.removeprefix(counted)) >= 1 for line in lines] == [True]


def lower(limit: Path, server: ServerProcess) -> bool:
    """Put the limit between the line for shedding and the one for dropping what runs."""
    used = server.status()["memory"]["working_set_bytes"]
    try:
        limit.write_text(str(int(used / 0.945)))
    except OSError as error:
        # The kernel has more in use than it could free at once: pages of files that were just read.
        if error.errno != errno.EBUSY:
            raise
        return False
    return True


@contextlib.contextmanager
def ballast(group: Path, size: int) -> Iterator[None]:
    """Another process of the container that holds memory."""
    take = f"held = bytearray({size}); held[::4096] = b'x' * len(held[::4096])"
    code = f"import sys; sys.stdin.readline(); {take}; sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-S", "-c", code], stdin=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        (group / "cgroup.procs").write_text(str(process.pid))
        process.stdin.write("now\n")
        process.stdin.flush()
        yield
        process.stdin.close()
