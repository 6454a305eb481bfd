"""`pratique apikey`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from pratique.cli.apikey import app
from pratique.core.errors import CallerError
from pratique.orchestrator.access import ApiKeyFile, KeysUnavailableError, UnauthenticatedError
from pratique.orchestrator.access.keyring import ApiKeyring, UnknownKeyError

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.unit


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "api-keys.json"


def run(*arguments: str) -> tuple[str, str]:
    """Run the command; return what it wrote to standard output and standard error."""
    ran = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    return ran.stdout, ran.stderr


def test_a_created_key_is_printed_once_listed_without_it_and_revoked(file: Path) -> None:
    out, _ = run("create", "--name", "laptop", "--file", str(file))
    key = out.strip()
    principal = ApiKeyFile(file).verify(key)
    listed, _ = run("list", "--file", str(file))
    assert principal.principal_id in listed
    assert "active" in listed
    assert key not in listed
    _, said = run("revoke", principal.principal_id, "--file", str(file))
    assert "revoked" in said
    assert "revoked" in run("list", "--file", str(file))[0]
    with pytest.raises(UnauthenticatedError):
        ApiKeyFile(file).verify(key)


def test_json_is_versioned_and_carries_the_key_only_at_its_creation(file: Path) -> None:
    created = json.loads(run("create", "--name", "x", "--file", str(file), "--json")[0])
    assert created["schema_version"] == 1
    assert ApiKeyFile(file).verify(created["key"]).principal_id == created["id"]
    listed, revoked = (
        json.loads(run(*command, "--file", str(file), "--json")[0]) for command in (["list"], ["revoke", created["id"]])
    )
    always = {"schema_version", "id", "name", "created", "revoked", "expires", "scopes", "principal", "tier"}
    assert revoked.keys() == always
    assert listed.keys() == always | {"last_used"}
    assert revoked["revoked"] is not None


def test_a_dry_run_changes_nothing(file: Path) -> None:
    assert "would create" in run("create", "--name", "x", "--file", str(file), "--dry-run")[1]
    assert not file.exists()
    key = run("create", "--name", "x", "--file", str(file))[0].strip()
    entry = ApiKeyFile(file).verify(key)
    assert "would revoke" in run("revoke", entry.principal_id, "--file", str(file), "--dry-run")[1]
    ApiKeyFile(file).verify(key)


def test_mistakes_are_told_by_their_kind(file: Path) -> None:
    with pytest.raises(KeysUnavailableError) as missing:
        CliRunner().invoke(app, ["list", "--file", str(file)], catch_exceptions=False)
    assert missing.value.exit_code == 3
    run("create", "--name", "x", "--file", str(file))
    with pytest.raises(UnknownKeyError) as unknown:
        CliRunner().invoke(app, ["revoke", "key_none", "--file", str(file)], catch_exceptions=False)
    assert unknown.value.exit_code == 2
    assert CliRunner().invoke(app, ["create", "--name", "x"]).exit_code == 2


def test_scopes_an_end_and_a_tier_are_what_was_asked_for(file: Path) -> None:
    asked = ("--scope", "chat", "--expires", "90d", "--tier", "partners")
    created = json.loads(run("create", "--name", "x", "--file", str(file), *asked, "--json")[0])
    assert (created["scopes"], created["tier"]) == (["chat"], "partners")
    assert created["expires"] - created["created"] == pytest.approx(90 * 86_400, abs=60)
    assert "active until" in run("list", "--file", str(file))[0]


@pytest.mark.parametrize(
    "wrong", [("--scope", "root"), ("--expires", "soon"), ("--expires", "2001-01-01"), ("--tier", "x" * 65)]
)
def test_what_a_key_cannot_be_is_refused_before_anything_is_written(file: Path, wrong: tuple[str, str]) -> None:
    with pytest.raises(CallerError):
        CliRunner().invoke(app, ["create", "--name", "x", "--file", str(file), *wrong], catch_exceptions=False)
    assert not file.exists() or not ApiKeyring(file).entries()


def test_a_rotated_key_opens_the_same_conversations_beside_the_old_one(file: Path) -> None:
    old = json.loads(run("create", "--name", "x", "--scope", "openai", "--file", str(file), "--json")[0])
    assert "would rotate" in run("rotate", old["id"], "--file", str(file), "--dry-run")[1]
    new = json.loads(run("rotate", old["id"], "--file", str(file), "--overlap", "1h", "--json")[0])
    keys = ApiKeyFile(file)
    assert keys.verify(old["key"]).principal_id == keys.verify(new["key"]).principal_id == old["id"]
    assert new["scopes"] == ["openai"]
    text = run("rotate", new["id"], "--file", str(file), "--overlap", "0s")[0].strip()
    with pytest.raises(UnauthenticatedError):
        ApiKeyFile(file).verify(new["key"])
    assert ApiKeyFile(file).verify(text).principal_id == old["id"]
    assert "expired" in run("list", "--file", str(file))[0]


def test_changes_of_keys_are_recorded_without_the_key(file: Path, tmp_path: Path) -> None:
    audit = tmp_path / "audit.jsonl"
    more = ("--file", str(file), "--audit-file", str(audit))
    key = run("create", "--name", "x", *more)[0].strip()
    entry = ApiKeyFile(file).verify(key)
    run("rotate", entry.principal_id, *more)
    run("revoke", entry.principal_id, *more)
    records = [json.loads(line) for line in audit.read_text().splitlines()]
    assert [record["action"] for record in records] == ["key.create", "key.rotate", "key.revoke"]
    assert {record["subject"] for record in records} == {entry.principal_id}
    assert all(record["principal_id"].startswith("os:") for record in records)
    assert key not in audit.read_text()
