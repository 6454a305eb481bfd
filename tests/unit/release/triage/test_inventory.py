"""Filling the index: evidence that lies or is missing first, then what a registry and a ledger tell."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from tests.unit.release.policy.shell_parts import ListLedger
from tests.unit.release.triage.triage_parts import NOW, REPOSITORY, purl, released, sbom

from pratique.release.errors import NotFoundError
from pratique.release.predicates import PROVENANCE, SBOM
from pratique.release.registry.interface import IMAGE_MANIFEST
from pratique.release.registry.memory import MemoryRegistry
from pratique.release.signing.interface import Attestation, Dossier, Unverified
from pratique.release.statements import make_statement
from pratique.release.triage.asking import ask
from pratique.release.triage.index import TriageIndex
from pratique.release.triage.inventory import Stock, subjects_of
from pratique.release.triage.places import read_places
from pratique.release.triage.question import parse_question
from pratique.release.values import Digest, KeyIdentity, Subject, digest_of

pytestmark = pytest.mark.unit

SUBJECT = Subject(REPOSITORY, digest_of(b"image"))
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
