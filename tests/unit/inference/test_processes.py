"""Processes end with their parents; run folders with theirs; reports arrive over a socket; loads take turns."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pratique.inference.engines._host import turn_to_load
from pratique.inference.engines._process import EngineContext, cpu_seconds, faster_imports
from pratique.inference.engines._reports import MAX_REPORT_BYTES, Died, Entered, Message, Receiver, Sender
from pratique.inference.engines._run_folder import RunFolder, environment, make_run_folder

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


def test_a_run_folder_changes_nothing_that_is_compiled(tmp_path: Path) -> None:
    assert RunFolder(tmp_path / "a").compute_hash() == RunFolder(tmp_path / "b").compute_hash()


def test_an_environment_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRATIQUE_A", "before")
    monkeypatch.delenv("PRATIQUE_B", raising=False)
    with environment({"PRATIQUE_A": "x", "PRATIQUE_B": "y"}):
        assert (os.environ["PRATIQUE_A"], os.environ["PRATIQUE_B"]) == ("x", "y")
    assert (os.environ["PRATIQUE_A"], os.environ.get("PRATIQUE_B")) == ("before", None)


def test_processor_time_is_read_of_any_process_and_is_nothing_where_it_is_gone() -> None:
    begun = time.process_time()
    while time.process_time() - begun < 0.02:
        pass
    assert cpu_seconds(os.getpid()) == pytest.approx(time.process_time(), abs=0.05)
    assert cpu_seconds(2**22 + 1) == 0.0


def test_a_context_without_processes_has_nothing_to_kill_and_no_exit_code() -> None:
    context = EngineContext()
    assert (context.exit_code, context.pids) == (None, [])
    context.kill()


def test_a_context_that_was_killed_begins_nothing_any_more() -> None:
    context = EngineContext()
    process = context.Process(target=print)
    assert context.processes == [process]
    assert (context.exit_code, context.pids) == (None, [])
    context.kill()
    with pytest.raises(RuntimeError, match="ended while it was being started"):
        context.Process(target=print)


@pytest.fixture
async def heard(tmp_path: Path) -> AsyncIterator[tuple[list[Message], Receiver, Path]]:
    messages: list[Message] = []
    receiver = Receiver(tmp_path / "reports", messages.append)
    yield messages, receiver, tmp_path / "reports"
    receiver.close()


async def test_reports_arrive_in_order(heard: tuple[list[Message], Receiver, Path]) -> None:
    messages, _, path = heard
    sender = Sender(path)
    sender.enter("weights", "loading weights", 0.0)
    sender.enter("weights", "loading weights", 0.4)
    sender.die(MemoryError("漫画 🎉"))
    sender.close()
    async with asyncio.timeout(5):
        while len(messages) < 3:  # noqa: ASYNC110 - it is the event loop that is waited for
            await asyncio.sleep(0)
    assert messages == [
        Entered(phase="weights", detail="loading weights", share=0.0),
        Entered(phase="weights", detail="loading weights", share=0.4),
        Died(pid=os.getpid(), text="MemoryError: 漫画 🎉"),
    ]


async def test_what_is_no_report_is_passed_over(heard: tuple[list[Message], Receiver, Path]) -> None:
    messages, receiver, path = heard
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
        for raw in (b"", b"\xff", b"{}", b'{"type":"entered","phase":3}', b"[" * MAX_REPORT_BYTES):
            stranger.sendto(raw, str(path))
    with contextlib.closing(Sender(path)) as sender:
        sender.enter("api", "building the API")
    receiver.read_all()
    assert messages == [Entered(phase="api", detail="building the API")]


async def test_a_huge_error_is_cut_to_what_a_datagram_takes(heard: tuple[list[Message], Receiver, Path]) -> None:
    messages, receiver, path = heard
    with contextlib.closing(Sender(path)) as sender:
        sender.die(RuntimeError("\x00🙂" * 100_000))
    receiver.read_all()
    (died,) = messages
    assert isinstance(died, Died)
    assert died.text.startswith("RuntimeError: \x00🙂")


async def test_what_nobody_receives_is_dropped(tmp_path: Path) -> None:
    with contextlib.closing(Sender(tmp_path / "nobody")) as sender:
        sender.enter("api", "building the API")
        sender.die(ValueError("x"))


async def test_a_closed_receiver_has_read_what_was_there_and_reads_no_more(tmp_path: Path) -> None:
    messages: list[Message] = []
    receiver = Receiver(tmp_path / "reports", messages.append)
    with contextlib.closing(Sender(tmp_path / "reports")) as sender:
        sender.enter("api", "one")
        receiver.close()
        sender.enter("api", "two")
    receiver.close()
    receiver.read_all()
    assert [message.detail for message in messages if isinstance(message, Entered)] == ["one"]


async def test_two_receivers_cannot_share_an_address(heard: tuple[list[Message], Receiver, Path]) -> None:
    with pytest.raises(OSError, match="in use"):
        Receiver(heard[2], lambda _: None)


async def test_engines_load_one_at_a_time() -> None:
    order: list[str] = []

    async def load(name: str) -> None:
        async with turn_to_load():
            order.append(f"{name} begins")
            await asyncio.sleep(0)
            order.append(f"{name} ends")

    async with asyncio.timeout(5):
        await asyncio.gather(load("a"), load("b"))
    assert order == ["a begins", "a ends", "b begins", "b ends"]


async def test_who_gives_up_waiting_for_a_turn_does_not_take_it() -> None:
    async with turn_to_load():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01), turn_to_load():
                pass
    async with asyncio.timeout(5), turn_to_load():
        pass
