"""Model servers as processes of their own: the simulated engine for every way to end, the real one for what it says."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from pratique.core.procfs import is_alive
from pratique.inference.artifacts.store import import_small_model
from pratique.inference.containment.cgroup import find_memory_cgroup

MODEL_ROOT = Path(__file__).resolve().parents[3] / ".cache" / "models"


class ServerProcess:
    """`pratique serve inference` and what it answers."""

    def __init__(self, folder: Path, *flags: str, **environment: str) -> None:
        self.log = folder / f"server-{time.monotonic_ns()}.log"
        self._output = self.log.open("w")
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pratique.cli.main", "serve", "inference", "--port", "0", *flags],
            stdout=self._output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
        )
        self.url = ""

    def listening(self) -> float:
        """Wait for its address; return the seconds from process start to the first answer."""
        while not self.url:
            for line in self.log.read_text().splitlines():
                if line.startswith("listening on "):
                    self.url = line.removeprefix("listening on ")
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.005)
        assert self.get("/livez")[0] == 200
        return time.monotonic() - self.began

    def get(self, path: str) -> tuple[int, bytes]:
        return self._send(urllib.request.Request(self.url + path))  # noqa: S310 - our own loopback address

    def post(self, path: str, body: object) -> tuple[int, Any]:
        data = json.dumps(body).encode()
        headers = {"content-type": "application/json"}
        status, raw = self._send(urllib.request.Request(self.url + path, data=data, headers=headers))  # noqa: S310
        return status, json.loads(raw)

    def stream(self, body: dict[str, object]) -> Iterator[tuple[str, Any]]:
        """Events of a streamed /invocations, as they come."""
        data = json.dumps({**body, "stream": True}).encode()
        with urllib.request.urlopen(self.url + "/invocations", data, timeout=60) as response:  # noqa: S310
            name = ""
            for raw in response:
                line = raw.decode().rstrip("\n")
                if line.startswith("event: "):
                    name = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    yield name, json.loads(line.removeprefix("data: "))

    def status(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.get("/status")[1])
        return answer

    def ready(self, *, timeout: float = 120) -> float:
        """Wait until traffic ready; return the seconds from process start."""
        self.listening()
        self.wait_for(lambda: self.status()["state"] == "traffic_ready", timeout=timeout)
        return time.monotonic() - self.began

    def wait_for(self, condition: Callable[[], bool], *, timeout: float = 60) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            assert self.process.poll() is None, self.log.read_text()[-4000:]
            assert time.monotonic() < deadline, self.log.read_text()[-4000:]
            time.sleep(0.05)

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, *, timeout: float = 30) -> int:
        return self.process.wait(timeout)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._output.close()

    def _send(self, request: urllib.request.Request) -> tuple[int, bytes]:
        try:
            with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310 - our own loopback address
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()


Start = Callable[..., ServerProcess]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start servers that end with the test."""
    with contextlib.ExitStack() as stack:

        def run(*flags: str, **environment: str) -> ServerProcess:
            # Tracing triples vLLM's start; the server that all of a session share is traced and these are not.
            environment = environment if "simulated" in flags else {"COVERAGE_PROCESS_CONFIG": "", **environment}
            server = ServerProcess(tmp_path, *flags, **environment)
            stack.callback(server.close)
            return server

        yield run


@pytest.fixture(scope="session")
def model_root() -> Path:
    """The small model, imported once into the project's cache folder, which the e2e tier shares."""
    import_small_model(MODEL_ROOT, lambda phase, share: None)
    return MODEL_ROOT


@pytest.fixture(scope="session")
def real_server(model_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Run vLLM with the small model: one for all tests that leave it as they found it."""
    server = ServerProcess(tmp_path_factory.mktemp("vllm"), "--model-root", str(model_root))
    try:
        server.ready()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def server_process() -> Start:
    """What a module starts for itself, and ends. Never traced: that triples vLLM's start."""

    def run(folder: Path, *flags: str, **environment: str) -> ServerProcess:
        return ServerProcess(folder, *flags, **{"COVERAGE_PROCESS_CONFIG": "", **environment})

    return run


def wait_until_gone(processes: list[psutil.Process], *, timeout: float = 10) -> None:
    """Wait for processes of nobody's."""
    _, alive = psutil.wait_procs(processes, timeout=timeout)
    left = [process for process in alive if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
    assert left == [], f"still running: {left}"


@pytest.fixture
def gone() -> Callable[[list[psutil.Process]], None]:
    return wait_until_gone


GROUP_PREFIX = "pratique-test-"


@pytest.fixture
def memory_group() -> Iterator[Path]:
    """A real memory cgroup without a limit; skips, with the reason, where none can be made."""
    folder = make_group()
    try:
        yield folder
    finally:
        remove_group(folder)


def make_group() -> Path:
    cgroup = find_memory_cgroup()
    reasons = list(cgroup.problems)
    for parent in cgroup.folders:
        for stale in parent.glob(f"{GROUP_PREFIX}*"):  # of a run that was killed
            if not is_alive(int(stale.name.removeprefix(GROUP_PREFIX))):
                with contextlib.suppress(OSError):
                    stale.rmdir()
        folder = parent / f"{GROUP_PREFIX}{os.getpid()}"
        try:
            folder.mkdir()
            if find_usage(folder):
                return folder
            folder.rmdir()
            reasons.append(f"{parent} hands no memory controller down")
        except OSError as error:
            reasons.append(str(error))
    pytest.skip(f"NOT TESTED HERE: no memory cgroup can be made on this machine: {'; '.join(reasons)}")


def find_usage(folder: Path) -> bool:
    return any((folder / name).exists() for name in ("memory.current", "memory.usage_in_bytes"))


def remove_group(folder: Path) -> None:
    # A killed process leaves its group a moment after its parent has its exit code.
    deadline = time.monotonic() + 10
    while folder.exists():
        try:
            folder.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
