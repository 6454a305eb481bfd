"""The commands, as far as they need no other process and no network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
from tests.unit.release.mirror.approved_text import WHEEL, document, package
from typer.testing import CliRunner, Result

from pratique.cli.mirror import app
from pratique.core.errors import CallerError
from pratique.release.errors import EvidenceError
from pratique.release.mirror.errors import ApprovedFileError
from pratique.release.values import digest_of

pytestmark = pytest.mark.unit

CONTENT = b"not much of a wheel"
SHA = digest_of(CONTENT).removeprefix("sha256:")


@pytest.fixture(autouse=True)
def _events_as_before() -> Iterator[None]:
    """The commands send events to a stream that ends with the test."""
    yield
    structlog.reset_defaults()


def run(folder: Path, *words: str) -> Result:
    (folder / "settings.toml").write_text(
        f'[release.mirror]\napproved = "{folder}/approved.toml"\nstore = "{folder}/store"\n'
        f'[release.advisories]\ndatabase = "{folder}/advisories.db"\n',
        encoding="utf-8",
    )
    return CliRunner().invoke(app, [*words, "--config", str(folder / "settings.toml")])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "approved.toml").write_text(document(package(sha=SHA)), encoding="utf-8")
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / WHEEL).write_bytes(CONTENT)
    return tmp_path


def facts(folder: Path, **file: Any) -> str:
    found = {"sha256": SHA, "uploaded_at": "2024-01-01T00:00:00Z", "has_provenance": True} | file
    project = {"files": {WHEEL: found}, "licences": {"1.0": "MIT"}}
    (folder / "facts.json").write_bytes(msgspec.json.encode({"projects": {"alpha": project}}))
    return str(folder / "facts.json")


def test_a_sync_from_a_folder_says_what_it_did(folder: Path) -> None:
    done = run(folder, "sync", "--from", str(folder / "wheels"), "--json")
    assert done.exit_code == 0
    (outcome,) = msgspec.json.decode(done.stdout)["outcomes"]
    assert (outcome["filename"], outcome["verdict"]) == (WHEEL, "added")
    assert f"{WHEEL}: added" in done.stderr


def test_a_dry_run_brings_nothing(folder: Path) -> None:
    assert run(folder, "sync", "--from", str(folder / "wheels"), "--dry-run").exit_code == 0
    assert not (folder / "store").exists()


def test_another_file_under_an_approved_name_is_refused(folder: Path) -> None:
    (folder / "wheels" / WHEEL).write_bytes(b"other")
    assert run(folder, "sync", "--from", str(folder / "wheels")).exit_code == 1


def test_explain_answers_with_its_exit_code(folder: Path) -> None:
    run(folder, "sync", "--from", str(folder / "wheels"))
    yes, no = run(folder, "explain", "Alpha==1.0"), run(folder, "explain", "beta", "--json")
    assert (yes.exit_code, yes.stdout.split(":")[0]) == (0, "served")
    answer = msgspec.json.decode(no.stdout)
    assert (no.exit_code, answer["code"], answer["is_served"]) == (1, "not-approved", False)


def test_a_check_without_advisories_is_undecided(folder: Path) -> None:
    done = run(folder, "check", "--base", "", "--offline", facts(folder), "--json")
    assert done.exit_code == 3
    result = msgspec.json.decode(done.stdout)
    assert (result["verdict"], result["num_new_files"]) == ("undecided", 1)
    assert [one["rule"] for one in result["findings"]] == ["vulnerable"]


def test_refused_comes_before_undecided(folder: Path) -> None:
    done = run(folder, "check", "--base", "", "--offline", facts(folder, yanked="broken"))
    assert done.exit_code == 1
    assert "yanked" in done.stdout
    assert "1 new files: refused" in done.stderr


def test_no_change_is_allowed_and_asks_nobody(folder: Path) -> None:
    assert run(folder, "check", "--base", str(folder / "approved.toml")).exit_code == 0


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("--base", "", "--offline", "gone.json"), CallerError),
        (("--base", "--output=x"), CallerError),
        (("--base", "", "--offline", "settings.toml"), EvidenceError),
        (("--base", "settings.toml"), ApprovedFileError),
    ],
)
def test_what_cannot_be_judged_is_said(
    folder: Path, words: tuple[str, ...], error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    done = run(folder, "check", *words)
    assert isinstance(done.exception, error)


def test_a_configuration_that_is_not_there_is_the_callers_mistake(folder: Path) -> None:
    done = CliRunner().invoke(app, ["explain", "a", "--config", str(folder / "gone.toml")])
    assert isinstance(done.exception, CallerError)
