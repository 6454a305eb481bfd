"""`pratique promote` and `rollback` on real parts: a registry, an SQLite ledger, keys, programs behind Envoy."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.integration.fleet.targets.conftest import PROGRAM, Load
from typer.testing import CliRunner

from pratique.cli._signing import release_settings
from pratique.cli.main import app
from pratique.fleet.targets.local import LocalTarget
from pratique.release.ledger.build import open_ledger
from pratique.release.ledger.settings import LedgerSettings
from pratique.release.policy.acts import Revocation, revoke
from pratique.release.predicates import RELEASE
from pratique.release.registry.client import HttpRegistry
from pratique.release.registry.credentials import AuthFiles
from pratique.release.registry.interface import IMAGE_MANIFEST
from pratique.release.registry.settings import RegistrySettings
from pratique.release.signing.attach import attach
from pratique.release.signing.keyed import KeyedSigner
from pratique.release.signing.keys import create_key, load_key, load_public_key
from pratique.release.signing.trust import load_trust_root
from pratique.release.signing.verifier import BundleVerifier
from pratique.release.statements import make_statement
from pratique.release.values import Digest, Subject, digest_of
from pratique.testkit.ports import reserved_port
from pratique.testkit.services.registry import RegistryNamespace

pytestmark = [pytest.mark.integration, pytest.mark.slow]

POLICY = """
schema_version = 1
repositories = ["{repository}"]
environments = ["production"]
baseline = "production"
[signers.rollout]
identities = [{{ key = "{key}" }}]
[rules.signature]
signers = ["rollout"]
[rules.canary]
signers = ["rollout"]
metrics = ["error", "latency_seconds"]
min_samples = 20
min_seconds = 3
min_share = 0.3
"""
CONFIG = """
[release.signing]
public_keys = ["{folder}/key.pub"]
key_file = "{folder}/key"
[release.policy]
file = "{folder}/promotion.toml"
[release.ledger]
file = "{folder}/ledger.db"
[release.promotion]
share = 0.3
canary_seconds = 4
look_seconds = 1
[[release.promotion.canary.metrics]]
name = "error"
kind = "rate"
max_increase = 0.02
min_samples = 20
[[release.promotion.canary.metrics]]
name = "latency_seconds"
kind = "level"
max_ratio = 2.0
max_increase = 0.1
limit = 0.5
min_samples = 20
[release.promotion.targets.production]
folder = "{folder}/target"
command = ["{python}", "{program}", "{{digest}}", "{{port}}", "{folder}"]
port = {ports[0]}
admin_port = {ports[1]}
slot_ports = [{ports[2]}, {ports[3]}]
"""


@dataclass
class Shop:
    """A registry with signed images, and a configuration that names all the rest."""

    folder: Path
    repository: str
    port: int
    registry: HttpRegistry

    @property
    def signer(self) -> KeyedSigner:
        return KeyedSigner(load_key(self.folder / "key", password=None))

    def image(self, name: str) -> Digest:
        """Push an image, and sign it."""
        config = json.dumps({"name": name}).encode()
        blob = self.registry.put_blob(self.repository, config)
        manifest = {
            "schemaVersion": 2,
            "mediaType": IMAGE_MANIFEST,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": blob.digest,
                "size": blob.size_bytes,
            },
            "layers": [],
        }
        content = json.dumps(manifest).encode()
        digest = self.registry.put_manifest(self.repository, digest_of(content), content, IMAGE_MANIFEST)
        statement = make_statement(digest, RELEASE, {})
        attach(
            self.registry, Subject(self.repository, digest), self.signer.sign(statement.payload), at=datetime.now(UTC)
        )
        return digest

    def run(self, *arguments: str) -> tuple[int, dict[str, object], str]:
        result = CliRunner().invoke(app, [*arguments, "--config", str(self.folder / "pratique.toml"), "--json"])
        return result.exit_code, json.loads(result.stdout or "{}"), result.stderr

    def promote(self, digest: Digest) -> tuple[int, dict[str, object], str]:
        return self.run("promote", digest, "--repository", self.repository)

    def revoke(self, digest: Digest) -> None:
        verifier = BundleVerifier((load_public_key(self.folder / "key.pub"),), load_trust_root(None))
        with open_ledger(LedgerSettings(file=self.folder / "ledger.db"), verifier, signer=self.signer) as ledger:
            revoke(ledger, digest, Revocation(what="image", reason="a backdoor"), actor="somebody")


@pytest.fixture
def shop(registry: RegistryNamespace, tmp_path: Path) -> Iterator[Shop]:
    create_key(tmp_path / "key", kind="p256", password=None)
    repository = f"{registry.endpoint.address}/{registry.repository('chat')}"
    key = load_public_key(tmp_path / "key.pub").fingerprint
    (tmp_path / "promotion.toml").write_text(POLICY.format(repository=repository, key=key), encoding="utf-8")
    client = HttpRegistry(RegistrySettings(attempts=1, connect_seconds=1.0), AuthFiles(()))
    with contextlib.ExitStack() as kept:
        ports = [kept.enter_context(reserved_port()) for _ in range(4)]
        config = CONFIG.format(folder=tmp_path, ports=ports, python=sys.executable, program=PROGRAM)
        (tmp_path / "pratique.toml").write_text(config, encoding="utf-8")
        yield Shop(tmp_path, repository, ports[0], client)
        LocalTarget(release_settings(tmp_path / "pratique.toml").promotion.targets["production"]).close()


def test_a_release_is_promoted_over_a_canary_rolled_back_and_not_to_what_is_revoked(shop: Shop) -> None:
    one, two = shop.image("one"), shop.image("two")
    code, told, err = shop.promote(one)
    assert (code, told.get("result")) == (0, "promoted"), err

    assert "the gate admits" in shop.run("promote", two, "--repository", shop.repository, "--dry-run")[2]
    load = Load(shop.port)
    try:
        code, told, err = shop.promote(two)
        assert (code, told.get("result")) == (0, "promoted"), err
        assert f"would go back from {two} to {one}" in shop.run("rollback", "--reason", "to try it", "--dry-run")[2]
        code, told, err = shop.run("rollback", "--reason", "to try it")
        assert (code, told.get("result"), told.get("digest")) == (0, "rolled_back", one), err
        assert float(str(told["seconds"])) < 180

        (shop.folder / f"{two.removeprefix('sha256:')[:4]}.slow").write_text("0.7")
        code, _, err = shop.promote(two)
        assert code == 1
        assert "latency_seconds: worse than allowed" in err
    finally:
        load.stop()

    shop.revoke(two)
    code, _, err = shop.promote(two)
    assert (code, "revoked" in err) == (1, True), err
    code, _, err = shop.run("rollback", "--reason", "once more")
    assert (code, "nothing to go back to" in err) == (1, True), err
    code, _, err = shop.run("promote", "--resume")
    assert (code, "nothing is unfinished" in err) == (1, True), err
    assert {answer for answer in load.answers if not answer.startswith("sha256:")} == set()
