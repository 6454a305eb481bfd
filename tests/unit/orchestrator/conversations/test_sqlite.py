"""What only the SQLite store has: a file, a disk that fails, callers that leave, other processes."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import stat
import threading
from typing import TYPE_CHECKING, Any

import pytest

from pratique.core.catalogue.conversations import STORE_BATCH_WRITES, STORE_FAILURES
from pratique.core.ids import PrincipalId, SequentialIds
from pratique.core.metrics import Metrics
from pratique.orchestrator.conversations import (
    ConversationNotFoundError,
    GenerationOptions,
    Outcome,
    StoreUnavailableError,
)
from pratique.orchestrator.conversations.sqlite import SqliteConversationStore, SqliteSettings
from pratique.orchestrator.protocol.events import FinishReason

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from pratique.orchestrator.conversations import BegunTurn

pytestmark = pytest.mark.unit

ANN = PrincipalId("usr_ann")
QUICK = SqliteSettings(busy_seconds=0.05, deadline_seconds=5)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "talk.db"


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def store(path: Path, metrics: Metrics) -> AsyncIterator[SqliteConversationStore]:
    opened = await SqliteConversationStore.open(path, settings=QUICK, metrics=metrics)
    yield opened
    await opened.aclose()


async def say(store: SqliteConversationStore, message: str = "message-0001", text: str = "hello") -> BegunTurn:
    return await store.begin_turn(
        owner=ANN, conversation_id=None, client_message_id=message, text=text, options=GenerationOptions()
    )


class Gate:
    """Holds the writer's thread inside a write of its own, so that what follows queues up behind it."""

    def __init__(self, store: SqliteConversationStore) -> None:
        self._entered = threading.Event()
        self._open = threading.Event()
        self._held = asyncio.ensure_future(store._writer.write(self._hold))

    def _hold(self, _: sqlite3.Connection) -> None:
        self._entered.set()
        assert self._open.wait(10)

    async def entered(self) -> None:
        await asyncio.to_thread(self._entered.wait, 10)

    async def open(self) -> None:
        self._open.set()
        await self._held


class TestFile:
    async def test_it_is_made_readable_by_its_owner_only(self, store: SqliteConversationStore, path: Path) -> None:
        await say(store)
        for file in path.parent.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0

    async def test_its_settings_are_the_durable_ones(self, store: SqliteConversationStore) -> None:
        def look(connection: sqlite3.Connection) -> list[Any]:
            names = ("journal_mode", "synchronous", "foreign_keys")
            return [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names]

        assert await store._writer.write(look) == ["wal", 2, 1]

    async def test_readers_cannot_write(self, store: SqliteConversationStore) -> None:
        with pytest.raises(StoreUnavailableError, match="cannot be written"):
            await store._read(lambda connection: connection.execute("DELETE FROM conversations"))

    async def test_what_was_stored_is_there_when_opened_again(self, store: SqliteConversationStore, path: Path) -> None:
        begun = await say(store)
        await store.aclose()
        again = await SqliteConversationStore.open(path)
        assert await again.load_conversation(begun.conversation_id) == begun.conversation
        await again.aclose()

    async def test_many_that_open_a_new_file_together_all_work(self, path: Path) -> None:
        stores = await asyncio.gather(*(SqliteConversationStore.open(path) for _ in range(8)))
        for number, opened in enumerate(stores):
            await say(opened, f"message-{number:04}")
        page = await stores[0].list_conversations(owner=ANN, limit=50)
        assert len(page.conversations) == 8
        for opened in stores:
            await opened.aclose()

    async def test_closing_twice_is_closing_once(self, store: SqliteConversationStore) -> None:
        await store.aclose()
        await store.aclose()


class TestRefusedAtOpening:
    async def test_a_database_of_another_program(self, path: Path) -> None:
        _place(path, b"")
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE other (x)")
        connection.close()
        with pytest.raises(StoreUnavailableError, match="another program"):
            await SqliteConversationStore.open(path)

    async def test_a_file_that_is_no_database(self, path: Path) -> None:
        _place(path, b"not a database" * 1000)
        with pytest.raises(StoreUnavailableError, match="not an SQLite database"):
            await SqliteConversationStore.open(path)

    async def test_a_schema_of_a_newer_version(self, store: SqliteConversationStore, path: Path) -> None:
        await store._writer.write(lambda connection: connection.execute("PRAGMA user_version = 99"))
        with pytest.raises(StoreUnavailableError, match="schema 99"):
            await SqliteConversationStore.open(path)

    async def test_a_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(StoreUnavailableError, match="cannot be opened"):
            await SqliteConversationStore.open(tmp_path / "file" / "talk.db")


