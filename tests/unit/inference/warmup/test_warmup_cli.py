"""`pratique warmup …`: data on standard output, what is for people on standard error, exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pratique.cli.warmup import app
from pratique.inference.errors import WarmupManifestError
from pratique.inference.warmup import probe as probe_module
from pratique.inference.warmup.manifest import load_manifest
from pratique.inference.warmup.probe import Measured, ProbeOptions, Timing

pytestmark = pytest.mark.unit


def run(*arguments: object, code: int = 0, **options: Any) -> Any:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False, **options)
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def log(tmp_path: Path) -> Path:
    lines = [f'{{"prompt_tokens": {tokens}, "completion_tokens": 3}}' for tokens in [*range(10, 40)] * 4]
    lines += ['{"prompt_tokens": 900, "adapter": "sales"}'] * 60 + ['{"event": "phase"}', "oops"]
    file = tmp_path / "アクセス.jsonl"
    file.write_text("\n".join(lines))
    return file


def test_derive_prints_a_manifest_that_can_be_read_and_explains_beside_it(log: Path, tmp_path: Path) -> None:
    result = run("derive", log)
    file = tmp_path / "w.toml"
    file.write_text(result.stdout)
    assert [(entry.name, entry.adapter) for entry in load_manifest(file).shapes] == [
        ("up-to-36", None),
        ("up-to-900", None),
        ("adapter-1", "sales"),
    ]
    assert result.stdout.splitlines()[0] == "# Derived from 180 requests in ????.jsonl; its shapes cover 93.3% of them."
    assert "# 10 to 39 tokens: 66.7% of the requests" in result.stdout
    assert "180 requests, 1 other lines passed over, 1 unreadable" in result.stderr
    assert "line 182: JSON is malformed" in result.stderr
    assert "◀ up-to-36" in result.stderr
    assert "overall 93.3% covered" in result.stderr


def test_derive_writes_manifest_and_plot_where_it_is_told(log: Path, tmp_path: Path) -> None:
    out, plot = tmp_path / "w.toml", tmp_path / "w.svg"
    assert run("derive", log, "--out", out, "--plot", plot, "--model", "small").stdout == ""
    assert load_manifest(out).model == "small"
    assert plot.read_text(encoding="utf-8").startswith("<svg ")
    with pytest.raises(WarmupManifestError, match="cannot be written"):
        run("derive", log, "--out", tmp_path / "no" / "w.toml")


def test_derive_as_json_has_coverage_and_manifest(log: Path) -> None:
    said = json.loads(run("derive", log, "--json").stdout)
    assert (said["schema_version"], said["num_requests"], said["num_bad"]) == (1, 180, 1)
    assert said["coverage"] == pytest.approx(168 / 180, abs=1e-4)
    assert [cluster["share"] for cluster in said["clusters"]] == [0.666667, 0.333333]
    assert said["clusters"][0]["covered_share"] == 0.9
    assert said["manifest"]["shapes"][0]["prompt_tokens"] == 36


def test_derive_leaves_out_what_the_model_cannot_take(log: Path) -> None:
    result = run("derive", log, "--max-model-len", 512, "--template-tokens", 5, "--max-shapes", 2)
    assert "60 requests fill the model's context or are longer" in result.stderr
    assert "prompt_tokens = 31" in result.stdout
    assert "900" not in result.stdout


def test_derive_reads_standard_input() -> None:
    result = run("derive", "-", input='{"prompt_tokens": 7}\n')
    assert "1 requests in standard input" in result.stdout


def test_derive_refuses_a_log_of_something_else(log: Path) -> None:
    with pytest.raises(WarmupManifestError, match="1 of 181 lines") as caught:
        run("derive", log, "--max-bad", 0)
    assert caught.value.exit_code == 2
    run("derive", log, "--max-shapes", 1, code=2)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    file = tmp_path / "w.toml"
    file.write_text(
        'schema_version = 1\n[[shapes]]\nname = "short"\nprompt_tokens = 10\nshare = 0.4\n'
        '[[shapes]]\nname = "sales"\nprompt_tokens = 300\nadapter = "sales"\n'
    )
    return file


def test_check_lists_the_shapes(manifest: Path) -> None:
    assert run("check", manifest).stdout.splitlines() == [
        "short  10 + 4 tokens  40.0% of the traffic",
        "sales  300 + 4 tokens  adapter sales",
        "catch-all  the whole context",
    ]
    assert "catch-all  2048 tokens" in run("check", manifest, "--max-model-len", 2048).stdout
    said = json.loads(run("check", manifest, "--json").stdout)
    assert (said["schema_version"], said["manifest"]["shapes"][0]) == (
        1,
        {"name": "short", "prompt_tokens": 10, "share": 0.4},
    )
    manifest.write_text(f"catch_all = false\n{manifest.read_text()}")
    assert "catch-all" not in run("check", manifest).stdout


def test_check_refuses_what_does_not_fit(manifest: Path) -> None:
    with pytest.raises(WarmupManifestError, match=r"shape 'sales': .*takes 256") as caught:
        run("check", manifest, "--max-model-len", 256)
    assert caught.value.exit_code == 2
    for flags in (("--max-model-len", 2048), ()):
        with pytest.raises(WarmupManifestError, match="no adapter 'sales'; loaded: other"):
            run("check", manifest, *flags, "--adapter", "other")


def test_the_schema_is_json() -> None:
    assert json.loads(run("schema").stdout)["title"] == "pratique warmup manifest, schema_version 1"


@pytest.fixture
def probed(monkeypatch: pytest.MonkeyPatch) -> list[ProbeOptions]:
    """Replace the network: the first request of 'long' is cold."""
    seen: list[ProbeOptions] = []

    def timing(seconds: float) -> Timing:
        return Timing(prompt_tokens=40, completion_tokens=4, first_token_seconds=seconds, total_seconds=1.0)

    async def fake(url: str, options: ProbeOptions, **_: Any) -> tuple[Measured, ...]:
        seen.append(options)
        return tuple(
            Measured(name=name, adapter=None, first=timing(first), rest=(timing(0.02),) * 3)
            for name, first in (("short", 0.02), ("long", 0.05))
        )

    monkeypatch.setattr(probe_module, "probe", fake)
    return seen


def test_run_prints_a_table_with_the_ratios(probed: list[ProbeOptions], manifest: Path) -> None:
    lines = run("run", "http://127.0.0.1:1", "--manifest", manifest, "--requests", 3).stdout.splitlines()
    assert lines[1].split() == ["short", "40", "20.0", "20.0", "1.00"]
    assert lines[2].split() == ["long", "40", "50.0", "20.0", "2.50"]
    assert probed[0].num_repeats == 3
    assert probed[0].manifest == load_manifest(manifest)


def test_run_as_json(probed: list[ProbeOptions]) -> None:
    said = json.loads(run("run", "http://127.0.0.1:1", "--json").stdout)
    assert (said["schema_version"], said["url"]) == (1, "http://127.0.0.1:1")
    assert [shape["ratio"] for shape in said["shapes"]] == [1.0, 2.5]
    assert said["shapes"][1]["first"]["first_token_seconds"] == 0.05


def test_run_says_no_where_a_first_request_was_cold(probed: list[ProbeOptions]) -> None:
    run("run", "http://127.0.0.1:1", "--max-ratio", 3)
    result = run("run", "http://127.0.0.1:1", "--max-ratio", 1.1, code=1)
    assert "not warm: the first 'long' took 2.50 times as long" in result.stderr
