"""`pratique evidence attach`, and collecting from a repository."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.unit.release.evidence.images_made import make_image, pypi, sbom_of
from typer.testing import CliRunner, Result

from pratique.cli._signing import release_settings
from pratique.cli.evidence import app
from pratique.core.errors import CallerError
from pratique.release.decoding import decode_json
from pratique.release.errors import EvidenceError, NotFoundError, VerificationError
from pratique.release.evidence.images import pull
from pratique.release.evidence.interface import Image
from pratique.release.ledger.build import open_ledger
from pratique.release.ledger.recording import RecordedStatement
from pratique.release.predicates import APPROVAL, SBOM, Approval
from pratique.release.registry.layout import ImageLayout, push_image
from pratique.release.registry.memory import MemoryRegistry
from pratique.release.signing.build import open_verifier
from pratique.release.signing.dossier import load_dossier
from pratique.release.signing.keys import create_key, load_public_key
from pratique.release.signing.trust import load_trust_root
from pratique.release.signing.verifier import BundleVerifier
from pratique.release.statements import make_statement
from pratique.release.values import Subject, digest_of

pytestmark = pytest.mark.unit

REPOSITORY = "registry.example/team/chat"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments), "--repository", REPOSITORY], catch_exceptions=False)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> MemoryRegistry:
    made = MemoryRegistry()
    monkeypatch.setattr("pratique.cli._signing.open_registry", lambda _settings: made)
    return made


@pytest.fixture
def image(tmp_path: Path, registry: MemoryRegistry) -> Image:
    made = make_image(tmp_path / "image")
    push_image(ImageLayout(made.layout), made.subject.digest, registry, REPOSITORY)
    return made


@pytest.fixture
def statements(image: Image, tmp_path: Path) -> list[Path]:
    files = [tmp_path / name for name in ("one.json", "two.json")]
    for number, file in enumerate(files):
        file.write_bytes(sbom_of(image.subject.digest, pypi("a", str(number))).payload)
    return files


def test_statements_are_signed_as_they_are_and_lie_beside_the_image(
    image: Image, statements: list[Path], registry: MemoryRegistry, tmp_path: Path
) -> None:
    create_key(tmp_path / "release.key", kind="p256", password=None)
    ran = run("attach", *statements, "--key", tmp_path / "release.key", "--json")
    told = json.loads(ran.stdout)
    assert told["image"] == image.subject.digest
    verifier = BundleVerifier((load_public_key(tmp_path / "release.key.pub"),), load_trust_root(None))
    dossier = load_dossier(registry, image.subject, verifier)
    assert dossier.unverified == ()
    attached = {one.statement.digest: one for one in dossier.attestations}
    assert [attached[one["statement"]].bundle for one in told["attached"]] == [
        one["bundle"] for one in told["attached"]
    ]
    assert {one.statement.payload for one in attached.values()} == {file.read_bytes() for file in statements}
    again = run("attach", statements[0], "--key", tmp_path / "release.key")
    assert f"{statements[0]}: statement sha256:" in again.stdout


def test_a_dry_run_signs_nothing(image: Image, statements: list[Path], registry: MemoryRegistry) -> None:
    ran = run("attach", *statements, "--dry-run")
    assert f"would sign {statements[0]} and lay it beside {REPOSITORY}@{image.subject.digest}" in ran.stderr
    assert list(registry.tags(REPOSITORY)) == []


def test_statements_about_several_images_are_not_laid_beside_one(statements: list[Path], tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_bytes(sbom_of(digest_of(b"other"), pypi("a", "1")).payload)
    with pytest.raises(CallerError, match="about one image, got some about 2"):
        run("attach", *statements, other)


def test_what_is_no_statement_is_not_signed(tmp_path: Path, registry: MemoryRegistry) -> None:
    file = tmp_path / "x.json"
    file.write_text('{"bomFormat": "CycloneDX"}')
    with pytest.raises(EvidenceError, match="expected an in-toto statement"):
        run("attach", file)
    with pytest.raises(CallerError, match="cannot be read"):
        run("attach", tmp_path / "none.json")


def test_an_image_is_collected_from_its_repository(image: Image, statements: list[Path], tmp_path: Path) -> None:
    given = ("--sbom", statements[0], "--no-scan", "--first", "--output", tmp_path / "evidence", "--json")
    ran = run("collect", image.subject.digest, *given)
    assert json.loads(ran.stdout)["image"] == image.subject.digest
    assert (tmp_path / "evidence" / "dependencies.json").is_file()


def test_an_image_that_is_not_there_or_an_index_is_refused(registry: MemoryRegistry, tmp_path: Path) -> None:
    missing = digest_of(b"missing")
    with pytest.raises(NotFoundError):
        run("collect", missing, "--no-scan", "--output", tmp_path / "x")
    content = json.dumps({"schemaVersion": 2, "manifests": []}).encode()
    index = "application/vnd.oci.image.index.v1+json"
    registry.put_manifest(REPOSITORY, digest_of(content), content, index)
    with pytest.raises(EvidenceError, match="is of no image"):
        pull(registry, Subject(REPOSITORY, digest_of(content)), tmp_path / "index")


LEDGER = """
[release.signing]
public_keys = ["{folder}/release.key.pub"]
[release.ledger]
file = "{folder}/ledger.db"
"""


def test_what_is_attached_is_recorded_where_a_ledger_is_named(
    image: Image, statements: list[Path], tmp_path: Path
) -> None:
    create_key(tmp_path / "release.key", kind="p256", password=None)
    config = tmp_path / "pratique.toml"
    config.write_text(LEDGER.format(folder=tmp_path))
    key = ("--key", tmp_path / "release.key")
    said = run("attach", *statements, *key, "--config", config)
    assert said.stderr == ""
    approval = Approval(
        environment="production", evidence=(), expires_at=datetime(2026, 11, 27, tzinfo=UTC), reason="seen"
    )
    (tmp_path / "approval.json").write_bytes(make_statement(image.subject.digest, APPROVAL, approval).payload)
    run("attach", tmp_path / "approval.json", *key, "--config", config)
    settings = release_settings(config)
    with open_ledger(settings.ledger, open_verifier(settings.signing)) as ledger:
        entries = list(ledger.entries(subject=image.subject.digest))
    assert [(one.kind, one.environment) for one in entries] == [
        ("evidence", ""),
        ("evidence", ""),
        ("approval", "production"),
    ]
    recorded = [decode_json(one.body, RecordedStatement) for one in entries]
    files = [*statements, tmp_path / "approval.json"]
    assert [one.statement for one in recorded] == [digest_of(file.read_bytes()) for file in files]
    assert [one.predicate_type for one in recorded] == [SBOM, SBOM, APPROVAL]
    assert {one.actor for one in entries} == {f"key {load_public_key(tmp_path / 'release.key.pub').fingerprint}"}


def test_what_could_not_be_recorded_is_not_attached(
    registry: MemoryRegistry, statements: list[Path], tmp_path: Path
) -> None:
    create_key(tmp_path / "release.key", kind="p256", password=None)
    create_key(tmp_path / "other.key", kind="p256", password=None)
    config = tmp_path / "pratique.toml"
    config.write_text(LEDGER.format(folder=tmp_path))
    with pytest.raises(VerificationError):  # whose signature on the ledger nobody believes
        run("attach", *statements, "--key", tmp_path / "other.key", "--config", config)
    assert list(registry.tags(REPOSITORY)) == []


def test_without_a_ledger_that_is_said(statements: list[Path], image: Image, tmp_path: Path) -> None:
    create_key(tmp_path / "release.key", kind="p256", password=None)
    ran = run("attach", statements[0], "--key", tmp_path / "release.key")
    assert ran.stderr == "no ledger is named in [release.ledger]: nothing is recorded\n"
