"""A server over the real engine whose process is killed, stopped, starved of memory or of KV blocks, amid its work.

Each time: every request in flight ends by an answer or a clean error, the server is the same process, it says what
happened, and it answers rightly again. Fifty deaths in a row, with times and leaks, are `benchmarks/containment.py`.
"""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

if TYPE_CHECKING:
    from tests.integration.inference.conftest import ServerProcess

pytestmark = [pytest.mark.integration, pytest.mark.vllm, pytest.mark.timeout(300)]

PARIS = {"query": "What is the capital of France?", "max_tokens": 12}
CONTAINMENT = {"hang_seconds": 4, "cooldown_seconds": 0.1}


class InFlight:
    """Requests that run in threads of their own, and how each ended."""

    def __init__(self, server: ServerProcess, *, streams: int, wholes: int, **body: Any) -> None:
        self.server = server
        self.endings: list[str] = []
        self.ended_at: list[float] = []
        self._begun = threading.Semaphore(0)
        self._body = {"query": "Write a long story about the sea.", "max_tokens": 400, **body}
        self._threads = [threading.Thread(target=self._stream) for _ in range(streams)]
        self._threads += [threading.Thread(target=self._whole) for _ in range(wholes)]
        for thread in self._threads:
            thread.start()
        for _ in range(streams):
            assert self._begun.acquire(timeout=60)

    def _stream(self) -> None:
        last = ""
        for name, data in self.server.stream(self._body):
            if name == "token" and not last.startswith("token"):
                self._begun.release()
            last = f"{name} {data.get('code', '')}".strip()
        self._end(last)

    def _whole(self) -> None:
        status, answer = self.server.post("/invocations", self._body)
        self._end(f"{status} {answer.get('error', {}).get('code', '')}".strip())

    def _end(self, how: str) -> None:
        self.ended_at.append(time.monotonic())
        self.endings.append(how)

    def join(self) -> list[str]:
        for thread in self._threads:
            thread.join(90)
            assert not thread.is_alive(), "a request hangs"
        return sorted(self.endings)


def engine_of(server: ServerProcess) -> psutil.Process:
    return next(process for process in server.descendants() if "EngineCore" in process.name())


def incidents(server: ServerProcess) -> list[tuple[str, str]]:
    """What happened, but for the alarms that come of it."""
    happened = server.status()["models"][0]["incidents"]
    return [(incident["kind"], incident["cause"]) for incident in happened if incident["kind"] != "escalation"]


def comes_back(server: ServerProcess, *, restarts: int) -> None:
    def is_back() -> bool:
        status = server.status()
        kinds = [incident["kind"] for incident in status["models"][0]["incidents"]]
        return status["state"] == "traffic_ready" and kinds.count("restart") == restarts

    server.wait_for(is_back, timeout=120)
    status, answer = server.post("/invocations", PARIS)
    assert status == 200, answer
    assert "Paris" in answer["text"]


@pytest.fixture(scope="module")
def server(
    model_root: Path, tmp_path_factory: pytest.TempPathFactory, server_process: Callable[..., ServerProcess]
) -> Iterator[ServerProcess]:
    """One server that goes through all of it."""
    started = server_process(
        tmp_path_factory.mktemp("containment"),
        *("--model-root", str(model_root)),
        PRATIQUE_INFERENCE_MAX_MODEL_LEN="1280",
        PRATIQUE_INFERENCE_CONTAINMENT=json.dumps(CONTAINMENT),
    )
    try:
        started.ready()
        yield started
    finally:
        started.close()


# In the order of the file: each leaves the server as it found it, but for its history.
def test_killed_amid_a_batch(server: ServerProcess) -> None:
    pid, processes = server.status()["pid"], len(server.descendants())
    flight = InFlight(server, streams=4, wholes=2)
    engine = engine_of(server)
    killed = time.monotonic()
    engine.kill()
    assert flight.join() == ["503 engine_dead"] * 2 + ["error engine_dead"] * 4
    # The bound is a second; this machine runs other things beside it.
    assert max(flight.ended_at) - killed < 3
    comes_back(server, restarts=1)
    assert server.status()["pid"] == pid
    assert len(server.descendants()) == processes
    assert incidents(server)[-2:] == [("trip", "killed"), ("restart", "killed")]


def test_the_openai_api_comes_back_too(server: ServerProcess) -> None:
    body = {
        "model": "smollm2-135m-instruct",
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "max_tokens": 12,
        "temperature": 0,
    }
    status, answer = server.post("/v1/chat/completions", body)
    assert status == 200
    assert "Paris" in answer["choices"][0]["message"]["content"]


