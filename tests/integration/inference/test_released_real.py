"""The real server with released artifacts required: a signed model and adapter are served, a changed one never is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.integration.inference.conftest import ServerProcess
from tests.integration.inference.vllm_kit import QUESTION, write_adapter

from pratique.cli._models import artifact_of
from pratique.inference.artifacts.manifest import verify, write_manifest
from pratique.inference.artifacts.store import SMALL_MODEL
from pratique.release.models.artifact import write_artifact
from pratique.release.models.evidence import Evidence, save_evidence
from pratique.release.predicates import RELEASE
from pratique.release.signing.keyed import KeyedSigner
from pratique.release.signing.keys import create_key, load_key
from pratique.release.statements import make_statement
from pratique.release.values import Digest

pytestmark = [pytest.mark.integration, pytest.mark.vllm, pytest.mark.timeout(300)]

CONFIG = """
[inference]
model = "{model}"
kv_cache_memory_bytes = 67108864
max_model_len = 512
failures = "{folder}/failures.json"
[[inference.adapters]]
name = "legal"
folder = "{folder}/legal"
[inference.artifact]
require = true
signers = [{{ key = "{folder}/release.key.pub" }}]
evidence_root = "{folder}/evidence"
"""

Start = Callable[..., ServerProcess]


def release(model: Path, folder: Path, *, base: Digest | None = None) -> Digest:
    """Sign a folder as it is now, and lay the evidence where the server looks."""
    written = write_artifact(artifact_of(verify(model), model, base=base))
    signer = KeyedSigner(load_key(folder / "release.key"))
    bundle = signer.sign(make_statement(written.digest, RELEASE, {}).payload)
    save_evidence(folder / "evidence" / f"{model.name}.evidence", Evidence(written.manifest, (bundle,)))
    return written.digest


def prepare(folder: Path, model: Path) -> tuple[Digest, Digest]:
    create_key(folder / "release.key", kind="p256", password=None)
    digest = release(model, folder)
    adapter = write_adapter(folder / "legal", 1)
    write_manifest(adapter, name="legal", origin="a test", licence="MIT")
    (folder / "server.toml").write_text(CONFIG.format(model=model, folder=folder))
    return digest, release(adapter, folder, base=digest)


@pytest.mark.slow
def test_a_signed_model_and_its_adapter_are_served_and_told(model_root: Path, tmp_path: Path, start: Start) -> None:
    model, adapter = prepare(tmp_path, model_root / SMALL_MODEL)
    server = start("--config", str(tmp_path / "server.toml"))
    server.ready(timeout=240)
    status = server.status()
    told = status["models"][0]["released"]
    assert [(one["digest"], one["kind"], one["base"]) for one in told] == [
        (model, "model", None),
        (adapter, "adapter", model),
    ]
    assert status["warmup"].keys() == {"done", "pending"}
    code, reply = server.post("/invocations", {"query": QUESTION, "max_tokens": 4, "adapter": "legal"})
    assert code == 200, reply


def test_a_model_with_one_changed_byte_is_never_ready(model_root: Path, tmp_path: Path, start: Start) -> None:
    model = shutil.copytree(model_root / SMALL_MODEL, tmp_path / "copy")
    prepare(tmp_path, model)
    with (model / "model.safetensors").open("r+b") as weights:
        weights.seek(-1, 2)
        last = weights.read(1)
        weights.seek(-1, 2)
        weights.write(bytes([last[0] ^ 1]))
    server = start("--config", str(tmp_path / "server.toml"))
    seen = set()
    while server.process.poll() is None:
        try:
            server.listening()
            seen.add(server.get("/ping")[0])
        except (OSError, AssertionError):
            break
    assert server.wait(timeout=120) == 1
    assert 200 not in seen
    events = [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]
    [failed] = [event for event in events if event.get("event") == "failed"]
    assert failed["code"] == "unreleased_artifact"
    assert "model.safetensors has SHA-256" in failed["error"]
    assert not [event for event in events if event.get("phase") in {"weights", "kv_cache"}]
