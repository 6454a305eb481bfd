"""Processes end with their parents; run folders with theirs; phases arrive over a socket."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pratique.inference.engines._process import faster_imports
from pratique.inference.engines._run_folder import environment, make_run_folder, phases_from

pytestmark = pytest.mark.unit

CHILD = """
import os, sys, time
from pratique.inference.engines._process import die_with_parent
die_with_parent(int(sys.argv[1]))
print(os.getpid(), flush=True)
time.sleep(60)
"""
PARENT = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else str(os.getpid())])
code = child.wait()
print("code", code, flush=True)
"""


def test_a_child_ends_when_its_parent_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, CHILD], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 5
    while is_running(pid):
        assert time.monotonic() < deadline, "the child outlived its parent"
        time.sleep(0.01)


def test_a_child_whose_parent_has_just_ended_leaves_at_once() -> None:
    said = subprocess.run(
        [sys.executable, "-c", PARENT, CHILD, "1234567890"], capture_output=True, text=True, timeout=20, check=True
    ).stdout
    assert said == "code 1\n"


def is_running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_imports_run_without_the_collector_and_it_comes_back() -> None:
    seen: list[bool] = []
    try:
        faster_imports(lambda: seen.append(gc.isenabled()))
        with pytest.raises(ZeroDivisionError):
            faster_imports(lambda: 1 // 0)
        assert (seen, gc.isenabled()) == ([False], True)
    finally:
        gc.unfreeze()


def test_folders_of_killed_processes_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    dead = tmp_path / "pratique-engine-999999999-x"
    foreign = tmp_path / "pratique-engine-mine"
    for folder in (dead, foreign):
        folder.mkdir()
    own = make_run_folder()
    again = make_run_folder()
    assert {path.name for path in tmp_path.iterdir()} == {foreign.name, own.name, again.name}


def test_an_environment_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRATIQUE_A", "before")
    monkeypatch.delenv("PRATIQUE_B", raising=False)
    with environment({"PRATIQUE_A": "x", "PRATIQUE_B": "y"}):
        assert (os.environ["PRATIQUE_A"], os.environ["PRATIQUE_B"]) == ("x", "y")
    assert (os.environ["PRATIQUE_A"], os.environ.get("PRATIQUE_B")) == ("before", None)


async def test_phases_arrive(tmp_path: Path) -> None:
    heard: list[str] = []
    all_there = asyncio.Event()

    def hear(text: str) -> None:
        heard.append(text)
        if len(heard) == 3:
            all_there.set()

    with phases_from(tmp_path / "phases", hear), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        for text in (b"loading weights", b"loading weights 40 %", b"\xff"):
            sender.sendto(text, str(tmp_path / "phases"))
        async with asyncio.timeout(5):
            await all_there.wait()
    assert heard == ["loading weights", "loading weights 40 %", "�"]