class TestGroupCommit:
    async def test_writes_that_wait_are_committed_together(
        self, store: SqliteConversationStore, metrics: Metrics
    ) -> None:
        gate = Gate(store)
        await gate.entered()
        waiting = [asyncio.ensure_future(say(store, f"message-{n:04}")) for n in range(30)]
        await asyncio.sleep(0)
        await gate.open()
        begun = await asyncio.gather(*waiting)
        assert len({one.conversation_id for one in begun}) == 30
        batches = metrics.registry.get_sample_value(f"{STORE_BATCH_WRITES.name}_count")
        assert batches == 2

    async def test_one_that_fails_takes_nothing_else_with_it(self, store: SqliteConversationStore) -> None:
        def fail(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM conversations")
            raise ValueError("mine")

        def clash(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM conversations")
            connection.execute("INSERT INTO conversations VALUES ('x', NULL, '', 0, 0, 0)")

        gate = Gate(store)
        await gate.entered()
        waiting: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(one)
            for one in (
                say(store, "message-0001"),
                store._writer.write(fail),
                store._writer.write(clash),
                say(store, "message-0002"),
            )
        ]
        await asyncio.sleep(0)
        await gate.open()
        told: list[Any] = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(one) for one in told[1:3]] == [ValueError, StoreUnavailableError]
        for begun in (told[0], told[3]):
            assert await store.load_conversation(begun.conversation_id) == begun.conversation

    async def test_a_caller_that_leaves_loses_no_write(self, store: SqliteConversationStore) -> None:
        gate = Gate(store)
        await gate.entered()
        leaving = asyncio.ensure_future(say(store))
        await asyncio.sleep(0)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        await gate.open()
        again = await say(store)
        assert again.duplicate

    async def test_a_full_queue_refuses_at_once(self, path: Path) -> None:
        settings = SqliteSettings(queue_limit=2)
        store = await SqliteConversationStore.open(path, settings=settings)
        gate = Gate(store)
        await gate.entered()
        waiting = [asyncio.ensure_future(say(store, f"message-{n:04}")) for n in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(StoreUnavailableError, match="waiting"):
            await say(store, "message-0003")
        await gate.open()
        await asyncio.gather(*waiting)
        await store.aclose()

    async def test_a_write_that_takes_too_long_is_not_acknowledged(self, path: Path) -> None:
        store = await SqliteConversationStore.open(path, settings=SqliteSettings(deadline_seconds=0.05))
        gate = Gate(store)
        await gate.entered()
        with pytest.raises(StoreUnavailableError, match="did not take a write"):
            await say(store)
        with pytest.raises(StoreUnavailableError):
            await gate.open()
        await store.aclose()

    async def test_closing_writes_what_is_waiting(self, store: SqliteConversationStore, path: Path) -> None:
        gate = Gate(store)
        await gate.entered()
        waiting = asyncio.ensure_future(say(store))
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(store.aclose())
        await asyncio.sleep(0)
        await gate.open()
        await closing
        begun = await waiting
        again = await SqliteConversationStore.open(path)
        assert await again.load_conversation(begun.conversation_id) == begun.conversation
        await again.aclose()


class TestReads:
    async def test_a_caller_that_leaves_disturbs_no_later_read(self, store: SqliteConversationStore) -> None:
        begun = await say(store)
        for _ in range(20):
            leaving = asyncio.ensure_future(store.load_conversation(begun.conversation_id))
            await asyncio.sleep(0)
            leaving.cancel()
        assert await store.load_conversation(begun.conversation_id) == begun.conversation

    async def test_too_many_and_too_slow_reads_are_refused(self, path: Path) -> None:
        settings = SqliteSettings(reader_threads=1, read_queue_limit=1, deadline_seconds=0.05)
        store = await SqliteConversationStore.open(path, settings=settings)
        release = threading.Event()
        slow = asyncio.ensure_future(store._read(lambda _: release.wait(10)))
        await asyncio.sleep(0)
        with pytest.raises(StoreUnavailableError, match="waiting already"):
            await store.check()
        with pytest.raises(StoreUnavailableError, match="longer than"):
            await slow
        release.set()
        await store.aclose()


class TestFaults:
    async def test_a_full_disk_stores_and_acknowledges_nothing_and_is_noticed_to_be_over(
        self, store: SqliteConversationStore, path: Path, metrics: Metrics
    ) -> None:
        kept = await say(store)
        pages = await store._writer.write(lambda c: c.execute("PRAGMA page_count").fetchone()[0])
        fills = _every_connection(store, f"PRAGMA max_page_count = {pages + 4}")
        for number in range(3):
            with pytest.raises(StoreUnavailableError, match="disk is full"):
                await say(store, f"message-big{number}", "x" * 100_000)
        with pytest.raises(StoreUnavailableError, match="disk is full"):
            await store.finish(
                kept.generation_id, epoch=1, outcome=Outcome(text="x" * 100_000, finish_reason=FinishReason.STOP)
            )
        assert metrics.registry.get_sample_value(f"{STORE_FAILURES.name}_total") == 4
        assert await store.load_conversation(kept.conversation_id) == kept.conversation
        await store.check()
        fills.undo()
        assert not (await say(store, "message-big0", "x" * 100_000)).duplicate

    async def test_a_whole_batch_on_a_full_disk_is_refused_as_a_whole(self, store: SqliteConversationStore) -> None:
        _every_connection(store, "PRAGMA max_page_count = 1")
        told = await asyncio.gather(
            *(say(store, f"message-{n:04}", "x" * 50_000) for n in range(5)), return_exceptions=True
        )
        assert all(isinstance(one, StoreUnavailableError) for one in told)
        assert len({id(one) for one in told}) == 5
        assert (await store.list_conversations(owner=ANN, limit=10)).conversations == ()

    async def test_a_lock_held_too_long_is_unavailable_and_passes(
        self, store: SqliteConversationStore, path: Path
    ) -> None:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailableError, match="another process has locked it"):
            await say(store)
        with pytest.raises(StoreUnavailableError):
            await store.check()
        other.execute("ROLLBACK")
        other.close()
        await store.check()
        assert not (await say(store)).duplicate

    async def test_a_damaged_file_is_unavailable_not_wrong(self, store: SqliteConversationStore, path: Path) -> None:
        begun = await say(store, text="x" * 20_000)
        await store.aclose()
        _damage(path)
        again = await SqliteConversationStore.open(path)
        with pytest.raises(StoreUnavailableError, match="damaged"):
            await again.load_conversation(begun.conversation_id)
        with pytest.raises(StoreUnavailableError, match="damaged"):
            await say(again)
        await again.aclose()

    async def test_a_removed_file_acknowledges_nothing(self, store: SqliteConversationStore, path: Path) -> None:
        begun = await say(store)
        away = path.with_name("away")
        shutil.move(path, away)
        with pytest.raises(StoreUnavailableError, match="gone"):
            await say(store, "message-0002")
        with pytest.raises(StoreUnavailableError, match="gone"):
            await store.load_conversation(begun.conversation_id)
        assert list(path.parent.glob(path.name)) == []
        _place(path, b"")
        with pytest.raises(StoreUnavailableError, match="replaced"):
            await store.check()
        shutil.move(away, path)
        await store.check()
        assert not (await say(store, "message-0002")).duplicate


