"""A model from its folder to a server's door: pushed, signed, gated, pulled, admitted, on Debian's registry."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.release.models.model_parts import write_model
from typer.testing import CliRunner, Result

from pratique.cli.main import app
from pratique.release.signing.keys import create_key, load_public_key
from pratique.release.values import digest_of
from pratique.testkit.services.registry import RegistryNamespace

pytestmark = [pytest.mark.integration, pytest.mark.slow]

PAGE = Path(__file__).resolve().parents[4] / "docs" / "release" / "models.md"
[POLICY] = re.findall(
    r"^```toml models\.toml\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
)
PARTIES = ("training", "evaluator", "ana", "ben")
SOURCE = ("--source", "https://git.example/team/train", "--commit", "0123456789abcdef0123456789abcdef01234567")
GOLDEN = "sha256:" + "5" * 64
CHECK = {"name": "answers", "value": 0.9, "threshold": 0.8, "at": "least", "passed": True, "num_samples": 60}

Call = Callable[..., Result]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.chdir(tmp_path)

    def run(*words: object, code: int = 0) -> Result:
        done = CliRunner().invoke(app, [str(word) for word in words])
        assert done.exit_code == code, f"{words}\n{done.output}\n{done.exception!r}"
        return done

    return run


def write_settings(folder: Path, repository: str) -> None:
    for party in (*PARTIES, "gate", "stranger"):
        create_key(folder / f"{party}.key", kind="p256", password=None)
    text = POLICY.replace("registry.example/models/support", repository)
    for number, party in enumerate(PARTIES, start=1):
        text = text.replace(f"sha256:{str(number) * 64}", load_public_key(folder / f"{party}.key.pub").fingerprint)
    (folder / "models.toml").write_text(text)
    keys = ", ".join(f'"{folder}/{party}.key.pub"' for party in (*PARTIES, "gate"))
    (folder / "pratique.toml").write_text(
        f"""[release.signing]
public_keys = [{keys}]
key_file = "{folder}/gate.key"
[release.policy]
file = "{folder}/models.toml"
[release.ledger]
file = "{folder}/ledger.db"
[inference.artifact]
signers = [{{ key = "{folder}/training.key.pub" }}]
environment = "production"
deciders = [{{ key = "{folder}/gate.key.pub" }}]
policy_digest = "{digest_of(text.encode())}"
"""
    )


def attest(call: Call, about: tuple[str, ...], kind: str, predicate: str, key: str) -> None:
    file = Path(f"{kind}.json")
    file.write_text(predicate)
    call("attest", *about, "--type", kind, "--predicate", file, "--key", f"{key}.key")


def test_a_model_goes_from_its_folder_through_the_gate_to_a_servers_door(
    registry: RegistryNamespace, tmp_path: Path, call: Call
) -> None:
    repository = f"{registry.endpoint.address}/{registry.repository('support')}"
    write_settings(tmp_path, repository)
    model = write_model(tmp_path / "made" / "support")
    planned = call("model", "push", model, "--repository", repository, "--dry-run").stdout.rstrip("\n")
    digest = call("model", "push", model, "--repository", repository, "--tag", "v3").stdout.strip()
    assert digest == digest_of(planned.encode())
    about = (digest, "--repository", repository)
    config = ("--config", "pratique.toml")
    production = (*about, "--environment", "production", *config)

    call("sign", *about, "--key", "stranger.key")
    assert "missing" in call("gate", *production, "--json", code=1).stdout
    call("sign", *about, "--key", "training.key")
    provenance = call(
        "model", "provenance", *SOURCE, "--ref", "refs/tags/v3", "--builder", "https://ci.example/train",
        "--author", "dev@team.example", "--dataset", f"support-chats={GOLDEN}",
    ).stdout  # fmt: skip
    attest(call, about, "provenance", provenance, "training")
    blocked = json.loads(call("gate", *production, "--json", code=1).stdout)
    assert {one["rule"] for one in blocked["rules"] if one["outcome"] == "fail"} == {"evaluation", "approvals"}
    evaluation = {"model": "support", "golden_set": GOLDEN, "checks": [CHECK]}
    attest(call, about, "evaluation", json.dumps(evaluation), "evaluator")
    call("approve", *production, "--reason", "better on refunds", "--key", "ana.key")

    call("model", "pull", *about, "--into", "served/support", *config)
    refused = call("model", "admit", "served/support", *config, "--json", code=1)
    assert "no accepted decision" in json.loads(refused.stdout)["reason"]
    attest(call, about, "decision", call("gate", *production, "--json").stdout, "gate")
    call("model", "evidence", *about, "--beside", "served/support", *config)
    admitted = json.loads(call("model", "admit", "served/support", *config, "--json").stdout)
    assert (admitted["digest"], admitted["decision"]["environment"]) == (digest, "production")

    adapter = write_model(tmp_path / "made" / "legal", is_adapter=True)
    call("model", "push", adapter, "--repository", f"{repository}-lora", code=1)
    lora = call("model", "push", adapter, "--repository", f"{repository}-lora", "--base", digest).stdout.strip()
    call("sign", lora, "--repository", f"{repository}-lora", "--key", "training.key")
    call("model", "pull", lora, "--repository", f"{repository}-lora", "--into", "served/legal", *config)
    both = ("model", "admit", "served/support", "--adapter", "served/legal", *config)
    assert "no accepted decision" in call(*both, code=1).stderr

    weights = Path("served/support/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert "SHA-256" in call("model", "admit", "served/support", *config, code=1).stderr
    shutil.rmtree("served/support")
    call("model", "pull", *about, "--into", "served/support", *config)
    call("model", "admit", "served/support", *config)
    audit = json.loads(call("audit", *about, *config, "--json").stdout)
    assert {link["name"]: link["verdict"] for link in audit["links"]}.pop("evaluation") == "holds"


def test_what_nobody_pushed_is_not_pulled(registry: RegistryNamespace, tmp_path: Path, call: Call) -> None:
    write_settings(tmp_path, "registry.example/models/support")
    repository = f"{registry.endpoint.address}/{registry.repository('nothing')}"
    words = ("model", "pull", digest_of(b"nothing"), "--repository", repository, "--config", "pratique.toml")
    call(*words, "--into", "served/nothing", code=1)
    assert not Path("served/nothing").exists()
