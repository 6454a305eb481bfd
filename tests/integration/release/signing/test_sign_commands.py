"""`pratique sign`, `attest` and `verify` as people call them: a real registry, a key, and an identity."""

from __future__ import annotations

import base64
import time
from pathlib import Path

import msgspec
import pytest

from pratique.cli.main import main
from pratique.release.signing.scripted import ScriptedInstance
from pratique.release.signing.scripted_server import ScriptedServices
from pratique.testkit.services.registry import RegistryNamespace

pytestmark = pytest.mark.integration


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(ended.value.code or 0)


def write_token(file: Path) -> None:
    now = int(time.time())
    claims = {
        "iss": "https://login.example",
        "sub": "alice@example.com",
        "aud": "sigstore",
        "iat": now,
        "exp": now + 300,
    }
    parts = ({"alg": "none"}, claims)
    file.write_bytes(b".".join([*(base64.urlsafe_b64encode(msgspec.json.encode(part)) for part in parts), b"c2ln"]))


def test_a_key_and_an_identity_sign_an_image(
    registry: RegistryNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    digest = registry.push_image("app", "v1").digest
    repository = registry.reference("app").rpartition(":")[0]
    image = (digest, "--repository", repository)
    Path("password").write_text("open sesame\n")
    key = ("--key", "release.key", "--password-file", "password")
    assert run("signing-key", "create", "release.key", "--password-file", "password") == 0
    assert run("sign", *image, *key) == 0
    Path("sbom.json").write_text('{"bomFormat": "CycloneDX"}')
    assert run("attest", *image, "--type", "sbom", "--predicate", "sbom.json", *key) == 0
    instance = ScriptedInstance(rekor=2)
    Path("root.json").write_bytes(instance.trust_root_json())
    write_token(Path("token"))
    with ScriptedServices(instance).running() as services:
        Path("config.json").write_bytes(msgspec.json.encode(services.trust_config()))
        assert run("sign", *image, "--identity-token-file", "token", "--trust-config", "config.json") == 0
    capsys.readouterr()
    alice = ("--certificate-identity", "alice@example.com", "--certificate-oidc-issuer", "https://login.example")
    root = ("--trusted-root", "root.json")
    assert run("verify", *image, "--key", "release.key.pub", *root, "--json") == 0
    told = msgspec.json.decode(capsys.readouterr().out)
    assert len(told["attestations"]) == 3
    assert told["unverified"] == []
    assert run("verify", *image, *alice, *root) == 0
    assert "alice@example.com (by https://login.example) at the latest 20" in capsys.readouterr().out
    assert run("verify", *image, *alice, *root, "--type", "sbom") == 1  # a key has said that, and she has not


def test_a_registry_that_does_not_answer_decides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("signing-key", "create", "release.key", "--no-password") == 0
    nowhere = (f"sha256:{'0' * 64}", "--repository", "127.0.0.1:1/app")
    Path("pratique.toml").write_text("[release.registry]\nattempts = 1\n")
    config = ("--config", "pratique.toml")
    assert run("verify", *nowhere, "--key", "release.key.pub", *config) == 3
    assert run("sign", *nowhere, "--key", "release.key", *config) == 3
