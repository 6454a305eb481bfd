"""`pratique model …`: data on standard output, one JSON object a line where asked; exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from pratique.cli.model import app
from pratique.inference.artifacts import store
from pratique.inference.artifacts.manifest import MANIFEST
from pratique.inference.artifacts.sandbox import Conversion, SandboxReport
from pratique.inference.errors import ArtifactError

pytestmark = pytest.mark.unit

HEADER = b'{"a":{"dtype":"U8","shape":[100],"data_offsets":[0,100]}}'
WEIGHTS = len(HEADER).to_bytes(8, "little") + HEADER + bytes(100)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source" / "tiny"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    (folder / "config.json").write_text("{}")
    return folder


@pytest.fixture
def pickled(source: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A source with pickles, and a sandbox that has converted them."""

    def convert(conversion: Conversion, progress: Callable[[str, float], None], shut_in: Callable[..., None]) -> str:
        shut_in(SandboxReport(enforced=("network",), missing={"files": "no Landlock"}))
        (conversion.out / "model.safetensors").write_bytes(WEIGHTS)
        return ""

    monkeypatch.setattr(store, "convert", convert)
    (source / "model.safetensors").rename(source / "pytorch_model.bin")
    (source / "optimizer.pt").write_bytes(b"")
    return source


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def lines(*arguments: object) -> list[str]:
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


def test_an_import_reports_its_progress_as_json_lines(source: Path, tmp_path: Path) -> None:
    said = [json.loads(line) for line in lines("import", source, "--model-root", tmp_path / "r", "--json")]
    assert [line["phase"] for line in said] == ["copying", "writing checksums", "done"]
    assert [line["progress"] for line in said] == [0.01, 0.93, 1.0]
    assert {line["schema_version"] for line in said} == {1}
    assert said[-1]["folder"] == str(tmp_path / "r" / "tiny")


def test_a_person_gets_the_folder(source: Path, tmp_path: Path) -> None:
    assert lines("import", source, "--model-root", tmp_path / "r") == [str(tmp_path / "r" / "tiny")]


def test_what_of_the_sandbox_is_not_enforced_is_said(pickled: Path, tmp_path: Path) -> None:
    said = [json.loads(line) for line in lines("import", pickled, "--model-root", tmp_path / "r", "--json")]
    assert said[1]["sandbox"] == {"enforced": ["network"], "missing": {"files": "no Landlock"}}
    result = invoke("import", pickled, "--name", "b", "--model-root", tmp_path / "r", "--unsafe-without-sandbox")
    assert "sandbox: enforced: network; not enforced: files (no Landlock)" in result.stderr
    assert "left out: optimizer.pt" in result.stderr
    assert "a pickle may run what it likes" in result.stderr


def test_a_dry_run_writes_nothing(pickled: Path, tmp_path: Path) -> None:
    arguments = ("import", pickled, "--model-root", tmp_path / "r", "--dry-run", "--licence", "mit")
    plan = json.loads(lines(*arguments, "--json")[0])
    assert (plan["kind"], plan["licence"], plan["is_done"]) == ("pickles", "MIT", False)
    assert (plan["files"], plan["left_out"]) == (["pytorch_model.bin", "config.json"], ["optimizer.pt"])
    result = invoke(*arguments)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "would import pickles" in result.stderr
    assert not (tmp_path / "r").exists()
    lines("import", pickled, "--model-root", tmp_path / "r")
    assert "nothing to do" in invoke(*arguments).stderr
    assert json.loads(lines(*arguments, "--json")[0])["is_done"]


def test_models_are_listed(source: Path, tmp_path: Path) -> None:
    root = tmp_path / "r"
    assert lines("list", "--model-root", root) == []
    lines("import", source, "--model-root", root)
    assert lines("list", "--model-root", root) == ["tiny  0 MB  not stated"]
    assert json.loads(lines("list", "--model-root", root, "--json")[0])["size_bytes"] == len(WEIGHTS) + 2


def test_a_model_that_is_as_recorded_verifies(source: Path, tmp_path: Path) -> None:
    folder = Path(lines("import", source, "--model-root", tmp_path / "r")[0])
    assert lines("verify", folder) == ["tiny: 2 files as recorded"]
    said = json.loads(lines("verify", folder, "--json", "--against", folder / MANIFEST)[0])
    assert (said["verdict"], said["files"], len(said["manifest_sha256"])) == ("as recorded", 2, 64)


@pytest.mark.parametrize(
    ("name", "raw", "code"),
    [
        ("model.safetensors", WEIGHTS[:-1] + b"x", 1),
        ("model.safetensors", b"\x80\x04.", 1),
        ("pytorch_model.bin", b"", 1),
        (MANIFEST, b"{}", 3),
    ],
)
def test_what_differs_is_1_and_what_cannot_be_read_is_3(
    source: Path, tmp_path: Path, name: str, raw: bytes, code: int
) -> None:
    folder = Path(lines("import", source, "--model-root", tmp_path / "r")[0])
    (folder / name).write_bytes(raw)
    result = invoke("verify", folder)
    assert (result.exit_code, result.stdout) == (code, "")
    assert name in result.stderr
    assert "hint: " in result.stderr
    said = json.loads(invoke("verify", folder, "--json").stdout)
    assert said["verdict"] == {1: "differs", 3: "unreadable"}[code]
    assert name in said["reason"]


def test_a_folder_that_is_not_there_cannot_be_read(tmp_path: Path) -> None:
    assert invoke("verify", tmp_path / "nowhere").exit_code == 3
    assert invoke("verify").exit_code == 2


def test_a_manifest_that_was_exchanged_differs_from_the_recorded_one(source: Path, tmp_path: Path) -> None:
    folder = Path(lines("import", source, "--model-root", tmp_path / "r")[0])
    recorded = tmp_path / "recorded.json"
    recorded.write_bytes((folder / MANIFEST).read_bytes().replace(b"not stated", b"MIT"))
    assert invoke("verify", folder, "--against", recorded).exit_code == 1
    assert invoke("verify", folder, "--against", tmp_path / "nothing").exit_code == 3


def test_a_source_that_is_none_raises_for_the_command_line_to_render(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="found nothing such") as caught:
        lines("import", tmp_path / "nowhere", "--model-root", tmp_path / "r")
    assert caught.value.exit_code == 3
