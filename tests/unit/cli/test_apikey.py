"""`pratique apikey`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from pratique.cli.apikey import app
from pratique.orchestrator.access import ApiKeyFile, KeysUnavailableError, UnauthenticatedError
from pratique.orchestrator.access.keyring import UnknownKeyError

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
    assert listed.keys() == revoked.keys() == {"schema_version", "id", "name", "created", "revoked"}
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
