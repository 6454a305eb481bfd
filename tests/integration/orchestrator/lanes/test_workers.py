"""The pool of worker processes: how they begin and end, and what they can and cannot see."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

import pratique
from pratique.core.catalogue.lanes import COLD_START_SECONDS, WORKERS_ENDED
from pratique.core.clock import SystemClock
from pratique.core.metrics import Metrics
from pratique.core.procfs import is_alive
from pratique.orchestrator.forward.interface import ForwardUnavailableError
from pratique.orchestrator.lanes import pool as pool_module
from pratique.orchestrator.lanes.settings import WorkerSettings
from pratique.orchestrator.lanes.workers import WorkerLane

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

pytestmark = pytest.mark.integration

WHOLE = b"data: one\n\ndata: two\n\n"


class Pool:
    """A pool with settings of its own."""

    def __init__(self, url: str, **settings: Any) -> None:
        self.metrics = Metrics()
        self.lane = WorkerLane(
            WorkerSettings(**{"max_workers": 2, **settings}),
            inference_url=url,
            environment={**os.environ, "SOME_SECRET": "s3cret"},
            clock=SystemClock(),
            metrics=self.metrics,
        )

    def ended(self, reason: str) -> float:
        return float(self.metrics.counter(WORKERS_ENDED).labels(reason)._value.get())


@asynccontextmanager
async def pool(url: str, **settings: Any) -> AsyncIterator[Pool]:
    made = Pool(url, **settings)
    async with made.lane.running():
        yield made


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(8):
        while not holds():  # noqa: ASYNC110 - seen from outside
            await asyncio.sleep(0.01)


async def read(lane: WorkerLane, request: Any) -> bytes:
    async with lane.open(request) as answer:
        return b"".join([chunk async for chunk in answer.chunks()])


async def test_worker_is_reused_while_warm_gets_no_secret_and_ends_with_the_pool(upstream: Any, ask: Any) -> None:
    async with pool(upstream.url) as made:
        assert await read(made.lane, ask()) == WHOLE
        (pid,) = made.lane.pool.pids
        assert await read(made.lane, ask()) == WHOLE
        assert made.lane.pool.pids == [pid]
        environment = Path(f"/proc/{pid}/environ").read_bytes()  # noqa: ASYNC240 - in memory
        assert b"SOME_SECRET" not in environment
        assert b"AWS_SECRET" not in environment
        assert made.metrics.registry.get_sample_value(f"{COLD_START_SECONDS.name}_count") == 1
        assert upstream.seen[0]["x-trace"] == "1"
        assert upstream.seen[0]["x-pratique-conversation"] == "key_1"
        assert "x-pratique-timeout-ms" not in upstream.seen[0]
    await until(lambda: not is_alive(pid))


async def test_worker_that_is_killed_breaks_its_answer_off_and_is_replaced(upstream: Any, ask: Any) -> None:
    async with pool(upstream.url) as made:
        async with made.lane.open(ask("endless")) as answer:
            chunks = aiter(answer.chunks())
            await anext(chunks)
            os.kill(made.lane.pool.pids[0], signal.SIGKILL)
            with pytest.raises(ForwardUnavailableError, match="broke off"):  # noqa: PT012 - the loop is the statement
                while True:
                    await anext(chunks)
        assert await read(made.lane, ask()) == WHOLE


async def test_idle_worker_that_died_unseen_is_not_given_work(upstream: Any, ask: Any) -> None:
    async with pool(upstream.url) as made:
        await read(made.lane, ask())
        (pid,) = made.lane.pool.pids
        os.kill(pid, signal.SIGKILL)
        await until(lambda: made.lane.pool.pids == [])
        assert await read(made.lane, ask()) == WHOLE
        assert made.ended("exited") == 1


@pytest.mark.parametrize(
    ("settings", "reason"),
    [({"max_invocations": 1}, "used_up"), ({"max_age_seconds": 0.01}, "old"), ({"idle_seconds": 0.05}, "idle")],
)
async def test_worker_is_retired(upstream: Any, ask: Any, settings: dict[str, Any], reason: str) -> None:
    async with pool(upstream.url, **settings) as made:
        await read(made.lane, ask())
        await until(lambda: made.ended(reason) == 1)
        assert made.lane.pool.pids == []
        assert await read(made.lane, ask()) == WHOLE


async def test_worker_that_hangs_ends_with_its_deadline(upstream: Any, ask: Any) -> None:
    async with pool(upstream.url) as made:
        await read(made.lane, ask())
        (pid,) = made.lane.pool.pids
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(ForwardUnavailableError, match="too long"):
            await read(made.lane, ask(timeout_seconds=0.2))
        await until(lambda: not is_alive(pid))
        assert made.ended("abandoned") == 1


async def test_worker_that_cannot_start_fails_before_the_head(
    upstream: Any, ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "_MODULE", "pratique.orchestrator.lanes.nothing")
    async with pool(upstream.url) as made:
        with pytest.raises(ForwardUnavailableError, match="did not start"):
            await read(made.lane, ask())
        assert made.lane.num_free == 2


async def test_start_that_takes_too_long_is_given_up(upstream: Any, ask: Any) -> None:
    async with pool(upstream.url, start_timeout_seconds=0.001) as made:
        with pytest.raises(ForwardUnavailableError, match=r"within 0\.001 s"):
            await read(made.lane, ask())
        await until(lambda: made.ended("start_failed") == 1)


async def test_worker_that_was_starting_as_the_pool_closed_is_gone_too(
    upstream: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[asyncio.subprocess.Process] = []
    start = asyncio.create_subprocess_exec

    async def start_slowly(*arguments: Any, **more: Any) -> asyncio.subprocess.Process:
        started.append(await start(*arguments, **more))
        await asyncio.sleep(0.05)
        return started[0]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start_slowly)
    async with pool(upstream.url) as made:
        taking = asyncio.ensure_future(made.lane.pool.take(asyncio.get_running_loop().time() + 5))
        await until(lambda: bool(started))
    with pytest.raises(ForwardUnavailableError, match="closed"):
        await taking
    assert started[0].returncode is not None


async def test_runtime_api_answers_nobody_without_a_workers_path(upstream: Any, ask: Any) -> None:
    async with pool(upstream.url) as made, aiohttp.ClientSession() as http:
        await read(made.lane, ask())
        port = made.lane.pool._api._port
        for path in ("", "guess/", "../"):
            url = f"http://127.0.0.1:{port}/{path}2018-06-01/runtime/invocation/next"
            async with http.get(url) as response:
                assert response.status == 403


async def test_workers_end_with_a_process_that_is_killed(upstream: Any, tmp_path: Path) -> None:
    program = tmp_path / "holder.py"
    program.write_text(_HOLDER)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(program), upstream.url),
        env={**os.environ, "PYTHONPATH": str(Path(pratique.__file__).parent.parent)},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(20):
        pid = int(await process.stdout.readline())
        assert is_alive(pid)
        process.kill()
        await process.communicate()
    await until(lambda: not is_alive(pid))


_HOLDER = """
import asyncio, os, sys
from pratique.core.clock import SystemClock
from pratique.core.metrics import Metrics
from pratique.orchestrator.forward.interface import ForwardRequest
from pratique.orchestrator.lanes.settings import WorkerSettings
from pratique.orchestrator.lanes.workers import WorkerLane

async def main():
    lane = WorkerLane(
        WorkerSettings(), inference_url=sys.argv[1], environment=os.environ, clock=SystemClock(), metrics=Metrics()
    )
    request = ForwardRequest(
        method="POST", path="/v1/completions", headers=[], body=b'{"mode":"endless"}', affinity="k", timeout_seconds=60
    )
    async with lane.running(), lane.open(request) as answer:
        async for _ in answer.chunks():
            print(lane.pool.pids[0], flush=True)
            await asyncio.sleep(60)

asyncio.run(main())
"""
