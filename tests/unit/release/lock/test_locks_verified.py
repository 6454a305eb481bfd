"""Whole locks: includes, duplicates, empty ones; the command; and the project's own."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
import yaml
from typer.testing import CliRunner

from pratique.cli.lock import app
from pratique.core.errors import CallerError
from pratique.release.lock import verifying
from pratique.release.lock.settings import LockSettings
from pratique.release.lock.verifying import entries_of, verify_lock

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[4]
HASH = f"--hash=sha256:{'a' * 64}"
OTHER = f"--hash=sha256:{'b' * 64}"


def problems(path: Path) -> list[tuple[str, int, str]]:
    return [(Path(one.file).name, one.line, one.rule) for one in verify_lock(path, LockSettings()).problems]


def written(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    return folder / f"{next(iter(files))}.txt"


# overrides.txt is read by the resolver and installs nothing.
@pytest.mark.parametrize(
    "lock",
    sorted(set((ROOT / "requirements").glob("*.txt")) - {ROOT / "requirements/overrides.txt"}),
    ids=lambda one: one.name,
)
def test_the_projects_own_locks_pin_everything(lock: Path) -> None:
    found = verify_lock(lock, LockSettings())
    assert not found.problems
    assert found.num_packages > 5


def test_included_files_are_held_to_the_same_rules(tmp_path: Path) -> None:
    first = written(
        tmp_path, first=f"a==1 {HASH}\n-r second.txt\n-c third.txt", second="b==1\n-r first.txt", third="c>1"
    )
    assert problems(first) == [("second.txt", 1, "missing-hash"), ("third.txt", 1, "floating-version")]


def test_an_include_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert problems(written(tmp_path, first=f"a==1 {HASH}\n-r gone.txt")) == [("first.txt", 2, "include")]


def test_too_many_includes_are_refused(tmp_path: Path) -> None:
    files = {f"n{number}": f"a==1 {HASH}\n-r n{number + 1}.txt" for number in range(80)}
    assert ("n0.txt", 0, "include") in problems(written(tmp_path, **files))


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (f"a==1 {HASH}\nA==2 {HASH}", [2]),
        (f"a==1 {HASH}\na==1 {OTHER}", [2]),
        (f"a==1 {HASH}\na==2; python_version<'3.12' {HASH}", [2]),
        (f"a==1; python_version<'3.12' {HASH}\na==2; python_version<'3.12' {HASH}", [2]),
        (f"a==1; python_version<'3.12' {HASH}\na==2; python_version>='3.12' {HASH}", []),
        (f"a==1 {HASH}\na==1.0 {HASH}", [2]),
        (f"a==1 {HASH}\na[x]==1 {HASH}", []),
    ],
)
def test_a_name_has_one_version(text: str, lines: list[int], tmp_path: Path) -> None:
    assert problems(written(tmp_path, first=text)) == [("first.txt", line, "duplicate") for line in lines]


def test_a_constraint_that_contradicts_is_refused_and_installs_nothing(tmp_path: Path) -> None:
    first = written(tmp_path, first=f"-c c.txt\na==1 {HASH}", c="a==2\nb==1")
    assert problems(first) == [("c.txt", 1, "duplicate")]
    assert problems(written(tmp_path, only="-c d.txt", d="b==1")) == [("only.txt", 0, "empty")]


@pytest.mark.parametrize("text", ["", "# nothing\n", "--require-hashes\n"])
def test_a_lock_that_pins_nothing_is_refused(text: str, tmp_path: Path) -> None:
    assert problems(written(tmp_path, first=text)) == [("first.txt", 0, "empty")]


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "first.txt").write_bytes(f"a==1 {HASH}\n".encode() + b"\xff\xfe")
    assert problems(tmp_path / "first.txt") == [("first.txt", 2, "malformed")]


def test_what_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifying, "_MAX_BYTES", 10)
    assert problems(written(tmp_path, first="# " + "x" * 20)) == [("first.txt", 0, "malformed")]


def test_a_lock_that_is_not_there_is_the_callers_mistake(tmp_path: Path) -> None:
    with pytest.raises(CallerError, match="no lock file"):
        verify_lock(tmp_path / "gone.txt", LockSettings())


def test_formats_are_told_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "uv.lock").write_text("version = 1\n", encoding="utf-8")
    (tmp_path / "pylock.toml").write_text("lock-version = 1\n", encoding="utf-8")
    assert problems(tmp_path / "uv.lock") == [("uv.lock", 0, "empty")]
    assert problems(tmp_path / "pylock.toml") == [("pylock.toml", 0, "malformed")]


def test_entries_are_told_for_whoever_asks_what_is_used(tmp_path: Path) -> None:
    assert [one.name for one in entries_of(written(tmp_path, first=f"a==1 {HASH}\nb==1"), LockSettings())] == ["a"]


def test_the_command_says_yes_with_the_number_of_packages(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["verify", str(written(tmp_path, first=f"a==1 {HASH}")), "--json"])
    assert done.exit_code == 0
    answer = msgspec.json.decode(done.stdout)
    assert (answer["schema_version"], answer["allowed"], answer["locks"][0]["num_packages"]) == (1, True, 1)


def test_the_command_refuses_with_file_and_line(tmp_path: Path) -> None:
    file = written(tmp_path, first="a==1")
    done = CliRunner().invoke(app, ["verify", str(file)])
    assert (done.exit_code, done.stdout) == (1, f"{file}:1: a==1 has no hash [missing-hash]\n")
    assert "1 problems" in done.stderr


def test_an_index_and_a_file_with_settings_can_be_given(tmp_path: Path) -> None:
    file = written(tmp_path, first=f"-i https://own.example/simple\na==1 {HASH}")
    config = tmp_path / "settings.toml"
    config.write_text('[release.lock]\nindexes = ["https://own.example/simple"]\n', encoding="utf-8")
    assert CliRunner().invoke(app, ["verify", str(file)]).exit_code == 1
    assert CliRunner().invoke(app, ["verify", str(file), "--config", str(config)]).exit_code == 0
    assert CliRunner().invoke(app, ["verify", str(file), "--index", "https://own.example/simple"]).exit_code == 0


@pytest.mark.parametrize(
    ("file", "is_a_lock"),
    [
        ("requirements.txt", True),
        ("requirements-dev.txt", True),
        ("deploy/requirements/runtime.txt", True),
        ("pylock.toml", True),
        ("a/pylock.release.toml", True),
        ("uv.lock", True),
        ("requirements.in", False),
        ("requirements/README.md", False),
        ("notes.txt", False),
        ("pyproject.toml", False),
        ("package-lock.json", False),
    ],
)
def test_the_framework_s_hook_verifies_what_is_a_lock_by_its_name(file: str, is_a_lock: bool) -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    hook = next(one for one in hooks if one["id"] == "pratique-lock")
    assert hook["entry"] == "pratique lock verify"
    assert bool(re.search(hook["files"], file)) is is_a_lock
