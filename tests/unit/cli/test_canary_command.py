"""`pratique canary assess`: a file of measurements in, a verdict and its exit code out."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pratique.cli import canary
from pratique.cli.main import app

pytestmark = pytest.mark.unit

RULES = """
[[release.promotion.canary.metrics]]
name = "latency_seconds"
kind = "level"
max_ratio = 1.1
limit = 0.5
min_samples = 20
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "pratique.toml"
    file.write_text(RULES, encoding="utf-8")
    return file


def assess(folder: Path, measured: object, *more: str) -> tuple[int, str]:
    (folder / "window.json").write_text(json.dumps(measured), encoding="utf-8")
    result = CliRunner().invoke(app, ["canary", "assess", str(folder / "window.json"), *more])
    return result.exit_code, result.stdout


def levels(new: float, count: int = 40) -> dict[str, object]:
    return {"stable": {"latency_seconds": [0.1] * 400}, "candidate": {"latency_seconds": [new] * count}}


@pytest.mark.parametrize(
    ("measured", "verdict", "code"),
    [(levels(0.1), "pass", 0), (levels(0.6), "fail", 1), (levels(0.1, 19), "inconclusive", 3)],
)
def test_each_verdict_has_its_exit_code(
    tmp_path: Path, config: Path, measured: object, verdict: str, code: int
) -> None:
    found, out = assess(tmp_path, measured, "--config", str(config))
    assert found == code
    assert out.splitlines()[0] == verdict
    assert out.splitlines()[1].startswith(f"latency_seconds: {verdict}: ")


def test_json_has_every_metric(tmp_path: Path, config: Path) -> None:
    code, out = assess(tmp_path, levels(0.1), "--config", str(config), "--json")
    told = json.loads(out)
    assert (code, told["schema_version"], told["verdict"]) == (0, 1, "pass")
    assert (told["metrics"][0]["metric"], told["metrics"][0]["num_new"]) == ("latency_seconds", 40)


def test_a_look_before_the_last_cannot_pass(tmp_path: Path, config: Path) -> None:
    assert assess(tmp_path, levels(0.1), "--config", str(config), "--look", "3", "--planned", "60")[0] == 3


def test_a_look_that_was_not_planned_is_wrong_usage(tmp_path: Path, config: Path) -> None:
    assert assess(tmp_path, levels(0.1), "--config", str(config), "--look", "3")[0] == 2


@pytest.mark.parametrize(
    "measured",
    [[], {}, {"stable": {}}, {"stable": {}, "candidate": {"error": ["x"]}}, {"stable": {}, "candidate": {}, "x": 1}],
)
def test_what_holds_no_measurements_is_wrong_usage(tmp_path: Path, measured: object) -> None:
    assert assess(tmp_path, measured)[0] == 2


def test_a_negative_measurement_is_refused(tmp_path: Path, config: Path) -> None:
    assert assess(tmp_path, levels(-0.1), "--config", str(config))[0] == 1


def test_a_file_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    assert CliRunner().invoke(app, ["canary", "assess", str(tmp_path / "none")]).exit_code == 2


def test_measurements_can_come_by_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    class Input:
        buffer = io.BytesIO(b'{"stable":{},"candidate":{}}')

    monkeypatch.setattr(sys, "stdin", Input)
    assert canary._read(Path("-")).stable == {}


def test_more_than_is_read_is_wrong_usage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canary, "_MAX_BYTES", 10)
    assert assess(tmp_path, levels(0.1))[0] == 2