def test_stopped_it_is_found_to_hang(server: ServerProcess) -> None:
    flight = InFlight(server, streams=2, wholes=1)
    engine = engine_of(server)
    engine.send_signal(signal.SIGSTOP)
    assert flight.join() == ["503 engine_dead"] + ["error engine_dead"] * 2
    comes_back(server, restarts=2)
    assert not engine.is_running() or engine.status() == psutil.STATUS_ZOMBIE
    assert incidents(server)[-2:] == [("trip", "hung"), ("restart", "hung")]


def test_without_memory_it_dies_of_that_and_says_so(server: ServerProcess) -> None:
    engine = engine_of(server)
    used = engine.memory_info().vms
    engine.rlimit(resource.RLIMIT_AS, (used, used))
    flight = InFlight(server, streams=0, wholes=3, query="word " * 900, max_tokens=8)
    assert set(flight.join()) <= {"503 capacity_limit", "503 engine_dead"}
    comes_back(server, restarts=3)
    assert incidents(server)[-2:] == [("trip", "out_of_memory"), ("restart", "out_of_memory")]


def test_its_own_counters_survive_all_of_it(server: ServerProcess) -> None:
    lines = server.get("/metrics")[1].decode().splitlines()
    resets = [line for line in lines if line.startswith("pratique_inference_engine_resets_total")]
    expected = len([kind for kind, _ in incidents(server) if kind == "restart"])
    assert [line.rsplit(" ", 1)[1] for line in resets] == [f"{expected}.0"]
    assert any(line.startswith("pratique_inference_oom_escalation_total") for line in lines)


def test_killed_by_the_kernel_for_the_containers_limit(
    model_root: Path, tmp_path: Path, memory_group: Path, server_process: Callable[..., ServerProcess]
) -> None:
    """The kernel ends the engine and not the server, whichever is larger; and the watchdog is told to look away."""
    blind = {"shed_share": 1, "trip_share": 1, "cooldown_seconds": 0.1}
    contained = server_process(
        tmp_path,
        *("--model-root", str(model_root)),
        PRATIQUE_INFERENCE_MAX_MODEL_LEN="1280",
        PRATIQUE_INFERENCE_CONTAINMENT=json.dumps(blind),
    )
    try:
        # Before anything is loaded: what is taken from here on is charged to this group.
        (memory_group / "cgroup.procs").write_text(str(contained.process.pid))
        contained.ready()
        memory = contained.status()["memory"]
        assert memory["cgroup"] == str(memory_group)
        limit = memory_group / ("memory.max" if (memory_group / "memory.max").exists() else "memory.limit_in_bytes")
        flight = InFlight(contained, streams=2, wholes=1)
        usage = memory_group / limit.name.replace("max", "current").replace("limit", "usage")
        limit.write_text(str(int(usage.read_text()) + (32 << 20)))
        fill(memory_group, 256 << 20)
        assert set(flight.join()) <= {"503 capacity_limit", "error capacity_limit"}
        limit.write_text(str(16 << 30))
        comes_back(contained, restarts=incidents(contained).count(("restart", "out_of_memory")) or 1)
        assert set(incidents(contained)) == {("trip", "out_of_memory"), ("restart", "out_of_memory")}
        assert contained.status()["pid"] == contained.process.pid
    finally:
        contained.close()


def fill(group: Path, size: int) -> None:
    """Have another process of the container take memory; it is not what the kernel ends."""
    code = f"import sys; sys.stdin.readline(); held = bytearray({size}); held[::4096] = b'x' * len(held[::4096])"
    with subprocess.Popen([sys.executable, "-S", "-c", code], stdin=subprocess.PIPE, text=True) as process:
        (group / "cgroup.procs").write_text(str(process.pid))
        process.communicate("now\n", timeout=30)
    assert process.returncode == 0


def test_exhausted_kv_blocks_flush_and_everybody_gets_an_answer(
    model_root: Path, tmp_path: Path, server_process: Callable[..., ServerProcess]
) -> None:
    tight = server_process(
        tmp_path,
        *("--model-root", str(model_root)),
        PRATIQUE_INFERENCE_MAX_MODEL_LEN="640",
        PRATIQUE_INFERENCE_NUM_GPU_BLOCKS_OVERRIDE="24",
        PRATIQUE_INFERENCE_CONTAINMENT=json.dumps({"kv_preemptions": 2, "kv_window_seconds": 60}),
    )
    try:
        tight.ready()
        # Each fits in what is allowed after the trip: what was dropped runs again, once.
        flight = InFlight(tight, streams=0, wholes=8, max_tokens=240)
        assert flight.join() == ["200"] * 8
        status = tight.status()
        assert status["models"][0]["breaker"]["trips_by_cause"]["kv_exhausted"] >= 1
        assert status["state"] == "traffic_ready"
        assert "degraded" not in [step["state"] for step in status["transitions"]]
    finally:
        tight.close()
