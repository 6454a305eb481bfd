"""A service over real processes: start, crash, stop, and what it leaves behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import TYPE_CHECKING

import pytest

from pratique.core import procfs
from pratique.fleet.processes.lifecycle import Phase

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from pratique.fleet.processes.guard import Guard
    from pratique.fleet.processes.service import Service

pytestmark = [pytest.mark.integration, pytest.mark.fast]

READY = "import pathlib, time; pathlib.Path('ready').touch(); print('hello', flush=True); time.sleep(600)"
STUBBORN = (
    "import signal, pathlib, time; signal.signal(15, signal.SIG_IGN); pathlib.Path('ready').touch(); time.sleep(600)"
)
FAMILY = """
import subprocess, sys, pathlib, time
far = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])
pathlib.Path('grandchild').write_text(str(far.pid))
pathlib.Path('ready').touch()
time.sleep(600)
"""


async def until(condition: Callable[[], bool], within: float = 10.0) -> None:
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110 - another process changes
            await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def running(service: Service) -> AsyncIterator[Service]:
    task = asyncio.create_task(service.run())
    try:
        yield service
    finally:
        service.stop()
        await asyncio.wait_for(task, 10)


async def test_service_becomes_ready_and_stops(make_service: Callable[..., Service]) -> None:
    service = make_service(READY)
    async with running(service):
        await until(lambda: service.snapshot().phase is Phase.READY)
        seen = service.snapshot()
        assert seen.pid is not None
        assert procfs.is_alive(seen.pid)
        await until(lambda: service.snapshot().last_log == "hello")
    assert service.snapshot().phase is Phase.STOPPED
    assert service.snapshot().pid is None
    assert not procfs.is_alive(seen.pid)


async def test_killed_service_comes_back_and_says_what_happened(make_service: Callable[..., Service]) -> None:
    service = make_service(READY)
    async with running(service):
        for round_number in (1, 2):
            await until(lambda: service.snapshot().phase is Phase.READY)
            pid = service.snapshot().pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            await until(lambda: service.snapshot().restarts == round_number)  # noqa: B023 - awaited in the round
        await until(lambda: service.snapshot().phase is Phase.READY)
        assert service.snapshot().last_exit == "was killed by SIGKILL"
        assert service.snapshot().failures == 1


async def test_crash_loop_backs_off_and_keeps_the_last_words(make_service: Callable[..., Service]) -> None:
    service = make_service("import sys; print('no such model', flush=True); sys.exit(1)")
    async with running(service):
        await until(lambda: service.snapshot().failures >= 3)
        assert "no such model" in service.log.tail
        assert service.snapshot().last_exit == "exited with code 1"


async def test_usage_error_is_not_tried_again_until_somebody_says_so(make_service: Callable[..., Service]) -> None:
    service = make_service("import sys; sys.exit(2)")
    async with running(service):
        await until(lambda: service.snapshot().phase is Phase.FAILED)
        assert "never work" in service.snapshot().detail
        service.restart()
        await until(lambda: service.snapshot().restarts == 1 and service.snapshot().phase is Phase.FAILED)


async def test_program_that_does_not_exist_is_shown(make_service: Callable[..., Service], tmp_path: Path) -> None:
    service = make_service("")
    object.__setattr__(service.spec.program, "command", (str(tmp_path / "nothing"),))
    async with running(service):
        await until(lambda: service.snapshot().failures >= 2)
        assert "could not be started" in service.snapshot().last_exit


async def test_late_service_is_ended_and_started_again(make_service: Callable[..., Service]) -> None:
    service = make_service("import time; time.sleep(600)", deadline=0.2)
    async with running(service):
        await until(lambda: service.snapshot().restarts >= 1)
        assert "was not ready within" in service.snapshot().last_exit


async def test_service_that_stops_being_ready_is_shown_and_left_running(
    make_service: Callable[..., Service], tmp_path: Path
) -> None:
    service = make_service(READY)
    async with running(service):
        await until(lambda: service.snapshot().phase is Phase.READY)
        pid = service.snapshot().pid
        (tmp_path / "ready").unlink()
        await until(lambda: service.snapshot().phase is Phase.UNREADY)
        (tmp_path / "ready").touch()
        await until(lambda: service.snapshot().phase is Phase.READY)
        assert service.snapshot().pid == pid


async def test_stubborn_service_is_killed_after_its_grace(make_service: Callable[..., Service]) -> None:
    service = make_service(STUBBORN, grace=0.2)
    async with running(service):
        await until(lambda: service.snapshot().phase is Phase.READY)
        pid = service.snapshot().pid
    assert pid is not None
    assert not procfs.is_alive(pid)


async def test_restart_is_asked_for(make_service: Callable[..., Service]) -> None:
    service = make_service(READY)
    async with running(service):
        await until(lambda: service.snapshot().phase is Phase.READY)
        pid = service.snapshot().pid
        service.restart()
        await until(lambda: service.snapshot().phase is Phase.READY and service.snapshot().pid != pid)
        assert service.snapshot().restarts == 1
        assert service.snapshot().last_exit == ""


async def test_grandchild_of_a_killed_service_is_ended(make_service: Callable[..., Service], tmp_path: Path) -> None:
    service = make_service(FAMILY)
    async with running(service):
        await until(lambda: service.snapshot().phase is Phase.READY)
        grandchild = int((tmp_path / "grandchild").read_text())
        assert procfs.is_alive(grandchild)
        pid = service.snapshot().pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await until(lambda: not procfs.is_alive(grandchild))


async def test_service_waits_for_the_one_before_it(make_service: Callable[..., Service]) -> None:
    gate = asyncio.Event()
    service = make_service(READY, first=gate.wait, waiting_detail="waits for the other")
    async with running(service):
        await asyncio.sleep(0.05)
        assert (service.snapshot().phase, service.snapshot().detail) == (Phase.WAITING, "waits for the other")
        gate.set()
        await until(lambda: service.snapshot().phase is Phase.READY)


async def test_service_that_still_waits_can_be_stopped(make_service: Callable[..., Service]) -> None:
    service = make_service(READY, first=asyncio.Event().wait)
    async with running(service):
        await asyncio.sleep(0.01)
    assert service.snapshot().phase is Phase.STOPPED


async def test_cancelled_run_leaves_nothing(make_service: Callable[..., Service], tmp_path: Path) -> None:
    service = make_service(FAMILY)
    task = asyncio.create_task(service.run())
    await until(lambda: service.snapshot().phase is Phase.READY)
    pids = [service.snapshot().pid, int((tmp_path / "grandchild").read_text())]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not any(procfs.is_alive(pid) for pid in pids if pid)


async def test_guardian_that_is_killed_is_replaced(guard: Guard) -> None:
    before = guard.pid
    guard.watch(4_194_999)
    os.kill(before, signal.SIGKILL)
    await until(lambda: guard.pid != before and procfs.is_alive(guard.pid))
