"""`pratique eval` on the real model in the real engine: the good build passes, a numerically broken one does not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.integration.inference.conftest import ServerProcess, Start

pytestmark = [pytest.mark.integration, pytest.mark.vllm, pytest.mark.timeout(300)]

SMALL = "smollm2-135m-instruct"
GOLDEN_SET = Path(__file__).resolve().parents[3] / "examples" / "evaluation" / f"{SMALL}.jsonl"
SUBJECT = "sha256:" + "5" * 64


def put(server: ServerProcess, model: str, *more: str) -> tuple[int, dict[str, Any]]:
    """Evaluate with the command, as users do; return its exit code and what it prints."""
    command = [sys.executable, "-m", "pratique.cli.main", "eval", "run", str(GOLDEN_SET), "--json"]
    done = subprocess.run(
        [*command, "--url", server.url, "--model", model, *more],
        capture_output=True,
        timeout=240,
        check=False,
    )
    assert done.stdout, done.stderr.decode()
    return done.returncode, json.loads(done.stdout)


@pytest.fixture(scope="module")
def broken_server(
    model_root: Path, tmp_path_factory: pytest.TempPathFactory, server_process: Start
) -> Iterator[ServerProcess]:
    """Serve the same model with weights that lost four of seven bits of their mantissas: a wrong quantisation."""
    folder = tmp_path_factory.mktemp("broken") / SMALL
    folder.mkdir()
    for file in (model_root / SMALL).iterdir():
        if file.name not in {"manifest.json", "model.safetensors"}:
            (folder / file.name).write_bytes(file.read_bytes())
    (folder / "model.safetensors").write_bytes(coarse((model_root / SMALL / "model.safetensors").read_bytes()))
    server = server_process(folder, "--model", str(folder))
    try:
        server.ready()
        yield server
    finally:
        server.close()


def coarse(weights: bytes) -> bytes:
    """Clear the last bits of every bfloat16 in a safetensors file, which begins with its header's length."""
    begin = 8 + int.from_bytes(weights[:8], "little")
    values = bytearray(weights[begin:])
    # The low byte of each value comes first, and its low half is what the mantissa ends with.
    values[::2] = values[::2].translate(bytes(low & 0xF0 for low in range(256)))
    return weights[:begin] + values


def test_the_good_build_passes_and_its_evidence_says_so(real_server: ServerProcess, tmp_path: Path) -> None:
    code, told = put(real_server, SMALL, "--subject", SUBJECT, "--output", str(tmp_path / "evaluation.json"))
    assert (code, told["verdict"], told["problems"]) == (0, "pass", [])
    assert told["evaluation"]["model"] == SMALL
    assert told["measures"]["agreement"]["num_samples"] > 200
    statement = json.loads((tmp_path / "evaluation.json").read_bytes())
    assert statement["subject"][0]["digest"] == {"sha256": "5" * 64}
    assert statement["predicate"] == told["evaluation"]


def test_a_build_that_still_answers_right_fails_by_its_numbers(broken_server: ServerProcess) -> None:
    code, told = put(broken_server, SMALL)
    assert (code, told["verdict"]) == (1, "fail")
    passed = {one["name"]: one["passed"] for one in told["evaluation"]["checks"]}
    assert passed["answers"]
    assert passed["truncated"]
    assert not passed["logprob-mean"]
    assert not passed["within-tolerance"]
    assert not passed["divergence"]
    # It is one and the same text that it is unsure of: a threshold on perplexity alone would hardly see it.
    assert told["measures"]["perplexity"]["value"] < 13
