"""hadolint itself, under our rules."""

from __future__ import annotations

from pathlib import Path

import pytest

from pratique.release.errors import ToolFailedError
from pratique.release.evidence.hygiene.lint import lint_dockerfile

pytestmark = pytest.mark.integration

OURS = sorted((Path(__file__).resolve().parents[5] / "deploy" / "images").glob("*/Dockerfile"))


def test_a_careless_dockerfile_is_told_with_its_lines(tmp_path: Path) -> None:
    path = tmp_path / "Dockerfile"
    path.write_text(
        "FROM debian\nRUN sudo apt-get update && apt-get install curl | cat\nADD a b\nUSER root\n", encoding="utf-8"
    )
    found = {(one.rule, one.level, one.where) for one in lint_dockerfile(path)}
    assert {
        ("dockerfile DL3004", "error", "Dockerfile line 2"),
        ("dockerfile DL4006", "warning", "Dockerfile line 2"),
        ("dockerfile DL3020", "error", "Dockerfile line 3"),
        ("dockerfile DL3002", "error", "Dockerfile line 4"),
    } <= found


def test_what_is_no_dockerfile_could_not_be_looked_at_or_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("this is nothing\n", encoding="utf-8")
    assert "error" in {one.level for one in lint_dockerfile(tmp_path / "Dockerfile")}
    with pytest.raises(ToolFailedError, match="hadolint"):
        lint_dockerfile(tmp_path / "missing")


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.parent.name)
def test_our_own_dockerfiles_pass(path: Path) -> None:
    assert [one for one in lint_dockerfile(path) if one.level != "note"] == []
