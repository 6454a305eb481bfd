"""A manifest that was recorded elsewhere: a file, or a ledger of JSON lines."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pratique.inference.artifacts.manifest import MANIFEST, Manifest, UnreadableError, read_manifest
from pratique.inference.artifacts.recorded import read_recorded
from pratique.inference.errors import ArtifactError

pytestmark = pytest.mark.unit


@pytest.fixture
def manifest(make_model: Callable[..., Path]) -> Manifest:
    return read_manifest(make_model())


def line(manifest: Manifest, **changes: object) -> str:
    fields = {name: getattr(manifest, name) for name in ("schema_version", "name", "origin", "licence")}
    files = [{"name": entry.name, "size_bytes": entry.size_bytes, "sha256": entry.sha256} for entry in manifest.files]
    return json.dumps({**fields, "files": files, **changes})


def test_a_copy_of_the_manifest_is_read(tmp_path: Path, manifest: Manifest) -> None:
    assert read_recorded(tmp_path / "tiny" / MANIFEST, "tiny") == manifest
    assert read_recorded(tmp_path / "tiny" / MANIFEST, "whatever it is called") == manifest


def test_a_path_without_a_folder_is_read(tmp_path: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path / "tiny")
    assert read_recorded(Path(MANIFEST), "tiny") == manifest


def test_of_a_ledger_the_models_last_entry_counts(tmp_path: Path, manifest: Manifest) -> None:
    ledger = tmp_path / "ledger.jsonl"
    entries = [
        line(manifest, origin="first"),
        json.dumps({"event": "promoted", "manifest": json.loads(line(manifest, origin="second"))}),
        line(manifest, name="other", origin="third"),
    ]
    ledger.write_text("\n".join(entries) + "\n\n")
    assert read_recorded(ledger, "tiny").origin == "second"
    with pytest.raises(UnreadableError, match="records nothing for the model 'unknown'"):
        read_recorded(ledger, "unknown")


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"\xff", b"[" * 100_000, b"{}", b'{"manifest": 3}', b'{"name": "a"}\n{}']
)
def test_what_is_neither_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(UnreadableError):
        read_recorded(tmp_path / "x", "tiny")


def test_a_pipe_and_nothing_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "nothing", "no/folder"):
        with pytest.raises(ArtifactError):
            read_recorded(tmp_path / name, "tiny")
