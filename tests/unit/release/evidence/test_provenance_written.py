"""Provenance says in SLSA's words what a build's record says, and nothing for what no commit has."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.release.evidence.images_made import COMMIT, build_record, make_image, pypi, sbom_of

from pratique.release.build.record import write_record
from pratique.release.errors import EvidenceError
from pratique.release.evidence.provenance import ProvenanceCollector, provenance_of
from pratique.release.predicates import PROVENANCE
from pratique.release.slsa import Provenance
from pratique.release.statements import make_statement
from pratique.release.values import Digest

pytestmark = pytest.mark.unit

IMAGE = Digest("sha256:" + "1" * 64)


def test_a_build_of_what_is_not_committed_has_no_provenance() -> None:
    with pytest.raises(EvidenceError, match=f"differ from the commit {COMMIT}"):
        provenance_of(build_record(IMAGE, dirty=True), ())


def test_a_commit_of_no_known_repository_has_no_provenance() -> None:
    with pytest.raises(EvidenceError, match="does not say which repository"):
        provenance_of(build_record(IMAGE, repository=""), ())


def test_everything_that_went_in_is_there_by_digest() -> None:
    made = provenance_of(build_record(IMAGE), ("alice@example.org",), sbom=IMAGE)
    definition = made.build_definition
    source, *others = definition.resolved_dependencies
    assert source.uri == f"git+https://git.example/team/chat@{COMMIT}"
    assert source.digest == {"gitCommit": COMMIT}
    assert source.annotations == {"authors": ["alice@example.org"]}
    assert [(one.annotations["kind"], one.name) for one in others] == [
        ("dockerfile", "Dockerfile"),
        ("base", "registry.example/base@sha256:0"),
        ("lock", "requirements.txt"),
        ("download", "a-1-py3-none-any.whl"),
    ]
    assert all(len(one.digest["sha256"]) == 64 for one in others)
    assert not any(one.uri for one in others)
    assert [one.name for one in made.run_details.byproducts] == ["build.log", "sbom"]
    assert made.run_details.metadata.invocation_id == "bld_1"
    assert made.run_details.builder.id == "urn:pratique:builder:ci"


def test_who_wrote_the_commit_and_who_is_named_beside_are_its_authors() -> None:
    record = build_record(IMAGE, authors=("bob@example.org", "eve@example.org"))
    source = provenance_of(record, ("alice@example.org", "bob@example.org")).build_definition.resolved_dependencies[0]
    assert source.annotations == {"authors": ["bob@example.org", "eve@example.org", "alice@example.org"]}


def test_what_was_asked_for_from_outside_is_apart_from_what_follows() -> None:
    record = build_record(IMAGE, secret_names=("token",))
    definition = provenance_of(record, ()).build_definition
    assert definition.external_parameters == {
        "source": "https://git.example/team/chat",
        "dockerfile": "Dockerfile",
        "target": "runtime",
        "arguments": {"FLAVOUR": "small"},
        "locks": ["requirements.txt"],
        "secrets": ["token"],
    }
    assert definition.internal_parameters == {
        "source_date_epoch": "1",
        "builder": {"program": "buildah", "zlib": "1"},
    }
    assert definition.resolved_dependencies[0].annotations == {}


def test_a_build_without_arguments_locks_and_secrets_names_none() -> None:
    record = build_record(IMAGE, parameters={}, locks=())
    assert set(provenance_of(record, ()).build_definition.external_parameters) == {"source", "dockerfile"}


def test_a_statement_of_provenance_reads_back() -> None:
    made = provenance_of(build_record(IMAGE), ())
    assert make_statement(IMAGE, PROVENANCE, made).read(Provenance) == made


def test_the_collector_takes_the_record_of_this_image_only(tmp_path: Path) -> None:
    image = make_image(tmp_path / "image")
    file = tmp_path / "record.json"
    write_record(file, build_record(image.subject.digest))
    own = sbom_of(image.subject.digest, pypi("a", "1"))
    assert ProvenanceCollector(file, (), own).collect(image).depends_on == (own.digest,)
    assert ProvenanceCollector(file, (), None).collect(image).depends_on == ()
    with pytest.raises(EvidenceError, match="bill of materials is about"):
        ProvenanceCollector(file, (), sbom_of(IMAGE, pypi("a", "1"))).collect(image)
    write_record(file, build_record(IMAGE))
    with pytest.raises(EvidenceError, match=f"is the record of {IMAGE}"):
        ProvenanceCollector(file, (), None).collect(image)
    file.write_text("{}")
    with pytest.raises(EvidenceError, match="no build record"):
        ProvenanceCollector(file, (), None).collect(image)
