"""Files of earlier releases are brought forward with their data, or left as they were; erased text leaves the file."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import stat
from typing import TYPE_CHECKING

import pytest

from pratique.core.ids import ConversationId, PrincipalId
from pratique.orchestrator.conversations import GenerationOptions, Outcome, StoreUnavailableError, _database
from pratique.orchestrator.conversations.sqlite import SqliteConversationStore
from pratique.orchestrator.protocol.events import FinishReason

if TYPE_CHECKING:
    from pathlib import Path

    from pratique.orchestrator.conversations import BegunTurn

pytestmark = pytest.mark.unit

ANN = PrincipalId("usr_ann")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "talk.db"


async def say(store: SqliteConversationStore, message: str = "message-0001", text: str = "hello") -> BegunTurn:
    return await store.begin_turn(
        owner=ANN, conversation_id=None, client_message_id=message, text=text, options=GenerationOptions()
    )


class TestMigrations:
    """A file of the first schema, as the first release made it."""

    async def test_an_old_file_is_brought_forward_with_its_data_and_a_copy_is_kept(self, path: Path) -> None:
        _make_first_schema(path)
        store = await SqliteConversationStore.open(path)
        snapshot = await store.load_conversation(ConversationId("conv_old"))
        assert [(turn.text, turn.details) for turn in snapshot.conversation.turns] == [("an old message", None)]
        begun = await say(store)
        await store.finish(begun.generation_id, epoch=1, outcome=Outcome(text="new", finish_reason=FinishReason.STOP))
        await store.aclose()
        copy = path.with_name("talk.db.before-2")
        assert stat.S_IMODE(copy.stat().st_mode) == 0o600
        with contextlib.closing(sqlite3.connect(copy)) as connection:
            assert connection.execute("PRAGMA user_version").fetchone() == (1,)
            assert connection.execute("SELECT text FROM turns").fetchall() == [("an old message",)]
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]

    async def test_going_back_to_the_copy_gives_the_old_file(self, path: Path) -> None:
        _make_first_schema(path)
        await (await SqliteConversationStore.open(path)).aclose()
        path.with_name("talk.db.before-2").replace(path)
        again = await SqliteConversationStore.open(path)
        assert (await again.load_conversation(ConversationId("conv_old"))).version == 1
        await again.aclose()

    @pytest.mark.parametrize("broken", ["NOT SQL", "CREATE TABLE extra (x); SELECT * FROM missing"])
    async def test_one_that_fails_leaves_the_file_as_it_was(
        self, path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
    ) -> None:
        _make_first_schema(path)
        before = _dump(path)
        with monkeypatch.context() as patch:
            patch.setattr(_database, "_MIGRATIONS", (*_database._MIGRATIONS, broken))
            with pytest.raises(StoreUnavailableError):
                await SqliteConversationStore.open(path)
        assert _dump(path) == before
        store = await SqliteConversationStore.open(path)
        assert (await store.load_conversation(ConversationId("conv_old"))).version == 1
        await store.aclose()

    async def test_several_that_open_an_old_file_together_migrate_it_once(self, path: Path) -> None:
        _make_first_schema(path)
        stores = await asyncio.gather(*(SqliteConversationStore.open(path) for _ in range(4)))
        for number, store in enumerate(stores):
            await say(store, f"message-{number:04}")
        for store in stores:
            await store.aclose()
        copies = [file.name for file in path.parent.iterdir() if ".before-" in file.name]
        assert copies == ["talk.db.before-2"]

    async def test_a_new_file_needs_no_copy(self, path: Path) -> None:
        await (await SqliteConversationStore.open(path)).aclose()
        assert not list(path.parent.glob("*.before-*"))


def _make_first_schema(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            f"{_database._MIGRATIONS[0]};"  # noqa: S608 - a constant
            f"PRAGMA application_id = {_database._APPLICATION_ID}; PRAGMA user_version = 1;"
            "INSERT INTO conversations VALUES ('conv_old', 'usr_ann', 'old', 1.0, 1.0, 1);"
            "INSERT INTO generations (generation_id, conversation_id, owner, user_turn_id, options, status, created_at,"
            " touched_at) VALUES ('gen_old', 'conv_old', 'usr_ann', 'turn_old', '{}', 'running', 1.0, 1.0);"
            "INSERT INTO turns (conversation_id, position, turn_id, role, text, status, created_at, generation_id)"
            " VALUES ('conv_old', 1, 'turn_old', 'user', 'an old message', 'complete', 1.0, 'gen_old');"
        )


def _dump(path: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        version = connection.execute("PRAGMA user_version").fetchone()
        return [str(version), *connection.iterdump()]


class TestErase:
    async def test_no_word_of_it_is_left_in_the_file(self, path: Path) -> None:
        store = await SqliteConversationStore.open(path)
        await say(store, text="a very secret word " * 200)
        await store.erase(owner=ANN)
        await store.aclose()
        assert b"secret" not in b"".join(file.read_bytes() for file in path.parent.iterdir())
