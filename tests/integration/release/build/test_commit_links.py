"""A commit is somebody else's: what it holds is written below one folder, or refused."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pratique.release.build.errors import BuildRequestError
from pratique.release.build.source import export_tree, read_source

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("target", ["/etc/passwd", "../../outside"])
def test_a_link_that_leads_out_of_the_commit_is_refused(tmp_path: Path, target: str) -> None:
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    (checkout / "link").symlink_to(target)
    identity = ("-c", "user.name=a", "-c", "user.email=a@team.example")
    for words in (("init", "--quiet"), ("add", "--all"), ("commit", "--quiet", "--message", "A link")):
        subprocess.run(["git", "-C", str(checkout), *identity, *words], check=True, capture_output=True)
    with pytest.raises(BuildRequestError, match="holds what cannot be written"):
        export_tree(read_source(checkout, allow_dirty=False), tmp_path / "context")
