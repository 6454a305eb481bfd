"""The SQLite store across processes: writers that are killed at random moments, and writers that race."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest

from pratique.core.ids import ConversationId, GenerationId, PrincipalId
from pratique.orchestrator.conversations import GenerationOptions, GenerationStatus
from pratique.orchestrator.conversations.sqlite import SqliteConversationStore

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration

NUM_KILLS = 20
SEED = 20_261


class Writers:
    """The process that forks writers."""

    def __init__(self, path: Path) -> None:
        script = Path(__file__).with_name("_writers.py")
        self.process = subprocess.Popen(
            [sys.executable, str(script), str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    @property
    def told(self) -> IO[str]:
        assert self.process.stdout is not None
        return self.process.stdout

    def begin(self, prefix: str, count: int) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{prefix} {count}\n")
        self.process.stdin.flush()

    def end(self) -> list[str]:
        """Let the writers come to their end; return what they told."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        lines = self.told.read().splitlines()
        assert self.process.wait(30) == 0
        self.told.close()
        return lines


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "talk.db"


@pytest.fixture
def writers(path: Path) -> Iterator[Writers]:
    made = Writers(path)
    yield made
    if made.process.poll() is None:
        made.process.kill()
        made.process.wait(10)


def _kill_at_a_random_moment(writers: Writers, prefix: str, draw: random.Random) -> list[str]:
    """Let a writer write, kill it, return every line it told until then."""
    writers.begin(prefix, 0)
    pid = 0
    lines: list[str] = []
    for line in writers.told:
        lines.append(line.strip())
        if line.startswith("writer"):
            pid = int(line.split()[1])
        if line.startswith("begun"):
            time.sleep(draw.uniform(0, 0.08))
            os.kill(pid, signal.SIGKILL)
            break
    for line in writers.told:
        if line.startswith("gone"):
            return lines
        lines.append(line.strip())
    raise AssertionError("the process that forks writers has ended")


async def test_everything_acknowledged_survives_being_killed(path: Path, writers: Writers) -> None:
    draw = random.Random(SEED)  # noqa: S311 - moments, not secrets
    lines: list[str] = []
    for number in range(NUM_KILLS):
        lines += _kill_at_a_random_moment(writers, f"round{number:02}", draw)
    writers.end()
    begun = [line.split()[1:] for line in lines if line.startswith("begun")]
    ended = [line.split()[1:] for line in lines if line.startswith("ended")]
    assert len(begun) > NUM_KILLS
    assert len(ended) > NUM_KILLS
    store = await SqliteConversationStore.open(path)
    for message, conversation, generation, _ in begun:
        record = await store.load_generation(GenerationId(generation))
        assert record.conversation_id == conversation
        snapshot = await store.load_conversation(ConversationId(conversation))
        assert snapshot.conversation.turns[0].text == message
    for message, generation, turn, _ in ended:
        record = await store.load_generation(GenerationId(generation))
        assert (record.status, record.turn_id) == (GenerationStatus.FINISHED, turn)
        snapshot = await store.load_conversation(record.conversation_id)
        assert [one.turn_id for one in snapshot.conversation.turns] == [record.user_turn_id, turn]
        assert snapshot.conversation.turns[1].text.startswith(f"{message} by ")
    # What was sent and not acknowledged can be sent again: it is there whole, or not at all.
    for message, *_ in begun:
        again = await store.begin_turn(
            owner=PrincipalId("usr_ann"),
            conversation_id=None,
            client_message_id=message,
            text=message,
            options=GenerationOptions(),
        )
        assert again.duplicate
    await store.aclose()
    _require_sound(path)


async def test_processes_that_race_for_the_same_messages_store_each_once(path: Path, writers: Writers) -> None:
    for _ in range(3):
        writers.begin("same", 150)
    lines = writers.end()
    begun = [line.split()[1:] for line in lines if line.startswith("begun")]
    ended = [line.split()[1:] for line in lines if line.startswith("ended")]
    assert len(begun) == len(ended) == 450
    assert Counter(flag for *_, flag in begun) == {"0": 150, "1": 300}
    assert Counter(flag for *_, flag in ended) == {"0": 150, "1": 300}
    assert len({generation for _, _, generation, _ in begun}) == 150
    assert len({turn for _, _, turn, _ in ended}) == 150
    _require_sound(path)


def _require_sound(path: Path) -> None:
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    replies = connection.execute(
        "SELECT count(*), count(DISTINCT generation_id) FROM turns WHERE role = 'assistant'"
    ).fetchone()
    connection.close()
    assert replies[0] == replies[1]
