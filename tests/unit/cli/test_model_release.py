"""`pratique model push`, `pull`, `evidence`, `admit`, `provenance`: flags in, words and exit codes out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.unit.release.models.model_parts import NOW, OTHER, Signatory, write_model
from typer.testing import CliRunner, Result

from pratique.cli import model_release
from pratique.cli._models import open_admission
from pratique.cli.main import app
from pratique.core.errors import CallerError
from pratique.inference.settings import ArtifactSettings, SignerSettings
from pratique.release.registry.memory import MemoryRegistry
from pratique.release.signing.attach import attach
from pratique.release.signing.keys import create_key, load_key
from pratique.release.signing.publickey import parse_public_key
from pratique.release.signing.scripted import ScriptedInstance
from pratique.release.values import Digest, Subject

pytestmark = pytest.mark.unit

REPOSITORY = "registry.example/models/tiny"
HERE = ("--repository", REPOSITORY, "--config", "pratique.toml")


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> MemoryRegistry:
    registry = MemoryRegistry()
    monkeypatch.setattr(model_release, "open_registry", lambda _settings: registry)
    monkeypatch.chdir(tmp_path)
    create_key(tmp_path / "release.key", kind="p256", password=None)
    (tmp_path / "root.json").write_bytes(ScriptedInstance().trust_root_json())
    (tmp_path / "pratique.toml").write_text(
        """[release.signing]
