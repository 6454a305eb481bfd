"""`pratique conversations`."""

from __future__ import annotations

import asyncio
import json
import stat
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from pratique.cli.conversations import app
from pratique.core.clock import ManualClock
from pratique.core.errors import CallerError
from pratique.core.ids import PrincipalId
from pratique.core.settings import SettingsError
from pratique.orchestrator.conversations import GenerationOptions, Outcome
from pratique.orchestrator.conversations.sqlite import SqliteConversationStore
from pratique.orchestrator.protocol.events import FinishReason

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.unit


async def _fill(path: Path) -> None:
    store = await SqliteConversationStore.open(path, clock=ManualClock())
    for number, owner in enumerate(["ann", "ann", "bob"]):
        begun = await store.begin_turn(
            owner=PrincipalId(owner),
            conversation_id=None,
            client_message_id=f"message-{number}",
            text=f"{owner} says {number}",
            options=GenerationOptions(),
        )
        outcome = Outcome(text="reply", finish_reason=FinishReason.STOP)
        await store.finish(begun.generation_id, epoch=1, outcome=outcome)
    await store.aclose()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    asyncio.run(_fill(tmp_path / "conversations.db"))
    return tmp_path


def run(*arguments: str) -> tuple[str, str]:
    """Run the command; return what it wrote to standard output and standard error."""
    ran = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    return ran.stdout, ran.stderr


def _titles(text: str) -> list[str]:
    lines = [json.loads(line) for line in text.splitlines()]
    assert (lines[0]["kind"], lines[-1]["kind"]) == ("export", "end")
    return sorted(line["conversation"]["title"] for line in lines[1:-1])


def test_an_erasure_wants_to_be_meant(state: Path) -> None:
    with pytest.raises(CallerError, match="for good"):
        run("erase", "--owner", "ann", "--state-dir", str(state))
    assert "would erase 2 conversations" in run("erase", "--owner", "ann", "--state-dir", str(state), "--dry-run")[1]
    assert len(_titles(run("export", "--owner", "ann", "--state-dir", str(state))[0])) == 2


def test_without_a_store_there_is_nothing_to_export() -> None:
    with pytest.raises(CallerError, match="No store is named"):
        run("export", "--owner", "ann")


def test_a_table_that_cannot_be_one_is_refused_by_its_name() -> None:
    with pytest.raises(SettingsError, match=r"store\.table.*given explicitly"):
        run("purge", "--table", "a b", "--dry-run")


def test_flags_change_what_they_name_and_leave_the_rest_of_the_file(tmp_path: Path) -> None:
    config = tmp_path / "pratique.toml"
    config.write_text("[orchestrator.store]\nregion = 'eu-central-1'\nretention_days = 30\n")
    asked = run("purge", "--table", "talk", "--config", str(config), "--dry-run")[1]
    assert "for 30 days" in asked


def test_an_export_goes_to_a_new_file_of_ones_own(state: Path) -> None:
    file = state / "ann.jsonl"
    run("export", "--owner", "ann", "--state-dir", str(state), "--output", str(file))
    assert _titles(file.read_text()) == ["ann says 0", "ann says 1"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with pytest.raises(CallerError, match="there already"):
        run("export", "--owner", "bob", "--state-dir", str(state), "--output", str(file))


def test_an_erasure_takes_one_persons_and_nobody_elses(state: Path) -> None:
    told = json.loads(run("erase", "--owner", "ann", "--yes", "--json", "--state-dir", str(state))[0])
    assert told == {
        "schema_version": 1,
        "num_conversations": 2,
        "num_turns": 4,
        "num_generations": 2,
        "num_messages": 2,
        "complete": True,
    }
    assert _titles(run("export", "--owner", "ann", "--state-dir", str(state))[0]) == []
    assert _titles(run("export", "--owner", "bob", "--state-dir", str(state))[0]) == ["bob says 2"]
    assert "erased 1 conversations" in run("erase", "--owner", "bob", "--yes", "--state-dir", str(state))[0]


@pytest.mark.parametrize("command", [("erase", "--owner", "ann", "--yes"), ("purge", "--older-than-days", "1")])
def test_caches_that_cannot_be_told_are_said_and_keep_nothing_from_being_removed(
    state: Path, command: tuple[str, ...]
) -> None:
    config = state / "pratique.toml"
    config.write_text(f"[orchestrator]\nvalkey_url = 'unix://{state}/nobody.sock'\n")
    said = run(*command, "--state-dir", str(state), "--config", str(config))
    assert "may show it from their caches" in said[1]
    assert "does not answer" in said[1]
    assert _titles(run("export", "--owner", "ann", "--state-dir", str(state))[0]) == []


def test_a_purge_without_an_age_removes_no_conversation_that_is_there(state: Path) -> None:
    said = run("purge", "--state-dir", str(state))
    assert said[0] == "removed 0 conversations\n"
    assert "only what interrupted deletions left" in said[1]
    assert run("purge", "--state-dir", str(state), "--dry-run")[1] == "would remove what interrupted deletions left\n"
    assert len(_titles(run("export", "--owner", "ann", "--state-dir", str(state))[0])) == 2


def test_a_purge_removes_what_is_older_than_its_age(state: Path) -> None:
    said = run("purge", "--state-dir", str(state), "--older-than-days", "1", "--dry-run")[1]
    assert "for 1 days" in said
    assert run("purge", "--state-dir", str(state), "--older-than-days", "36500")[0] == "removed 0 conversations\n"
    told = json.loads(run("purge", "--state-dir", str(state), "--older-than-days", "1", "--json")[0])
    assert told == {"schema_version": 1, "num_conversations": 3}


def test_the_template_of_the_table_is_printed() -> None:
    printed = json.loads(run("create-table", "--table", "talk", "--print")[0])
    assert printed["Resources"]["Conversations"]["Properties"]["TableName"] == "talk"
