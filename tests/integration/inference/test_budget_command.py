"""`pratique budget` with the real tokenizer: what it says of a request is what the template makes of it."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from pratique.cli.budget import app
from pratique.inference.artifacts.store import SMALL_MODEL
from pratique.inference.context.fitlog import LogTooBadError
from pratique.inference.engines.tokenizer import load_tokenizer
from pratique.inference.errors import ArtifactError

pytestmark = [pytest.mark.integration, pytest.mark.vllm]

HISTORY = [
    {"role": "user", "content": "Hello, I am Alice Smith and I ordered an iPhone 15 under ORD-4711."},
    {"role": "assistant", "content": "Hello Alice Smith, I see ORD-4711."},
    {"role": "user", "content": "注文番号ORD-4712の電気ポットはいつ届きますか。👩‍👩‍👧"},
    {"role": "assistant", "content": "明日届く予定です。" * 20},
    {"role": "user", "content": "And the weather?"},
    {"role": "assistant", "content": "Rain, and then some sun. " * 20},
]
BODY = {"query": "Where is my order?", "system_prompt": "Be kind.", "context": ["One."], "history": HISTORY}


@pytest.fixture(scope="module")
def folder(model_root: Path) -> Path:
    folder = model_root / SMALL_MODEL
    load_tokenizer(folder)  # imports transformers, which takes seconds
    return folder


def pratique(*arguments: object, given: object = None) -> Result:
    text = None if given is None else json.dumps(given)
    return CliRunner().invoke(app, [str(one) for one in arguments], input=text, catch_exceptions=False)


def test_explain_counts_as_transformers_does(folder: Path) -> None:
    from transformers import AutoTokenizer

    flags = ("--tokenizer", folder, "--limit", 400, "--json", "--show-prompt")
    done = pratique("explain", "-", *flags, given={**BODY, "max_tokens": 100})
    assert (done.exit_code, done.stderr) == (1, "")
    said: dict[str, Any] = json.loads(done.stdout)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    text = tokenizer.apply_chat_template(said["messages"], tokenize=False, add_generation_prompt=True)
    assert said["prompt_tokens"] == len(tokenizer(text, add_special_tokens=False)["input_ids"])
    assert said["total_tokens"] == sum(said["sizes"].values()) == said["prompt_tokens"] + 100 <= 400
    assert said["verdict"] == "truncated"
    assert any("ORD-4711" in entity for turn in said["turns"] for entity in turn["entities"])


def test_fit_reads_a_log_with_the_real_tokenizer(folder: Path, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    messages = [*HISTORY, {"role": "user", "content": "Where is it?"}]
    entry = {"system": "Be kind.", "context": ["One."], "messages": messages, "reply": "In Osaka."}
    log.write_text("\n".join([json.dumps(entry)] * 20 + ["nonsense"]))
    with pytest.raises(LogTooBadError, match="1 of 21 lines"):
        pratique("fit", log, "--tokenizer", folder)
    done = pratique("fit", log, "--tokenizer", folder, "--max-bad", 0.1)
    assert done.exit_code == 0
    assert "line 21:" in done.stderr
    assert tomllib.loads(done.stdout)["inference"]["budget"] == {
        "context_reserve_tokens": 50,
        "output_reserve_tokens": 50,
    }


def test_a_folder_without_a_tokenizer_or_template_is_named(folder: Path, tmp_path: Path) -> None:
    for missing in (tmp_path, tmp_path / "none"):
        with pytest.raises(ArtifactError, match=str(missing)):
            load_tokenizer(missing)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    with pytest.raises(ArtifactError, match="no chat template"):
        load_tokenizer(tmp_path)