public_keys = ["release.key.pub"]
trusted_root_file = "root.json"
[inference.artifact]
signers = [{ key = "release.key.pub" }]
"""
    )
    return registry


def call(*words: object, code: int = 0) -> Result:
    done = CliRunner().invoke(app, [str(word) for word in ("model", *words)])
    assert done.exit_code == code, f"{done.output}\n{done.exception!r}"
    return done


def sign(registry: MemoryRegistry, digest: str) -> None:
    bundle = Signatory(load_key(Path("release.key"))).sign(Digest(digest))
    attach(registry, Subject(REPOSITORY, Digest(digest)), bundle, at=NOW)


def test_a_model_that_nobody_signed_is_pulled_with_a_warning_and_not_admitted(
    shelf: MemoryRegistry, tmp_path: Path
) -> None:
    pushed = json.loads(call("push", write_model(tmp_path / "tiny"), *HERE, "--json").stdout)
    assert (pushed["schema_version"], pushed["kind"], pushed["files"]) == (1, "model", 6)
    about = (pushed["digest"], *HERE)
    stranger = Signatory()
    attach(shelf, Subject(REPOSITORY, pushed["digest"]), stranger.sign(pushed["digest"]), at=NOW)
    pulled = call("pull", *about, "--into", "served/tiny", "--json")
    assert "no signature that holds" in pulled.stderr
    assert "none of the 1 accepted keys" in pulled.stderr
    assert json.loads(pulled.stdout)["bundles"] == 0
    refused = call("admit", "served/tiny", "--config", "pratique.toml", "--json", code=1)
    assert json.loads(refused.stdout)["code"] == "unreleased_artifact"
    assert "hint: " in call("admit", "served/tiny", "--config", "pratique.toml", code=1).stderr
    other = call("push", write_model(tmp_path / "other"), *HERE).stdout.strip()
    evidence = ("--evidence", "served/tiny.evidence")
    assert "another artifact" in call("pull", other, *HERE, "--into", "served/other", *evidence, code=1).stderr
    assert not Path("served/other").exists()
    sign(shelf, pushed["digest"])
    assert "would lay 1 bundles" in call("evidence", *about, "--beside", "served/tiny", "--dry-run").stderr
    told = json.loads(call("evidence", *about, "--beside", "served/tiny", "--json").stdout)
    assert told["bundles"] == 1
    assert pushed["digest"] in call("admit", "served/tiny", "--config", "pratique.toml").stdout


def test_a_dry_run_writes_nothing(shelf: MemoryRegistry, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "tiny")
    planned = call("push", folder, *HERE, "--dry-run")
    assert json.loads(planned.stdout)["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    assert list(shelf.tags(REPOSITORY)) == []
    digest = call("push", folder, *HERE, "--tag", "v1").stdout.strip()
    assert list(shelf.tags(REPOSITORY)) == ["v1"]
    assert "would pull the model 'tiny'" in call("pull", digest, *HERE, "--into", "copy", "--dry-run").stderr
    assert not Path("copy").exists()


def test_an_adapter_without_its_model_is_not_pushed(shelf: MemoryRegistry, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "lora", is_adapter=True)
    call("push", folder, *HERE, code=1)
    call("push", folder, *HERE, "--base", "latest", code=2)
    assert json.loads(call("push", folder, *HERE, "--base", OTHER, "--json").stdout)["kind"] == "adapter"


def test_a_folder_that_was_not_imported_is_not_pushed(shelf: MemoryRegistry, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "tiny")
    (folder / "manifest.json").unlink()
    call("push", folder, *HERE, code=3)
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04")
    call("push", folder, *HERE, code=3)


TRAINED = ("provenance", "--source", "https://git.example/train", "--builder", "https://ci.example/train")


@pytest.mark.parametrize(
    "words",
    [
        ("--commit", "main"),
        ("--commit", "0" * 40, "--dataset", "chats"),
        ("--commit", "0" * 40, "--dataset", "chats=latest"),
        ("--commit", "0" * 40, "--parameter", "=3"),
        ("--commit", "0" * 40, "--parameter", "epochs=3", "--parameter", "epochs=4"),
    ],
)
def test_provenance_that_proves_nothing_is_wrong_usage(words: tuple[str, ...]) -> None:
    call(*TRAINED, *words, code=2)


def test_provenance_is_printed() -> None:
    told = json.loads(
        call(
            *TRAINED, "--commit", "0" * 40, "--base", OTHER, "--dataset", f"chats={OTHER}", "--parameter", "lr=1e-4"
        ).stdout
    )
    assert told["buildDefinition"]["externalParameters"]["datasets"] == {"chats": OTHER}


@pytest.mark.parametrize(
    "signer",
    [
        SignerSettings(),
        SignerSettings(key=Path("release.key.pub"), issuer="https://login.example"),
        SignerSettings(issuer="https://login.example"),
        SignerSettings(subject="ana@team.example"),
        SignerSettings(issuer="https://*.example", subject="ana@team.example"),
        SignerSettings(issuer="https://login.example", subject="*"),
        SignerSettings(key=Path("nowhere.pub")),
    ],
)
def test_a_signer_who_could_be_anybody_is_wrong_usage(shelf: MemoryRegistry, signer: SignerSettings) -> None:
    with pytest.raises(CallerError):
        open_admission(ArtifactSettings(signers=(signer,)))


def test_nobody_is_wrong_usage() -> None:
    with pytest.raises(CallerError, match="got nobody"):
        open_admission(ArtifactSettings(require=True))


def test_keys_and_identities_are_believed_as_the_settings_say(shelf: MemoryRegistry) -> None:
    named = SignerSettings(issuer="https://login.example", subject="*@team.example")
    settings = ArtifactSettings(
        signers=(SignerSettings(key=Path("release.key.pub")), named),
        deciders=(named,),
        environment="production",
        trusted_root_file=Path("root.json"),
        policy_digest=OTHER,
        max_decision_age_hours=2,
        evidence_root=Path("evidence"),
    )
    found = open_admission(settings)
    key = parse_public_key(load_key(Path("release.key")).public_key_der)
    assert [one.key for one in found.trust.signers] == [key.fingerprint, None]
    assert found.trust.max_decision_age is not None
    assert (found.trust.max_decision_age.total_seconds(), found.trust.policy) == (7200, OTHER)
    assert found.evidence_root == Path("evidence")
