"""`pratique warmup` against model servers that run: from traffic to a manifest, to a warm server, to its timings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from pratique.cli.main import app

if TYPE_CHECKING:
    from tests.integration.inference.conftest import ServerProcess, Start

pytestmark = pytest.mark.integration

FLAGS = ("--engine", "simulated")
QUICK = '{"load_seconds": 0, "first_token_seconds": 0, "token_seconds": 0}'
MANIFEST = """
schema_version = 1
[[shapes]]
name = "greeting"
prompt_tokens = 7
output_tokens = 2
[[shapes]]
name = "document"
prompt_tokens = 900
"""


def pratique(*arguments: object, code: int = 0) -> Any:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, (result.output, result.exception)
    return result


def test_from_the_log_of_a_server_to_the_next_server_warmed_for_it(start: Start, tmp_path: Path) -> None:
    server = start(*FLAGS, PRATIQUE_INFERENCE_SIMULATED=QUICK)
    server.ready(timeout=20)
    for words in [6] * 8 + [400] * 4:
        assert server.post("/invocations", {"query": " 雪" * words, "max_tokens": 3})[0] == 200
    derived = tmp_path / "derived.toml"
    # The log has lines for people too.
    pratique("warmup", "derive", server.log, "--out", derived, "--max-bad", 0.5, "--template-tokens", 8)
    pratique("warmup", "check", derived, "--max-model-len", 2048)
    next_server = start(*FLAGS, PRATIQUE_INFERENCE_SIMULATED=QUICK, PRATIQUE_INFERENCE_WARMUP=str(derived))
    next_server.ready(timeout=20)
    warmup = next_server.status()["models"][0]["last_warmup"]
    assert [shape["name"] for shape in warmup["shapes"]] == ["up-to-6", "up-to-400", "catch-all"]
    said = [(shape["prompt_tokens"], shape["completion_tokens"]) for shape in warmup["shapes"]]
    assert said == [(14, 3), (408, 3), (2045, 3)]


def test_a_running_server_is_timed_from_outside(start: Start, tmp_path: Path) -> None:
    manifest = tmp_path / "w.toml"
    manifest.write_text(MANIFEST)
    server = start(*FLAGS, PRATIQUE_INFERENCE_SIMULATED=QUICK)
    server.ready(timeout=20)
    said = json.loads(pratique("warmup", "run", server.url, "--manifest", manifest, "--requests", 3, "--json").stdout)
    assert [(shape["name"], shape["first"]["prompt_tokens"], len(shape["rest"])) for shape in said["shapes"]] == [
        ("greeting", 15, 3),
        ("document", 908, 3),
        ("catch-all", 2044, 3),
    ]
    assert all(shape["ratio"] > 0 for shape in said["shapes"])


def test_a_server_that_is_not_ready_is_a_no(start: Start) -> None:
    server = start(*FLAGS, PRATIQUE_INFERENCE_SIMULATED='{"load_seconds": 60}')
    server.listening()
    assert "takes no traffic (503)" in pratique("warmup", "run", server.url, code=1).stderr


def test_no_server_and_the_wrong_model_are_told(start: Start, tmp_path: Path) -> None:
    assert "not reachable" in pratique("warmup", "run", "http://127.0.0.1:9", code=3).stderr
    manifest = tmp_path / "w.toml"
    manifest.write_text(f'model = "llama"\n{MANIFEST}')
    server = start(*FLAGS, PRATIQUE_INFERENCE_SIMULATED=QUICK)
    server.ready(timeout=20)
    said = pratique("warmup", "run", server.url, "--manifest", manifest, code=2).stderr
    assert "for the model 'llama'; served there: simulated" in said


def test_a_server_does_not_start_with_a_manifest_that_does_not_fit(start: Start, tmp_path: Path) -> None:
    manifest = tmp_path / "w.toml"
    manifest.write_text(MANIFEST.replace("900", "9000"))
    server = start(*FLAGS, PRATIQUE_INFERENCE_SIMULATED=QUICK, PRATIQUE_INFERENCE_WARMUP=str(manifest))
    assert server.wait(timeout=20) != 0
    assert "shape 'document': prompt_tokens 9000" in server.log.read_text()


@pytest.mark.vllm
def test_the_real_engine_was_warmed_with_exact_prompts_and_is_timed(real_server: ServerProcess, tmp_path: Path) -> None:
    shapes = {shape["name"]: shape for shape in real_server.status()["models"][0]["last_warmup"]["shapes"]}
    template = shapes["short"]["prompt_tokens"] - 10
    assert [shapes[name]["prompt_tokens"] - template for name in ("medium", "long")] == [200, 512]
    assert shapes["catch-all"]["prompt_tokens"] == 2044
    manifest = tmp_path / "w.toml"
    manifest.write_text(f"catch_all = false\n{MANIFEST.replace('900', '90')}")
    arguments = ("run", real_server.url, "--manifest", manifest, "--requests", 2, "--json")
    said = json.loads(pratique("warmup", *arguments).stdout)
    # From outside nobody counts tokens: a first word may be one or two.
    for shape, tokens in zip(said["shapes"], (7, 90), strict=True):
        assert 0 <= shape["first"]["prompt_tokens"] - tokens - template <= 2


@pytest.mark.slow  # importing transformers takes seconds
@pytest.mark.vllm
def test_texts_in_a_log_are_counted_by_the_models_tokenizer(model_root: Path, tmp_path: Path) -> None:
    log = tmp_path / "texts.jsonl"
    texts = ["Hello there.", "こんにちは、世界 🙂", "<|im_end|> is only text"] * 5
    log.write_text("\n".join(json.dumps({"query": text}) for text in texts))
    (folder,) = [path for path in model_root.iterdir() if path.is_dir() and not path.name.startswith(".")]
    said = json.loads(pratique("warmup", "derive", log, "--tokenizer", folder, "--json").stdout)
    assert (said["num_requests"], said["clusters"][0]["low"]) == (15, 3)
    assert said["clusters"][-1]["high"] > 8
