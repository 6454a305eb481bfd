"""A history of a conversation store: processes of random clients, killed and paused, on a store that stalls."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import TypeAlias

import msgspec
from benchmarks.history.house import Process
from benchmarks.history.record import Operation, Recorder, load_history
from benchmarks.history.storeclient import OWNER, StoreSpec, open_spec, read_into

from pratique.orchestrator.conversations import ConversationStore

__all__ = ["Stall", "read_all", "run_on_store", "stall_server", "stall_sqlite"]

Stall: TypeAlias = Callable[[float], Awaitable[None]]
"""Keeps the store from answering for so many seconds."""

_PROCESSES = 3
_PAUSE_SECONDS = (0.3, 1.2)
_STALL_SECONDS = (0.05, 0.8)


async def run_on_store(
    spec: StoreSpec, folder: Path, *, seconds: float, seed: str, stall: Stall
) -> tuple[list[Operation], dict[str, int]]:
    """Let clients loose on the store, with faults all the while; return their history and the faults by kind."""
    draw = random.Random(seed)  # noqa: S311 - dice
    text = msgspec.json.encode(spec).decode()
    workers = [_Worker(f"w{number}", folder, text, seed) for number in range(_PROCESSES)]
    faults = {"kill": 0, "pause": 0, "stall": 0}
    try:
        await asyncio.gather(*(worker.start() for worker in workers))
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            await asyncio.sleep(draw.uniform(0.2, 1.5))
            fault = draw.choice(list(faults))
            faults[fault] += 1
            worker = draw.choice(workers)
            worker.require_alive()
            if fault == "kill":
                await worker.kill()
                await worker.start()
            elif fault == "pause":
                await worker.pause(draw.uniform(*_PAUSE_SECONDS))
            else:
                await stall(draw.uniform(*_STALL_SECONDS))
    finally:
        for worker in workers:
            await worker.kill()
    paths = [worker.path for worker in workers]
    await read_all(spec, folder / "final.jsonl", load_history(paths))
    return load_history([*paths, folder / "final.jsonl"]), faults


def stall_sqlite(database: Path) -> Stall:
    """Stall an SQLite file: hold its lock, as a backup or a long transaction would."""

    def hold(seconds: float) -> None:
        with closing(sqlite3.connect(database, timeout=5, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            time.sleep(seconds)
            connection.execute("ROLLBACK")

    return lambda seconds: asyncio.to_thread(hold, seconds)


def stall_server(pause: Callable[[], object], resume: Callable[[], object]) -> Stall:
    """Stall a server that can be paused."""

    async def hold(seconds: float) -> None:
        await asyncio.to_thread(pause)
        await asyncio.sleep(seconds)
        await asyncio.to_thread(resume)

    return hold


class _Worker(Process):
    """A process of clients, and its lives. Ready: it has recorded something, in this life or an earlier one."""

    def __init__(self, name: str, folder: Path, spec: str, seed: str) -> None:
        super().__init__(name, folder)
        self.path = folder / f"{name}.jsonl"
        self._arguments = [spec, str(self.path), name, seed]

    def _words(self) -> list[str]:
        return [sys.executable, "-m", "benchmarks.history.storeclient", *self._arguments]

    async def _wait_ready(self) -> None:
        while not (self.path.exists() and self.path.stat().st_size):
            self.require_alive()
            await asyncio.sleep(0.02)


async def read_all(spec: StoreSpec, path: Path, history: list[Operation]) -> None:
    """Read every conversation that anybody knows of, and those that only the store knows."""
    recorder = Recorder(path)
    async with AsyncExitStack() as stack:
        store = await open_spec(spec, stack)
        names = {operation.conversation_id for operation in history if operation.conversation_id}
        for name in sorted(names | await _listed(store)):
            await read_into(store, recorder, "final", name, is_final=True)
    recorder.close()


async def _listed(store: ConversationStore) -> set[str]:
    names: set[str] = set()
    cursor: str | None = None
    while True:
        page = await store.list_conversations(owner=OWNER, limit=200, before=cursor)
        names |= {shown.conversation_id for shown in page.conversations}
        cursor = page.next
        if cursor is None:
            return names
