"""`pratique secrets` on real repositories: what is staged, what the history added, the hook, and this repository."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from typer.testing import CliRunner

from pratique.cli.secrets import app
from pratique.core.errors import PratiqueError
from pratique.core.secrets.scanner import Scanner
from pratique.core.secrets.text import find_hits
from pratique.testkit.guard.scan import git
from pratique.testkit.guard.scan.corpus import true_cases
from pratique.testkit.guard.scan.errors import ScanFailedError, ScanUsageError
from pratique.testkit.guard.scan.git import stream_git
from pratique.testkit.guard.scan.hook import ForeignHookError, hook_file, hook_script, install_hook
from pratique.testkit.guard.scan.sources import scan_files, scan_history, scan_staged

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[4]


def a_token(seed: int = 1) -> str:
    [hit] = find_hits(next(case.text for case in true_cases(seed=seed, per_rule=1) if case.rule == "npm-token"))
    return hit.secret


class Repository:
    """A checkout of its own, away from the user's settings."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        who = {"GIT_CONFIG_GLOBAL": str(self.folder.parent / "no-gitconfig"), "GIT_CONFIG_NOSYSTEM": "1"}
        who |= {f"GIT_{role}_{part}": "a@b.c" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")}
        ran = subprocess.run(
            ["git", *words],
            cwd=self.folder,
            env=os.environ | who,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert not check or ran.returncode == 0, ran.stderr
        return ran

    def write(self, name: str, content: str | bytes) -> None:
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())

    def commit(self, name: str, content: str | bytes) -> str:
        self.write(name, content)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", f"change {name!r}")
        return self.git("rev-parse", "HEAD").stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository")


def history(repository: Repository, revisions: str = "") -> list[tuple[str, str, int]]:
    scanner = Scanner()
    scan_history(scanner, repository.folder, revisions)
    return [(found.place.commit, found.place.path, found.line) for found in scanner.report.findings]


def staged(repository: Repository) -> list[tuple[str, int]]:
    scanner = Scanner()
    scan_staged(scanner, repository.folder)
    return [(found.place.path, found.line) for found in scanner.report.findings]


def files(*paths: Path) -> list[str]:
    scanner = Scanner()
    scan_files(scanner, paths)
    return sorted(found.place.path for found in scanner.report.findings)


def test_a_secret_that_was_removed_is_in_the_history_where_it_was_added(repository: Repository) -> None:
    repository.commit("a.txt", "one\ntwo\n")
    added = repository.commit("a.txt", f"one\nx = {a_token()}\ntwo\n")
    repository.commit("a.txt", "one\ntwo\n")
    assert history(repository) == [(added, "a.txt", 2)]


def test_a_range_has_only_what_its_commits_added(repository: Repository) -> None:
    repository.commit("a.txt", a_token() + "\n")
    added = repository.commit("a.txt", f"{a_token()}\nmore\n{a_token(2)}\n")
    assert history(repository, "HEAD~1..HEAD") == [(added, "a.txt", 3)]


def test_other_branches_are_part_of_the_history(repository: Repository) -> None:
    repository.commit("a.txt", "one\n")
    repository.git("checkout", "--quiet", "-b", "other")
    added = repository.commit("b.txt", a_token())
    repository.git("checkout", "--quiet", "main")
    assert history(repository) == [(added, "b.txt", 1)]


def test_what_only_the_merge_added_is_found_in_the_merge(repository: Repository) -> None:
    repository.commit("a.txt", "one\ntwo\nthree\n")
    repository.git("checkout", "--quiet", "-b", "other")
    repository.commit("a.txt", "ONE\ntwo\nthree\n")
    repository.git("checkout", "--quiet", "main")
    repository.commit("a.txt", "one\ntwo\nTHREE\n")
    repository.git("merge", "--no-commit", "other")
    merged = repository.commit("a.txt", f"ONE\ntwo\n{a_token()}\nTHREE\n")
    assert history(repository) == [(merged, "a.txt", 3)]


@pytest.mark.parametrize("name", ["a b.txt", "a\nb.txt", 'a"b.txt', "é.txt", "b/b b/x.txt"])
def test_odd_names_are_told_as_they_are(repository: Repository, name: str) -> None:
    added = repository.commit(name, f"x\n{a_token()}\n")
    assert history(repository) == [(added, name, 2)]
    assert files(repository.folder) == [str(repository.folder / name)]


def test_lines_that_look_like_a_patch_do_not_mislead(repository: Repository) -> None:
    added = repository.commit("a.txt", f"++ b/other.txt\n@@ -1 +1 @@\ndiff --git a/x b/x\n\x01commit 00\n{a_token()}\n")
    assert history(repository) == [(added, "a.txt", 5)]


def test_a_renamed_file_is_not_told_again(repository: Repository) -> None:
    added = repository.commit("a.txt", a_token() + "\nand more\n" * 10)
    repository.git("mv", "a.txt", "b.txt")
    repository.git("commit", "--quiet", "--message", "move")
    assert history(repository) == [(added, "a.txt", 1)]


def test_wide_encodings_and_several_lines_are_seen_in_the_history(repository: Repository) -> None:
    pem = next(case.text for case in true_cases(seed=1, per_rule=1) if case.rule == "private-key")
    one = repository.commit("wide.txt", f"x\n{a_token()}\n".encode("utf-16"))
    two = repository.commit("key.pem", pem)
    repository.commit("binary.bin", b"\0\1\2" * 100)
    assert [found[:2] for found in history(repository)] == [(one, "wide.txt"), (two, "key.pem")]


def test_only_the_index_counts_for_what_is_staged(repository: Repository) -> None:
    repository.commit("a.txt", f"one\n{a_token(3)}\n")
    repository.write("a.txt", f"one\n{a_token(3)}\n{a_token()}\n")
    assert staged(repository) == []
    repository.git("add", "a.txt")
    repository.write("a.txt", "nothing any more\n")
    assert staged(repository) == [("a.txt", 3)]


def test_the_first_commit_is_staged_like_any(repository: Repository) -> None:
    repository.write("a.txt", a_token())
    repository.git("add", "a.txt")
    assert staged(repository) == [("a.txt", 1)]
    assert history(repository) == []


def test_what_git_ignores_is_left_out_and_the_rest_is_not(repository: Repository) -> None:
    repository.commit(".gitignore", "ignored\n")
    for name in ("ignored", "untracked", "tracked"):
        repository.write(name, a_token())
    repository.git("add", "tracked")
    assert files(repository.folder) == [str(repository.folder / name) for name in ("tracked", "untracked")]
    (repository.folder / "tracked").unlink()
    assert files(repository.folder) == [str(repository.folder / "untracked")]
    assert files(repository.folder / "ignored") == [str(repository.folder / "ignored")]


def test_checkouts_below_are_scanned_and_links_are_not_followed(repository: Repository, tmp_path: Path) -> None:
    inner = Repository(repository.folder / "inner")
    inner.commit("a.txt", a_token())
    repository.git("-c", "advice.addEmbeddedRepo=false", "add", "inner")
    (repository.folder / "loop").symlink_to(repository.folder)
    (tmp_path / "outside").write_text(a_token(), encoding="utf-8")
    (repository.folder / "link").symlink_to(tmp_path / "outside")
    os.mkfifo(repository.folder / "pipe")
    assert files(repository.folder) == [str(repository.folder / "inner" / "a.txt")]


def test_without_git_everything_below_is_scanned(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").write_text(a_token(), encoding="utf-8")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    assert files(tmp_path) == [str(tmp_path / "a" / "b" / "c")]


def test_what_cannot_be_asked_is_no_answer(repository: Repository, tmp_path: Path) -> None:
    with pytest.raises(ScanFailedError):
        scan_staged(Scanner(), tmp_path)
    repository.commit("a", "x")
    for nonsense in ("no-such-branch..HEAD", "--output=x"):
        with pytest.raises(ScanUsageError):
            scan_history(Scanner(), repository.folder, nonsense)
    with pytest.raises(ScanUsageError):
        scan_files(Scanner(), [tmp_path / "missing"])


@pytest.mark.parametrize("scan", [history, staged])
def test_a_repository_that_git_has_much_to_say_about_does_not_stop_the_scan(
    repository: Repository, scan: Callable[[Repository], list[Any]]
) -> None:
    repository.write(".gitattributes", "* @not-an-attribute-name\n" * 5000)
    repository.write("a.txt", a_token())
    repository.git("add", "--all")
    if scan is history:
        repository.git("commit", "--quiet", "--message", "noise")
    assert len(scan(repository)) == 1


def test_what_git_says_last_is_told_however_much_it_said(repository: Repository) -> None:
    repository.commit("a.txt", "x")
    with (
        pytest.raises(ScanFailedError, match="not a git command"),
        stream_git(repository.folder, "no-such-command") as stream,
    ):
        stream.read()


def test_a_git_that_stands_still_is_given_up(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git, "_SILENCE_SECONDS", 0.05)
    monkeypatch.setattr(git, "_SECONDS", 0.05)
    idle = "-c", "alias.idle=!exec sleep 3", "idle"
    with pytest.raises(ScanFailedError, match="said nothing for"), stream_git(repository.folder, *idle) as stream:
        stream.read()
    closed = "-c", "alias.idle=!exec >&-; exec sleep 3", "idle"
    with pytest.raises(ScanFailedError, match="does not end"), stream_git(repository.folder, *closed):
        pass


@pytest.fixture
def hooked(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> Repository:
    with monkeypatch.context() as patched:
        patched.chdir(repository.folder)
        assert CliRunner().invoke(app, ["install-hook"]).exit_code == 0
    return repository


def test_the_hook_runs_nothing_of_the_repository(hooked: Repository) -> None:
    for name in ("secrets", "typer", "re", "sitecustomize", "pratique/__init__"):
        hooked.write(f"{name}.py", "import pathlib\npathlib.Path('ran').touch()\n")
    hooked.git("add", "--all")
    hooked.git("commit", "--quiet", "--message", "fine")
    assert not (hooked.folder / "ran").exists()


def test_the_hook_refuses_a_commit_with_a_secret_and_lets_others_pass(hooked: Repository) -> None:
    hooked.commit("a.txt", "one\n")
    hooked.write("a.txt", f"one\n{a_token()}\n")
    hooked.git("add", "a.txt")
    refused = hooked.git("commit", "--message", "oops", check=False)
    assert refused.returncode != 0
    assert "a.txt:2: a token of npm: npm_…" in refused.stdout + refused.stderr
    assert a_token() not in refused.stdout + refused.stderr
    hooked.write("b.txt", "fine\n")
    hooked.git("add", "b.txt")
    hooked.git("commit", "--quiet", "--message", "only b", "--", "b.txt")
    assert hooked.git("commit", "--all", "--message", "oops", check=False).returncode != 0


def test_the_hook_goes_where_git_looks_and_spares_what_others_wrote(repository: Repository, tmp_path: Path) -> None:
    repository.git("config", "core.hooksPath", str(tmp_path / "hooks"))
    file = hook_file(repository.folder)
    assert file == tmp_path / "hooks" / "pre-commit"
    install_hook(file, hook_script(["pratique"]), overwrites=False)
    install_hook(file, hook_script(["other one"]), overwrites=False)
    assert "'other one' secrets scan --staged" in file.read_text(encoding="utf-8")
    file.write_text("#!/bin/sh\nmake lint\n", encoding="utf-8")
    with pytest.raises(ForeignHookError, match="another hook"):
        install_hook(file, hook_script(["pratique"]), overwrites=False)
    assert "make lint" in file.read_text(encoding="utf-8")
    install_hook(file, hook_script(["pratique"]), overwrites=True)
    assert os.access(file, os.X_OK)


def test_the_command_installs_the_hook(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository.folder)
    file = repository.folder / ".git" / "hooks" / "pre-commit"
    assert CliRunner().invoke(app, ["install-hook", "--dry-run"]).exit_code == 0
    assert not file.exists()
    assert CliRunner().invoke(app, ["install-hook"]).exit_code == 0
    assert "secrets scan --staged" in file.read_text(encoding="utf-8")


def test_the_command_scans_staged_and_history(repository: Repository) -> None:
    added = repository.commit("a.txt", a_token())
    assert CliRunner().invoke(app, ["scan", "--staged", str(repository.folder)]).exit_code == 0
    ran = CliRunner().invoke(app, ["scan", "--history", "--json", str(repository.folder)])
    assert ran.exit_code == 1
    assert json.loads(ran.stdout)["findings"][0]["commit"] == added


def test_the_allow_file_of_the_checkout_is_read(repository: Repository) -> None:
    repository.commit("a.txt", a_token())
    found = json.loads(CliRunner().invoke(app, ["scan", "--json", str(repository.folder)]).stdout)["findings"]
    entry = f'[[allow]]\nfingerprint = "{found[0]["fingerprint"]}"\nreason = "made up"\n'
    repository.write(".pratique-secrets.toml", entry)
    assert CliRunner().invoke(app, ["scan", str(repository.folder)]).exit_code == 0
    repository.write(".pratique-secrets.toml", entry.replace("made up", ""))
    refused = CliRunner().invoke(app, ["scan", str(repository.folder)])
    assert isinstance(refused.exception, PratiqueError)
    assert refused.exception.exit_code == 2


def test_the_scan_runs_without_pytest_and_without_the_test_kit(repository: Repository) -> None:
    repository.commit("a.txt", "x")
    code = (
        "import sys; from pratique.cli.main import main\n"
        "try: main(['secrets', 'scan', '.'])\nfinally: print(sorted({'pytest', 'boto3', 'redis'} & set(sys.modules)))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=repository.folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert (ran.returncode, ran.stdout.strip()) == (0, "[]"), ran.stderr


def test_the_framework_s_hook_calls_the_command() -> None:
    hook, _ = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    assert hook["entry"] == "pratique secrets scan --staged"
    assert hook["pass_filenames"] is False


def test_this_repository_has_no_secret() -> None:
    scanner = Scanner()
    scan_files(scanner, [ROOT])
    assert not scanner.report.findings
    assert not scanner.report.problems
    assert scanner.report.num_texts > 400


def test_a_folder_that_git_ignores_is_scanned_where_it_is_named(repository: Repository) -> None:
    repository.commit(".gitignore", "build/\n")
    repository.write("build/deep/a", a_token())
    for named, num_found in (("build", 1), ("build/deep", 1), ("build/deep/a", 1), (".", 0)):
        scanner = Scanner()
        scan_files(scanner, [repository.folder / named])
        assert len(scanner.report.findings) == num_found, named


def test_the_hook_says_that_the_commit_was_stopped(repository: Repository) -> None:
    install_hook(
        hook_file(repository.folder), hook_script([sys.executable, "-P", "-m", "pratique.cli.main"]), overwrites=False
    )
    repository.write("a", a_token())
    repository.git("add", "--all")
    stopped = repository.git("commit", "--message", "a", check=False)
    assert stopped.returncode != 0
    assert "the commit was stopped" in stopped.stderr
    assert "allow-secret" in stopped.stderr
    repository.write("a", "fine")
    repository.git("add", "--all")
    assert "stopped" not in repository.git("commit", "--message", "a").stderr
