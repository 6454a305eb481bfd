"""hadolint itself, under our rules."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from pratique.release.build.layout import add_layer, canonical_json, write_image
from pratique.release.errors import ToolFailedError
from pratique.release.evidence.hygiene.collector import inspect_layout
from pratique.release.evidence.hygiene.lint import lint_dockerfile
from pratique.release.evidence.hygiene.settings import HygieneSettings

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


def test_the_rule_is_among_those_that_ran_where_a_dockerfile_is_given(tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("a"))
    out.seek(0)
    layer = add_layer(tmp_path, out)
    write_image(tmp_path, canonical_json({"rootfs": {"diff_ids": [layer.diff_id]}}), [layer])
    found = inspect_layout(tmp_path, HygieneSettings(), OURS[0])
    assert "dockerfile" in found.checked
    assert {one.rule for one in found.findings} == {"health-check", "root-user"}