class TestTwoStoresOnOneFile:
    async def test_each_sees_and_is_bound_by_the_others_writes(
        self, store: SqliteConversationStore, path: Path
    ) -> None:
        other = await SqliteConversationStore.open(path)
        begun = await say(store)
        assert (await say(other)).duplicate
        await other.claim(begun.generation_id, epoch=2)
        ends = await asyncio.gather(
            *(
                one.finish(begun.generation_id, epoch=2, outcome=Outcome(text=text, finish_reason=FinishReason.STOP))
                for one, text in ((store, "a"), (other, "b"))
            )
        )
        assert sorted(end.already for end in ends) == [False, True]
        assert ends[0].generation == ends[1].generation
        await other.delete(owner=ANN, conversation_id=begun.conversation_id)
        with pytest.raises(ConversationNotFoundError):
            await store.load_conversation(begun.conversation_id)
        await other.aclose()

    async def test_of_one_message_sent_to_both_one_is_stored(self, store: SqliteConversationStore, path: Path) -> None:
        other = await SqliteConversationStore.open(path)
        for number in range(20):
            message = f"message-{number:04}"
            begun = await asyncio.gather(say(store, message), say(other, message))
            assert sorted(one.duplicate for one in begun) == [False, True]
            assert begun[0].generation_id == begun[1].generation_id
        await other.aclose()


async def test_a_store_that_was_never_closed_lets_the_loop_end(path: Path) -> None:
    def run() -> None:
        async def abandon() -> None:
            store = await SqliteConversationStore.open(path, ids=SequentialIds())
            gate = Gate(store)
            await gate.entered()
            gate._held.cancel()
            abandoned.append((store, gate))

        asyncio.run(abandon())

    abandoned: list[tuple[SqliteConversationStore, Gate]] = []
    await asyncio.to_thread(run)
    store, gate = abandoned[0]
    gate._open.set()
    with store._writer._changed:
        store._writer._is_closing = True
        store._writer._changed.notify()
    await asyncio.to_thread(store._writer._thread.join, 10)
    assert not store._writer._thread.is_alive()


def _place(path: Path, content: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)


def _damage(path: Path) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))


class _Everywhere:
    """Applies a pragma to whatever connection the store opens next, until undone."""

    def __init__(self, store: SqliteConversationStore, pragma: str) -> None:
        self._writer = store._writer
        self._database = store._database
        self._original = store._database.writer
        self._pragma = pragma
        self._writer._disconnect()
        self._database.writer = self._open  # type: ignore[method-assign]  # a disk cannot be filled in a unit test

    def _open(self) -> sqlite3.Connection:
        connection = self._original()
        connection.execute(self._pragma)
        return connection

    def undo(self) -> None:
        self._writer._disconnect()
        self._database.writer = self._original  # type: ignore[method-assign]  # see above


def _every_connection(store: SqliteConversationStore, pragma: str) -> _Everywhere:
    return _Everywhere(store, pragma)
