"""A model server process for benchmarks: started, waited for, asked, ended."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

__all__ = ["Server", "free_port", "machine"]

_START_SECONDS = 300.0
_ANSWER_SECONDS = 120.0
_END_SECONDS = 25.0


def machine() -> dict[str, object]:
    """What the figures were measured on, and how busy it was."""
    return {
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_average": round(os.getloadavg()[0], 2),
    }


def free_port() -> int:
    """Return a port that was free a moment ago, for programs that take no socket and know no port 0."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """`pratique serve inference` as a process; its log is kept until it ends."""

    def __init__(self, *flags: str, **environment: str) -> None:
        self._log = tempfile.NamedTemporaryFile(prefix="pratique-bench-", suffix=".log")  # noqa: SIM115 - closed at exit
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pratique.cli.main", "serve", "inference", "--port", "0", *flags],
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "COVERAGE_PROCESS_CONFIG": "", **environment},
        )
        self.url = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            error.add_note(self.log[-3000:])
        children = self.children()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for child in psutil.wait_procs(children, timeout=5)[1]:
            child.kill()
        self._log.close()

    @property
    def log(self) -> str:
        return Path(self._log.name).read_text(encoding="utf-8", errors="replace")

    def children(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def engine(self) -> psutil.Process:
        """The process that runs the model."""
        for child in self.children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if "EngineCore" in child.name() or "EngineCore" in " ".join(child.cmdline()):
                    return child
        raise RuntimeError("There is no engine process.")

    def wait_ready(self, *, poll_seconds: float = 0.05) -> float:
        """Wait until it takes traffic; return the seconds since its process began."""
        while not self.url:
            said = [line for line in self.log.splitlines() if line.startswith("listening on ")]
            self.url = said[0].removeprefix("listening on ") if said else ""
            self._check()
            time.sleep(poll_seconds)
        while self.status_of("/ping") != 200:
            self._check()
            time.sleep(poll_seconds)
        return time.monotonic() - self.began

    def _check(self) -> None:
        if self.process.poll() is not None or time.monotonic() - self.began > _START_SECONDS:
            raise RuntimeError(f"The server did not become ready (exit code {self.process.poll()}).")

    def status_of(self, path: str) -> int:
        try:
            with urllib.request.urlopen(self.url + path, timeout=10) as response:  # noqa: S310 - our own loopback address
                return int(response.status)
        except urllib.error.HTTPError as error:
            return error.code

    def get(self, path: str) -> Any:  # noqa: ANN401 - whatever JSON it is
        with urllib.request.urlopen(self.url + path, timeout=10) as response:  # noqa: S310 - our own loopback address
            return json.loads(response.read())

    def ask(self, body: dict[str, object]) -> tuple[int, dict[str, Any]]:
        """POST /invocations; return status and answer."""
        request = urllib.request.Request(  # noqa: S310 - our own loopback address
            self.url + "/invocations", data=json.dumps(body).encode(), headers={"content-type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=_ANSWER_SECONDS) as response:  # noqa: S310
                return int(response.status), json.loads(response.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def stream(self, body: dict[str, object]) -> Iterator[tuple[str, dict[str, Any]]]:
        """POST /invocations; yield its events as they come. A connection that breaks is the event "broken"."""
        host, port = self.url.removeprefix("http://").split(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=_ANSWER_SECONDS)
        name = ""
        try:
            connection.request("POST", "/invocations", json.dumps({**body, "stream": True}))
            response = connection.getresponse()
            if response.status != 200:
                yield "refused", json.loads(response.read())
                return
            for raw in response:
                line = raw.decode().rstrip("\n")
                if line.startswith("event: "):
                    name = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    yield name, json.loads(line.removeprefix("data: "))
        except (OSError, http.client.HTTPException) as error:
            yield "broken", {"message": str(error)}
        finally:
            connection.close()
