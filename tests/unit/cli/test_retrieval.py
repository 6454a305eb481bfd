"""`pratique retrieval`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from pratique.cli.retrieval import app
from pratique.core.errors import CallerError
from pratique.core.settings import SettingsError
from pratique.orchestrator.retrieval.embedded.manifest import IndexDamagedError, IndexMissingError
from pratique.orchestrator.retrieval.interface import RetrievalUnavailableError

pytestmark = pytest.mark.unit

LINES = (
    '{"id":"h","title":"Harbour of Lamps","text":"A keeper and a lighthouse.","url":"https://manga.example/h"}\n'
    '{"id":"v","title":"Volcano","text":"A cook on an island."}\n'
)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.jsonl"
    path.write_text(LINES)
    return path


@pytest.fixture
def index(tmp_path: Path, source: Path) -> str:
    folder = str(tmp_path / "index")
    ran = run("index", str(source), "--into", folder)
    assert (ran.exit_code, ran.stdout) == (0, "")
    assert "2 passages of 2 documents" in ran.stderr
    return folder


def test_what_fits_is_shown_with_its_address(index: str) -> None:
    ran = run("search", index, "Is there a lighthouse?")
    assert ran.exit_code == 0
    assert "Harbour of Lamps  https://manga.example/h" in ran.stdout
    passages = json.loads(run("search", index, "volcano", "--json").stdout)["passages"]
    assert [each["source_id"] for each in passages] == ["v"]


def test_where_nothing_fits_the_exit_code_is_1(index: str) -> None:
    for question in ("spaceship", "hello"):
        ran = run("search", index, question)
        assert (ran.exit_code, ran.stdout) == (1, "")
        assert "nothing fits" in ran.stderr
    ran = run("search", index, "spaceship", "--json")
    assert (ran.exit_code, json.loads(ran.stdout)["passages"]) == (1, [])


def test_a_whole_index_is_verified_and_a_damaged_one_is_not(index: str, tmp_path: Path) -> None:
    shown = json.loads(run("verify", index, "--json").stdout)
    assert (shown["schema_version"], shown["num_documents"]) == (1, 2)
    with pytest.raises(IndexMissingError):
        run("verify", str(tmp_path))
    (damaged,) = Path(index).glob("*/*.store")
    damaged.write_bytes(damaged.read_bytes()[::-1])
    with pytest.raises(IndexDamagedError, match=f"{damaged.name} is not what the manifest says"):
        run("verify", index)


def test_wrong_arguments_are_told(source: Path, tmp_path: Path) -> None:
    folder = str(tmp_path / "index")
    with pytest.raises(CallerError, match="overlap"):
        run("index", str(source), "--into", folder, "--passage-characters", "100", "--overlap-characters", "90")
    with pytest.raises(CallerError, match="auto, kuromoji, cjk"):
        run("index", str(source), "--into", "http://127.0.0.1:9", "--analyzer", "klingon")
    with pytest.raises(SettingsError, match="holds a password"):
        run("search", "http://a:b@127.0.0.1:9", "lighthouse")
    with pytest.raises(RetrievalUnavailableError, match="no index"):
        run("search", folder, "lighthouse")


def test_a_cluster_that_is_away_is_told(source: Path) -> None:
    with pytest.raises(Exception, match="OpenSearch did not take the index"):
        run("index", str(source), "--into", "http://127.0.0.1:9")
    with pytest.raises(RetrievalUnavailableError, match="cannot be asked"):
        run("search", "http://127.0.0.1:9", "lighthouse")
