"""`pratique sign`, `pratique attest` and `pratique verify`, on a registry in memory."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import msgspec
import pytest
from tests.unit.release.signing.watched_registry import REPOSITORY, WatchedRegistry

from pratique.cli import _signing, verify
from pratique.cli.main import main
from pratique.release.predicates import HYGIENE, RELEASE, SBOM
from pratique.release.signing.attach import attach
from pratique.release.signing.keys import create_key, load_public_key
from pratique.release.signing.scripted import ScriptedInstance
from pratique.release.statements import make_statement
from pratique.release.values import CertificateIdentity, digest_of

pytestmark = pytest.mark.unit

ALICE = CertificateIdentity("https://login.example", "alice@example.com")
NAMED = ("--certificate-identity", ALICE.subject, "--certificate-oidc-issuer", ALICE.issuer)
IN = ("--repository", REPOSITORY)
VEX_STATEMENT = {
    "vulnerability": {"name": "CVE-2026-7"},
    "products": [{"@id": "pkg:pypi/a@1"}],
    "status": "fixed",
}
VEX_DOCUMENT = {
    "@context": "https://openvex.dev/ns/v0.2.0",
    "@id": "urn:vex:1",
    "author": "ana",
    "timestamp": "2026-11-26T12:00:00Z",
    "version": 1,
    "statements": [VEX_STATEMENT],
}
HERE = ("--trusted-root", "root.json")


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WatchedRegistry:
    monkeypatch.chdir(tmp_path)
    create_key(Path("release.key"), kind="p256", password=None)
    made = WatchedRegistry()
    for module in (_signing, verify):
        monkeypatch.setattr(module, "open_registry", lambda _settings: made)
    return made


@pytest.fixture
def image(registry: WatchedRegistry) -> str:
    return registry.push_image().digest


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(ended.value.code or 0)


def test_an_image_that_was_signed_is_verified_by_its_signers_key(
    image: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("verify", image, *IN, "--key", "release.key.pub") == 1
    assert run("sign", image, *IN, "--key", "release.key") == 0
    said = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert set(said) == {"attached", "bundle", "statement"}
    assert said["statement"] == make_statement(digest_of(b'{"schemaVersion":2}'), RELEASE, {}).digest
    assert run("verify", image, *IN, "--key", "release.key.pub") == 0
    fingerprint = load_public_key(Path("release.key.pub")).fingerprint
    assert capsys.readouterr().out == f"{RELEASE} signed by key {fingerprint} bundle {said['bundle']}\n"


def test_what_is_attested_is_told_in_json(image: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("sbom.json").write_text('{"bomFormat": "CycloneDX"}\n')
    assert (
        run("attest", image, *IN, "--type", "sbom", "--predicate", "sbom.json", "--key", "release.key", "--json") == 0
    )
    attached = msgspec.json.decode(capsys.readouterr().out)
    assert (attached["schema_version"], attached["predicate_type"]) == (1, SBOM)
    assert run("verify", image, *IN, "--key", "release.key.pub", "--type", "sbom", "--json") == 0
    told = msgspec.json.decode(capsys.readouterr().out)
    (one,) = told["attestations"]
    assert told["unverified"] == []
    assert (one["bundle"], one["statement"]) == (attached["bundle"], attached["statement"])
    assert one["signed_at"] is None
    assert run("verify", image, *IN, "--key", "release.key.pub") == 1  # an SBOM is no signature of the image


def test_who_is_not_accepted_has_not_signed(
    registry: WatchedRegistry, image: str, capsys: pytest.CaptureFixture[str]
) -> None:
    instance = ScriptedInstance()
    Path("root.json").write_bytes(instance.trust_root_json())
    subject, at = registry.push_image(), dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
    bundle = instance.sign(make_statement(subject.digest, RELEASE, {}).payload, ALICE, at=at)
    attach(registry, subject, msgspec.json.encode(bundle), at=at)
    assert run("verify", image, *IN, *HERE, *NAMED) == 0
    assert f"signed by {ALICE} at the latest 2026-03-01T00:00:00+00:00" in capsys.readouterr().out
    assert run("verify", image, *IN, *HERE, *NAMED[:1], "mallory@example.com", *NAMED[2:]) == 1
    assert run("verify", image, *IN, *HERE, *NAMED[:3], "https://other.example") == 1
    assert run("verify", image, *IN, *HERE, "--key", "release.key.pub") == 1
    capsys.readouterr()
    assert run("verify", image, *IN, *NAMED) == 1  # by the public instance's root
    assert "proves nothing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("verify", "{image}", *IN), 2),  # accepting nobody
        (("verify", "{image}", *IN, *NAMED[:2]), 2),
        (("verify", "latest", *IN, "--key", "release.key.pub"), 2),
        (("verify", "{image}", *IN, "--key", "release.key.pub", "--type", "nothing"), 2),
        (("sign", "latest", *IN, "--key", "release.key"), 2),
        (("sign", "{image}", *IN, "--key", "none.key"), 2),
        (("sign", "{image}", *IN, "--key", "release.key", "--kms-key", "alias/release"), 2),
        (("sign", digest_of(b"no image"), *IN, "--key", "release.key"), 1),
        (("attest", "{image}", *IN, "--type", "sbom", "--predicate", "none.json", "--key", "release.key"), 2),
        (("attest", "{image}", *IN, "--type", "sbom", "--predicate", "release.key", "--key", "release.key"), 1),
        (("attest", "{image}", *IN, "--type", "hygiene", "--predicate", "empty.json", "--key", "release.key"), 1),
    ],
)
def test_wrong_usage_is_told_from_a_refusal(
    registry: WatchedRegistry, image: str, arguments: tuple[str, ...], code: int
) -> None:
    Path("empty.json").write_text("{}")
    assert run(*(one.format(image=image) for one in arguments)) == code
    assert set(registry.tagged) == {"latest"}


def test_a_predicate_of_our_own_types_keeps_to_its_form(image: str) -> None:
    Path("hygiene.json").write_text('{"checked": ["root"], "size_bytes": 1, "wasted_bytes": 0}')
    predicate = ("--type", HYGIENE, "--predicate", "hygiene.json")
    assert run("attest", image, *IN, *predicate, "--key", "release.key") == 0
    Path("hygiene.json").write_text('{"checked": ["root"], "size_bytes": 1, "wasted_bytes": 0, "more": 1}')
    assert run("attest", image, *IN, *predicate, "--key", "release.key") == 1


def test_a_rehearsal_shows_the_statement_and_writes_nothing(
    registry: WatchedRegistry, image: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("sign", image, *IN, "--key", "release.key", "--dry-run") == 0
    out, err = capsys.readouterr()
    assert msgspec.json.decode(out)["predicateType"] == RELEASE
    assert "would sign" in err
    assert set(registry.tagged) == {"latest"}


def test_keys_may_stand_in_the_settings(image: str) -> None:
    Path("pratique.toml").write_text('[release.signing]\nkey_file = "release.key"\npublic_keys = ["release.key.pub"]\n')
    config = ("--config", "pratique.toml")
    assert run("sign", image, *IN, *config) == 0
    assert run("verify", image, *IN, *config) == 0
    create_key(Path("other.key"), kind="ed25519", password=None)
    assert run("verify", image, *IN, *config, "--key", "other.key.pub") == 1


def test_a_predicate_that_is_too_large_is_not_signed(image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pratique.release.signing.predicate.MAX_STATEMENT_BYTES", 1)
    Path("sbom.json").write_text("{}")
    assert run("attest", image, *IN, "--type", "sbom", "--predicate", "sbom.json", "--key", "release.key") == 1


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("provenance", {"buildDefinition": {"buildType": "x", "externalParameters": {}}}),
        ("vulnerabilities", {"scanner": {"uri": "x", "version": "1"}}),
        ("vex", {"@context": "https://openvex.dev/ns/v0.2.0"}),
        ("vex", {**VEX_DOCUMENT, "statements": [{**VEX_STATEMENT, "products": []}]}),
    ],
)
def test_what_the_gate_could_not_read_is_not_signed(
    registry: WatchedRegistry, image: str, kind: str, content: dict[str, object]
) -> None:
    Path("said.json").write_bytes(msgspec.json.encode(content))
    assert run("attest", image, *IN, "--type", kind, "--predicate", "said.json", "--key", "release.key") == 1
    assert set(registry.tagged) == {"latest"}
    Path("said.json").write_bytes(msgspec.json.encode(VEX_DOCUMENT))
    assert run("attest", image, *IN, "--type", "vex", "--predicate", "said.json", "--key", "release.key") == 0
