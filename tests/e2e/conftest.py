"""The whole stack as a user starts it, and a browser: started once, on free ports, in a state folder of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Browser, sync_playwright

from pratique.testkit.ports import reserved_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]
MODEL_ROOT = ROOT / ".cache" / "models"
EXAMPLE = ROOT / "examples" / "manga-assistant" / "pratique.toml"
RESULTS = ROOT / "test-results"
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass(frozen=True)
class Stack:
    """A running `pratique up --detach`, spoken to by its own commands only."""

    url: str
    state_dir: Path

    @property
    def api_key(self) -> str:
        return (self.state_dir / "api-key").read_text(encoding="utf-8").strip()

    def command(self, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        return pratique(*arguments, "--state-dir", str(self.state_dir), timeout=timeout)

    def status(self) -> dict[str, Any]:
        answer = self.command("status", "--json")
        assert answer.returncode in (0, 1), answer.stderr
        status: dict[str, Any] = json.loads(answer.stdout)
        return status

    def service(self, name: str) -> dict[str, Any]:
        return next(dict(service) for service in self.status()["services"] if service["name"] == name)

    def kill(self, name: str) -> float:
        """Kill a service's process without warning; return the time (monotonic) of the kill."""
        os.kill(int(self.service(name)["pid"]), signal.SIGKILL)
        return time.monotonic()

    def wait_until_ready(self, *names: str, timeout: float = 120) -> None:
        """Ask the services themselves: their addresses outlive their deaths, and a probe is cheaper than a command."""
        addresses = {service["name"]: service["address"] for service in self.status()["services"]}
        for name in names:
            wait_for(partial(is_ready, f"{addresses[name]}/readyz"), f"{name} ready again", timeout=timeout)


def pratique(*arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pratique.cli.main", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - our own service
            return bool(answer.status == HTTPStatus.OK)
    except OSError:
        return False


def wait_for(condition: Callable[[], bool], what: str, *, timeout: float = 30) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
        time.sleep(0.05)


def run_stack(state_dir: Path, *flags: str) -> Iterator[Stack]:
    with reserved_port() as port:
        started = pratique("up", "--detach", "--port", str(port), "--state-dir", str(state_dir), *flags, timeout=300)
        try:
            assert started.returncode == 0, f"{started.stdout}\n{started.stderr}"
            yield Stack(url=f"http://127.0.0.1:{port}", state_dir=state_dir)
        finally:
            stopped = pratique("down", "--state-dir", str(state_dir))
        assert stopped.returncode == 0, stopped.stderr


@pytest.fixture(scope="session")
def simulated_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    yield from run_stack(
        tmp_path_factory.mktemp("simulated"), "--engine", "simulated", "--inference", "2", "--config", str(EXAMPLE)
    )


@pytest.fixture(scope="session")
def real_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Run vLLM with the small model, imported once into the project's cache folder."""
    yield from run_stack(
        tmp_path_factory.mktemp("real"), "--inference", "2", "--config", str(EXAMPLE), "--model-root", str(MODEL_ROOT)
    )


@pytest.fixture(scope="module")  # Playwright holds this thread's event loop while it runs: not beyond its module
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=CHROMIUM_FLAGS)
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def results() -> Path:
    RESULTS.mkdir(exist_ok=True)
    return RESULTS
