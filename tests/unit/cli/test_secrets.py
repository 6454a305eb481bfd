"""`pratique secrets scan`: what it prints, and its exit codes. Repositories are in the integration tier."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pratique.cli.secrets import app
from pratique.core.errors import PratiqueError
from pratique.core.secrets.text import find_hits
from pratique.testkit.guard.scan.corpus import true_cases

pytestmark = pytest.mark.unit


@pytest.fixture
def token() -> str:
    [hit] = find_hits(next(case.text for case in true_cases(seed=1, per_rule=1) if case.rule == "npm-token"))
    return hit.secret


def run(*arguments: object) -> tuple[int, str, str]:
    ran = CliRunner().invoke(app, ["scan", *map(str, arguments)])
    if isinstance(ran.exception, PratiqueError):
        return ran.exception.exit_code, ran.stdout, str(ran.exception)
    return ran.exit_code, ran.stdout, ran.stderr


def test_nothing_found_is_a_yes(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("fine", encoding="utf-8")
    code, out, said = run(tmp_path)
    assert (code, out) == (0, "")
    assert "0 secrets in 1 text," in said


def test_a_finding_says_where_and_what_to_do_and_not_what_it_is(tmp_path: Path, token: str) -> None:
    (tmp_path / "a").write_text(f"x\n{token}\n", encoding="utf-8")
    code, out, said = run(tmp_path)
    assert code == 1
    assert f"{tmp_path / 'a'}:2: a token of npm: npm_… (40 characters)" in out
    assert re.search(r"rule npm-token, fingerprint [0-9a-f]{16}\. Revoke it", out)
    assert token[4:] not in out + said


def test_json_is_versioned(tmp_path: Path, token: str) -> None:
    (tmp_path / "a").write_text(token, encoding="utf-8")
    code, out, _ = run(tmp_path, "--json")
    told = json.loads(out)
    assert (code, told["schema_version"], told["texts"], told["problems"]) == (1, 1, 1, [])
    [finding] = told["findings"]
    assert (finding["rule"], finding["line"], finding["commit"]) == ("npm-token", 1, None)
    assert token[4:] not in out


def test_a_path_cannot_forge_lines_or_terminal_commands(tmp_path: Path, token: str) -> None:
    (tmp_path / "a\n\x1b[2Jb").write_text(token, encoding="utf-8")
    _, out, _ = run(tmp_path)
    assert "a\\n\\x1b[2Jb:1:" in out


def test_what_cannot_be_read_is_not_decided(tmp_path: Path, token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a").write_text("x", encoding="utf-8")
    with monkeypatch.context() as patched:
        # The tests may run as root, to whom nothing is forbidden.
        patched.setattr(Path, "open", refuse)
        code, _, said = run(tmp_path)
    assert code == 3
    assert "could not look" in said
    (tmp_path / "b").write_text(token, encoding="utf-8")
    assert run(tmp_path)[0] == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("--staged", "--history"),
        ("--range", "a..b"),
        ("--staged", "a", "b"),
        ("--history", "no-such-folder"),
        ("missing",),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*arguments)[0] == 2


def test_an_allow_file_is_named_or_is_there(tmp_path: Path, token: str) -> None:
    (tmp_path / "a").write_text(token, encoding="utf-8")
    [finding] = json.loads(run(tmp_path, "--json")[1])["findings"]
    allow = tmp_path / "allow.toml"
    allow.write_text(f'[[allow]]\nfingerprint = "{finding["fingerprint"]}"\nreason = "made up"\n', encoding="utf-8")
    code, _, said = run(tmp_path / "a", "--allow-file", allow)
    assert code == 0
    assert "1 finding allowed" in said
    allow.rename(tmp_path / ".pratique-secrets.toml")
    assert run(tmp_path / "a")[0] == 0


def test_outside_of_a_checkout_it_cannot_be_decided_what_is_staged(tmp_path: Path) -> None:
    for way in ("--staged", "--history"):
        code, _, said = run(way, tmp_path)
        assert code == 3
        assert f"{tmp_path} is no checkout of git" in said
        assert "scans files" in said
        assert "usage:" not in said


def test_one_is_one_and_what_is_no_secret_can_be_allowed(tmp_path: Path, token: str) -> None:
    (tmp_path / "a").write_text(token, encoding="utf-8")
    _, _, said = run(tmp_path)
    assert "1 secret in 1 text," in said
    assert "pratique: allow-secret REASON" in said
    assert ".pratique-secrets.toml" in said
    assert "allow-secret" not in run(tmp_path, "--json")[2]


def test_where_nothing_was_scanned_it_says_so(tmp_path: Path) -> None:
    code, _, said = run(tmp_path)
    assert code == 0
    assert "Nothing was scanned" in said
