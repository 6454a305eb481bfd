"""Nothing outlives a supervisor that is killed: neither children nor grandchildren, wherever they went."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from pratique.core import procfs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.integration, pytest.mark.fast]

# A supervisor with one child; the child starts a grandchild in its session, and one in a session of its own.
SUPERVISOR = """
import asyncio, os, pathlib, sys
from pratique.fleet.processes.child import Child, Program
from pratique.fleet.processes.guard import Guard
from pratique.fleet.processes.marker import MARKER

CHILD = '''
import os, pathlib, subprocess, sys, time
sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
pids = [os.getpid(), subprocess.Popen(sleep).pid, subprocess.Popen(sleep, start_new_session=True).pid]
pathlib.Path("draft").write_text(" ".join(map(str, pids)))
pathlib.Path("draft").rename("pids")
time.sleep(600)
'''

async def main():
    run = "tests:" + os.path.basename(os.getcwd())
    async with Guard(run) as guard:
        environment = {**os.environ, MARKER: run}
        program = Program(command=(sys.executable, "-c", CHILD), environment=environment, folder=pathlib.Path.cwd())
        child = Child(program, lambda line: None)
        guard.watch(child.pid)
        pathlib.Path("guardian").write_text(str(guard.pid))
        await child.wait()

asyncio.run(main())
"""


def until(condition: Callable[[], bool], within: float = 10.0) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_killed_supervisor_takes_everything_with_it(tmp_path: Path) -> None:
    supervisor = subprocess.Popen([sys.executable, "-c", SUPERVISOR], cwd=tmp_path, stdin=subprocess.DEVNULL)
    until((tmp_path / "pids").exists)
    until((tmp_path / "guardian").exists)
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    guardian = int((tmp_path / "guardian").read_text())
    assert len(pids) == 3
    assert all(procfs.is_alive(pid) for pid in [*pids, guardian])

    os.kill(supervisor.pid, signal.SIGKILL)
    supervisor.wait(10)

    until(lambda: not any(procfs.is_alive(pid) for pid in [*pids, guardian]))
