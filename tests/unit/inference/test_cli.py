"""`pratique model …`: data on standard output, one JSON object a line where asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pratique.cli.model import app
from pratique.inference.errors import ArtifactError, UnsafeWeightsError

pytestmark = pytest.mark.unit


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source" / "tiny"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"w" * 1000)
    return folder


def lines(*arguments: str) -> list[str]:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


def test_an_import_reports_its_progress_as_json_lines(source: Path, tmp_path: Path) -> None:
    said = [json.loads(line) for line in lines("import", str(source), "--model-root", str(tmp_path / "r"), "--json")]
    assert [line["phase"] for line in said] == ["copying", "writing checksums", "done"]
    assert [line["progress"] for line in said] == [0.1, 0.93, 1.0]
    assert {line["schema_version"] for line in said} == {1}


def test_a_person_gets_the_folder(source: Path, tmp_path: Path) -> None:
    assert lines("import", str(source), "--model-root", str(tmp_path / "r")) == [str(tmp_path / "r" / "tiny")]


def test_models_are_listed(source: Path, tmp_path: Path) -> None:
    root = str(tmp_path / "r")
    assert lines("list", "--model-root", root) == []
    lines("import", str(source), "--model-root", root)
    assert lines("list", "--model-root", root) == ["tiny  0 MB  not stated"]
    assert json.loads(lines("list", "--model-root", root, "--json")[0])["size_bytes"] == 1000


def test_a_changed_model_does_not_verify(source: Path, tmp_path: Path) -> None:
    root = tmp_path / "r"
    lines("import", str(source), "--model-root", str(root))
    assert lines("verify", str(root / "tiny")) == ["tiny: 1 files as recorded"]
    (root / "tiny" / "model.safetensors").write_bytes(b"x" * 1000)
    with pytest.raises(ArtifactError, match="SHA-256") as caught:
        lines("verify", str(root / "tiny"))
    assert caught.value.exit_code == 3


def test_pickles_are_a_usage_error(source: Path, tmp_path: Path) -> None:
    (source / "weights.bin").write_bytes(b"")
    with pytest.raises(UnsafeWeightsError) as caught:
        lines("import", str(source), "--model-root", str(tmp_path / "r"))
    assert caught.value.exit_code == 2
