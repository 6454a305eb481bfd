"""Filling the index: evidence that lies or is missing first, then what a registry and a ledger tell."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from tests.unit.release.policy.evidence_set import POLICY_TEXT, dossier, policy
from tests.unit.release.policy.shell_parts import ListLedger
from tests.unit.release.triage.triage_parts import NOW, REPOSITORY, purl, released, sbom

from pratique.cli import inventory as command
from pratique.release.errors import NotFoundError
from pratique.release.policy.gate import PolicyMismatchError
from pratique.release.policy.settings import PolicySettings
from pratique.release.predicates import PROVENANCE, SBOM, VULNERABILITIES
from pratique.release.registry.interface import IMAGE_MANIFEST, Manifest
from pratique.release.registry.memory import MemoryRegistry
from pratique.release.settings import ReleaseSettings
from pratique.release.signing.interface import Attestation, Dossier, Unverified
from pratique.release.statements import make_statement
from pratique.release.triage.asking import ask
from pratique.release.triage.index import TriageIndex
from pratique.release.triage.inventory import Stock, is_by_key, named_by, subjects_of
from pratique.release.triage.places import read_places
from pratique.release.triage.question import parse_question
from pratique.release.values import CertificateIdentity, Digest, KeyIdentity, Subject, digest_of

pytestmark = pytest.mark.unit

SUBJECT = Subject(REPOSITORY, digest_of(b"image"))
STRANGER = CertificateIdentity("https://accounts.example", "anybody@mail.example")
DOCUMENT = sbom(purl("requests", "1.0"), places={purl("requests", "1.0"): ("sha256:bottom", "/lib")})


def attested(kind: str, content: bytes) -> Attestation:
    statement = make_statement(SUBJECT.digest, kind, msgspec.Raw(content))
    return Attestation(statement, KeyIdentity(digest_of(b"key")), NOW, digest_of(content))


def provenance(base: Digest, *, name: str = "registry.example/base@sha256:x") -> bytes:
    dependency = {
        "name": name,
        "digest": {"sha256": base.removeprefix("sha256:")},
        "annotations": {"kind": "base"},
    }
    definition = {"buildType": "x", "externalParameters": {}, "resolvedDependencies": [dependency]}
    return msgspec.json.encode({"buildDefinition": definition, "runDetails": {"builder": {"id": "ci"}}})


def stock(index: TriageIndex, *pieces: Attestation, unverified: tuple[Unverified, ...] = ()) -> Stock:
    return Stock(index, lambda subject: Dossier(subject, pieces, unverified))


@pytest.fixture
def index(tmp_path: Path) -> Iterator[TriageIndex]:
    with TriageIndex(tmp_path / "triage.db", may_make=True) as opened:
        yield opened


def test_what_does_not_verify_or_cannot_be_read_is_told_and_not_kept(index: TriageIndex) -> None:
    bad = Unverified("sha256:x", "signed by nobody", SBOM)
    other = Unverified("sha256:y", "is no matter", PROVENANCE)
    added = stock(index, attested(SBOM, b'{"bomFormat":"SPDX"}'), unverified=(bad, other)).add(SUBJECT)
    assert (added.num_new, added.num_known, len(added.problems)) == (0, 0, 2)
    assert not index.has_sbom(SUBJECT.digest)


def test_a_strangers_bill_makes_no_image_known_and_keeps_the_true_one_from_nothing(index: TriageIndex) -> None:
    harmless = replace(attested(SBOM, sbom(purl("harmless", "1.0"))), signer=STRANGER)
    filled = stock(index, harmless)
    added = filled.add(SUBJECT)
    assert (added.num_new, index.has_sbom(SUBJECT.digest)) == (0, False)
    assert "who is not named for this" in added.problems[0]
    assert stock(index, harmless, attested(SBOM, DOCUMENT)).add(SUBJECT).num_new == 1


def test_a_strangers_provenance_sends_nobody_anywhere(index: TriageIndex) -> None:
    class Asked(MemoryRegistry):
        def manifest(self, repository: str, reference: str) -> Manifest:
            raise AssertionError(f"{repository}@{reference} was asked for")

    elsewhere = replace(attested(PROVENANCE, provenance(digest_of(b"x"), name="127.0.0.1:2375/a")), signer=STRANGER)
    pieces = (attested(SBOM, DOCUMENT), elsewhere)
    assert Stock(index, lambda subject: Dossier(subject, pieces, ()), Asked()).add(SUBJECT).num_new == 1


def test_the_policy_says_whose_word_counts() -> None:
    trusts = named_by(policy().document)
    pieces = {piece.statement.predicate_type: piece for piece in dossier().attestations}
    assert (trusts(pieces[SBOM]), trusts(pieces[PROVENANCE]), trusts(pieces[VULNERABILITIES])) == (True, True, False)
    assert not trusts(attested(SBOM, DOCUMENT))
    bare = msgspec.structs.replace(policy().document.rules, sbom=None, provenance=None)
    assert not named_by(msgspec.structs.replace(policy().document, rules=bare))(pieces[SBOM])


def test_adding_again_finds_it_known(index: TriageIndex) -> None:
    filled = stock(index, attested(SBOM, DOCUMENT))
    assert filled.add(SUBJECT).num_new == 1
    assert filled.add(SUBJECT).num_known == 1


def test_an_image_that_the_registry_refuses_keeps_no_other_from_being_read(index: TriageIndex) -> None:
    ledger = ListLedger(written=[released(0, digest_of(b"gone")), released(1, SUBJECT.digest)])

    def load(subject: Subject) -> Dossier:
        if subject != SUBJECT:
            raise NotFoundError("there is no such image")
        return Dossier(subject, (attested(SBOM, DOCUMENT),), ())

    added = list(Stock(index, load).sync(ledger))
    assert [(one.num_new, one.problems) for one in added] == [(0, ("there is no such image",)), (1, ())]
    assert [one.digest for one in index.places()] == [SUBJECT.digest]
    assert [one.subject.digest for one in Stock(index, load).sync(ledger)] == [digest_of(b"gone")]


def test_entries_without_a_repository_name_no_image() -> None:
    ledger = ListLedger()
    ledger.append("decision", SUBJECT.digest, ["strange"], actor="x")
    ledger.append("decision", SUBJECT.digest, {}, actor="x")
    assert subjects_of(ledger.entries()) == ()


def test_layers_of_the_base_are_told_apart(index: TriageIndex) -> None:
    registry = MemoryRegistry()
    config = registry.put_blob("registry.example/base", b'{"rootfs":{"diff_ids":["sha256:bottom"]}}')
    described = {
        "mediaType": "application/vnd.oci.image.config.v1+json",
        "digest": config.digest,
        "size": config.size_bytes,
    }
    manifest = msgspec.json.encode({"schemaVersion": 2, "config": described, "layers": []})
    base = registry.put_manifest("registry.example/base", digest_of(manifest), manifest, IMAGE_MANIFEST)
    pieces = (attested(SBOM, DOCUMENT), attested(PROVENANCE, provenance(base)))
    Stock(index, lambda subject: Dossier(subject, pieces, ()), registry).add(SUBJECT)
    index.put_places(read_places([released(0, SUBJECT.digest)]))
    (running,) = ask(parse_question("requests@*"), index, None).running
    assert running.reached[0].is_base


@pytest.mark.parametrize(
    "content",
    [
        b"{}",
        provenance(digest_of(b"nowhere")),
        provenance(digest_of(b"x"), name=""),
        provenance(Digest("sha256:short")),
    ],
)
def test_a_base_that_is_not_to_be_had_decides_nothing(index: TriageIndex, content: bytes) -> None:
    pieces = (attested(SBOM, DOCUMENT), attested(PROVENANCE, content))
    assert Stock(index, lambda subject: Dossier(subject, pieces, ()), MemoryRegistry()).add(SUBJECT).num_new == 1


def test_the_command_asks_the_policy_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert command._trusts(ReleaseSettings()) is is_by_key
    file = tmp_path / "promotion.toml"
    file.write_text(POLICY_TEXT, encoding="utf-8")
    pieces = {piece.statement.predicate_type: piece for piece in dossier().attestations}
    for settings in (ReleaseSettings(), ReleaseSettings(policy=PolicySettings(file=file))):
        assert command._trusts(settings)(pieces[SBOM])
    with pytest.raises(PolicyMismatchError):
        command._trusts(ReleaseSettings(policy=PolicySettings(file=file, digest=digest_of(b"another"))))
