"""A checkout is somebody else's: what it holds is written below one folder or refused, what it names is not run."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pratique.release.build.errors import BuildRequestError
from pratique.release.build.source import export_tree, read_source

pytestmark = pytest.mark.integration


def git(checkout: Path, *words: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@team.example")
    subprocess.run(["git", "-C", str(checkout), *identity, *words], check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    folder.mkdir()
    git(folder, "init", "--quiet")
    return folder


@pytest.mark.parametrize("target", ["/etc/passwd", "../../outside"])
def test_a_link_that_leads_out_of_the_commit_is_refused(checkout: Path, tmp_path: Path, target: str) -> None:
    (checkout / "link").symlink_to(target)
    git(checkout, "add", "--all")
    git(checkout, "commit", "--quiet", "--message", "A link")
    with pytest.raises(BuildRequestError, match="holds what cannot be written"):
        export_tree(read_source(checkout, allow_dirty=False), tmp_path / "context")


def test_a_program_that_the_checkout_names_is_not_run(checkout: Path, tmp_path: Path) -> None:
    ran, spy = tmp_path / "ran", tmp_path / "spy"
    spy.write_text(f'#!/bin/sh\ntouch "{ran}"\n', encoding="utf-8")
    spy.chmod(0o755)
    (checkout / "file").write_text("text", encoding="utf-8")
    git(checkout, "add", "--all")
    git(checkout, "commit", "--quiet", "--message", "A file")
    git(checkout, "config", "core.fsmonitor", str(spy))
    git(checkout, "status")
    assert ran.exists(), "git runs it where nobody forbids it"
    ran.unlink()
    source = read_source(checkout, allow_dirty=False)
    assert (source.changes, ran.exists()) == ((), False)
