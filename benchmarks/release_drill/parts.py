"""The real parts around the story: registry, front, mirror, webhook, containers, people who ask the service.

All listen on loopback. Everything that is started ends with the stack that it was entered in.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Self

from benchmarks.release_drill.desk import DrillError

__all__ = [
    "Traffic",
    "missing_programs",
    "podman_words",
    "running_containers",
    "serving",
    "serving_registry",
    "webhook",
]

_PACKAGES: Final = {
    "git": "git",
    "buildah": "buildah",
    "skopeo": "skopeo",
    "mmdebstrap": "mmdebstrap",
    "podman": "podman",
    "runc": "runc",
    "docker-registry": "docker-registry",
}
_NAMES: Final = ("bücher.example", "example.org", "日本語.example", "straße.example")
_END_SECONDS: Final = 20.0


def missing_programs() -> list[str]:
    """Return Debian's packages that the drill needs and that are not installed."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    return [package for program, package in _PACKAGES.items() if shutil.which(program, path=path) is None]


def podman_words(folder: Path) -> tuple[str, ...]:
    """Return podman with a storage of the drill's own."""
    places = ("--root", str(folder / "containers"), "--runroot", str(_runroot(folder)))
    return ("podman", *places, "--runtime", "runc")


def _runroot(folder: Path) -> Path:
    """Return a folder whose name is short: podman takes no more than 50 characters."""
    return Path("/run") / f"pratique-night-{hashlib.sha256(bytes(folder)).hexdigest()[:12]}"


@contextlib.contextmanager
def running_containers(folder: Path) -> Iterator[None]:
    """Have containers and images removed at the end, so that the folder can be."""
    try:
        yield
    finally:
        for words in (("rm", "--all", "--force", "--time", "2"), ("rmi", "--all", "--force")):
            subprocess.run([*podman_words(folder), *words], capture_output=True, check=False, timeout=60)
        shutil.rmtree(_runroot(folder), ignore_errors=True)


@contextlib.contextmanager
def _process(words: list[str], folder: Path, name: str) -> Iterator[Path]:
    """Run a server; yield the file that it writes to. A pipe that nobody reads would stop it once it is full."""
    file = folder / f"{name}.log"
    with file.open("w") as log:
        process = subprocess.Popen(words, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield file
    finally:
        process.terminate()
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(_END_SECONDS)


@contextlib.contextmanager
def serving_registry(folder: Path, port: int) -> Iterator[str]:
    """Run Debian's registry; yield its address."""
    storage = {"filesystem": {"rootdirectory": str(folder / "registry")}}
    settings = {"version": "0.1", "storage": storage, "http": {"addr": f"127.0.0.1:{port}"}, "log": {"level": "error"}}
    (folder / "registry.yml").write_text(json.dumps(settings), encoding="utf-8")
    with _process(["docker-registry", "serve", str(folder / "registry.yml")], folder, "registry") as log:
        address = f"http://127.0.0.1:{port}"
        _wait(lambda: _answers(f"{address}/v2/"), log)
        yield address


@contextlib.contextmanager
def serving(folder: Path, name: str, *words: str) -> Iterator[str]:
    """Run a server of pratique; yield the address that it announces."""
    with _process([sys.executable, "-m", "pratique.cli.main", *words], folder, name) as log:
        yield _wait(lambda: _announced(log), log)


def _answers(address: str) -> str:
    with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=1):  # noqa: S310 - ours
        return address
    return ""


def _announced(log: Path) -> str:
    for line in log.read_text(encoding="utf-8").splitlines():
        if line.startswith("listening on http://"):
            return line.removeprefix("listening on ")
    return ""


def _wait(found: Callable[[], str], log: Path) -> str:
    """Return what is found as soon as it is not empty."""
    ends = time.monotonic() + _END_SECONDS
    while not (one := found()):
        if time.monotonic() > ends:
            raise DrillError("a server did not start in time", hint=f"See {log}.")
        time.sleep(0.05)
    return one


@contextlib.contextmanager
def webhook() -> Iterator[tuple[str, list[dict[str, object]]]]:
    """Take what is posted; yield the address, and what came."""
    came: list[dict[str, object]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = min(int(self.headers.get("Content-Length", "0")), 1 << 20)
            came.append(json.loads(self.rfile.read(length)))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base class has it
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/alerts", came
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Traffic:
    """People who ask the service, so many times a second, until they are stopped; counts what they got."""

    def __init__(self, port: int, *, requests_per_second: float, num_people: int = 4) -> None:
        self.answers: Counter[int] = Counter()
        self._port = port
        self._pause = num_people / requests_per_second
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._people = [threading.Thread(target=self._ask, args=(number,)) for number in range(num_people)]

    def __enter__(self) -> Self:
        for one in self._people:
            one.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for one in self._people:
            one.join()

    def _ask(self, number: int) -> None:
        due = time.monotonic() + self._pause * number / len(self._people)
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            status = self._one(_NAMES[number % len(_NAMES)])
            with self._lock:
                self.answers[status] += 1
            due = max(due + self._pause, time.monotonic())

    def _one(self, name: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        try:
            connection.request("GET", "/" + urllib.parse.quote(name))
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            return 0
        else:
            return answer.status
        finally:
            connection.close()
