"""Programs that are run once."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from pratique.core import procfs
from pratique.fleet.processes.errand import Errand
from pratique.fleet.processes.lifecycle import Phase
from pratique.fleet.processes.logs import ServiceLog

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pratique.fleet.processes.child import Program
    from pratique.fleet.processes.guard import Guard

pytestmark = [pytest.mark.integration, pytest.mark.fast]

IMPORT = """
import json, pathlib, time
print(json.dumps({"phase": "converting", "progress": 0.5}), flush=True)
while not pathlib.Path("go").exists(): time.sleep(0.005)
print(json.dumps({"phase": "done", "progress": 1}))
print("a plain line")
"""


@pytest.fixture
def make_errand(tmp_path: Path, guard: Guard, program: Callable[..., Program]) -> Callable[..., Errand]:
    def make(source: str, **more: Any) -> Errand:
        log = ServiceLog(tmp_path / "logs" / "errand.log", "errand")
        return Errand("errand", program(source), log=log, guard=guard, **more)

    return make


async def test_errand_shows_its_progress_and_ends_ready(make_errand: Callable[..., Errand], tmp_path: Path) -> None:
    errand = make_errand(IMPORT)
    assert errand.snapshot().phase is Phase.WAITING
    running = asyncio.create_task(errand.run())
    async with asyncio.timeout(10):
        while errand.snapshot().progress is None:  # noqa: ASYNC110 - another process changes
            await asyncio.sleep(0.005)
    seen = errand.snapshot()
    assert (seen.phase, seen.detail, seen.progress) == (Phase.STARTING, "converting", 0.5)
    (tmp_path / "go").touch()
    await running
    assert errand.done.is_set()
    assert (errand.snapshot().phase, errand.snapshot().pid) == (Phase.READY, None)
    assert errand.log.tail == ("a plain line",)


async def test_errand_that_fails_keeps_its_last_words(make_errand: Callable[..., Errand]) -> None:
    errand = make_errand("import sys; print('disk full'); sys.exit(3)")
    await errand.run()
    assert not errand.done.is_set()
    seen = errand.snapshot()
    assert (seen.phase, seen.last_exit, seen.last_log) == (Phase.FAILED, "exited with code 3", "disk full")


async def test_errand_that_cannot_be_started(make_errand: Callable[..., Errand], tmp_path: Path) -> None:
    errand = make_errand("")
    object.__setattr__(errand._program, "command", (str(tmp_path / "nothing"),))
    await errand.run()
    assert errand.snapshot().phase is Phase.FAILED
    assert "could not be started" in errand.snapshot().last_log


async def test_secret_is_taken_and_never_logged(make_errand: Callable[..., Errand], tmp_path: Path) -> None:
    taken: list[dict[str, Any]] = []

    def keep(fields: dict[str, Any]) -> bool:
        taken.append(fields)
        return "key" in fields

    source = f"print('hello'); print({json.dumps(json.dumps({'key': 'sesame'}))}); print('[1]')"
    errand = make_errand(source, keep_secret=keep)
    await errand.run()
    assert taken == [{"key": "sesame"}]
    assert "sesame" not in (tmp_path / "logs" / "errand.log").read_text()


async def test_cancelled_errand_is_killed(make_errand: Callable[..., Errand]) -> None:
    errand = make_errand("import time; time.sleep(600)")
    running = asyncio.create_task(errand.run())
    async with asyncio.timeout(10):
        while errand.snapshot().pid is None:  # noqa: ASYNC110 - another task changes
            await asyncio.sleep(0.005)
    pid = errand.snapshot().pid
    assert pid is not None
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not procfs.is_alive(pid)
