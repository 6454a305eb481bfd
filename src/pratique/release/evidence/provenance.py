"""Provenance of an image, from the record that its build wrote beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pratique.release.build.record import BuildRecord, Material, load_record
from pratique.release.errors import EvidenceError
from pratique.release.evidence.interface import Image, Predicate
from pratique.release.evidence.vulnerabilities import require_sbom
from pratique.release.predicates import PROVENANCE
from pratique.release.slsa import AUTHORS_ANNOTATION, Builder, Definition, Metadata, Provenance, Resource, Run
from pratique.release.statements import Statement
from pratique.release.values import Digest

__all__ = ["ProvenanceCollector", "provenance_of", "record_of"]

_ARGUMENT: Final = "arg:"
_INTERNAL: Final = frozenset({"source_date_epoch"})
"""Follows from the commit: nobody asks for it."""


class ProvenanceCollector:
    """Writes the provenance of an image that was built here."""

    name = "provenance"

    def __init__(self, record: Path, authors: tuple[str, ...], sbom: Statement | None) -> None:
        self._record = record
        self._authors = authors
        self._sbom = sbom

    def collect(self, image: Image) -> Predicate:
        """Read the build's record.

        Raises:
            EvidenceError: it is none, or of another image, or no commit tells what is in the image.
        """
        record = record_of(self._record, image)
        if self._sbom is None:
            return Predicate(PROVENANCE, provenance_of(record, self._authors))
        require_sbom(self._sbom, image)
        content = provenance_of(record, self._authors, sbom=self._sbom.digest)
        return Predicate(PROVENANCE, content, (self._sbom.digest,))


def record_of(path: Path, image: Image) -> BuildRecord:
    """Read the record of an image's build.

    Raises:
        EvidenceError: it is none, or of another image.
    """
    record = load_record(path)
    if record.image != image.subject.digest:
        raise EvidenceError(f"{path} is the record of {record.image}, expected {image.subject.digest}")
    return record


def provenance_of(record: BuildRecord, authors: tuple[str, ...], *, sbom: Digest | None = None) -> Provenance:
    """Say in SLSA's words what a record says. Pure.

    Args:
        record: of the build.
        authors: the e-mail addresses of more who wrote the source, beside those that the record has from the commit.
        sbom: the statement of the image's bill of materials, named as a by-product.

    Raises:
        EvidenceError: no commit tells what is in the image: it was built from files that are not committed, or nobody
            knows where the commit is to be found.
    """
    if record.source.is_dirty:
        raise EvidenceError(
            f"{record.image} was built from files that differ from the commit {record.source.commit}",
            hint="Commit, and build again without --allow-dirty.",
        )
    if not record.source.repository:
        raise EvidenceError(
            f"the record of {record.image} does not say which repository the commit {record.source.commit} is of",
            hint="Name it when you build: pratique build --source.",
        )
    return Provenance(
        build_definition=Definition(
            build_type=record.build_type,
            external_parameters=_external(record),
            internal_parameters={
                **{name: record.parameters[name] for name in sorted(_INTERNAL & set(record.parameters))},
                "builder": {"program": record.builder.name, **record.builder.parameters},
            },
            resolved_dependencies=tuple(_dependencies(record, authors)),
        ),
        run_details=Run(
            builder=Builder(id=record.builder.id, version={record.builder.name: record.builder.version}),
            metadata=Metadata(
                invocation_id=record.invocation_id, started_on=record.started_at, finished_on=record.finished_at
            ),
            byproducts=tuple(_byproducts(record, sbom)),
        ),
    )


def _external(record: BuildRecord) -> dict[str, object]:
    given = {name: value for name, value in record.parameters.items() if name not in _INTERNAL}
    arguments = {name.removeprefix(_ARGUMENT): given[name] for name in sorted(given) if name.startswith(_ARGUMENT)}
    rest = {name: given[name] for name in sorted(given) if not name.startswith(_ARGUMENT)}
    lists = {
        "locks": [one.name for one in record.locks],
        "artifacts": [one.name for one in record.artifacts],
        "secrets": list(record.secret_names),
    }
    return {
        "source": record.source.repository,
        "dockerfile": record.dockerfile.name,
        **rest,
        **({"arguments": arguments} if arguments else {}),
        **{name: values for name, values in lists.items() if values},
    }


def _dependencies(record: BuildRecord, authors: tuple[str, ...]) -> Iterator[Resource]:
    source = record.source
    named = list(dict.fromkeys((*source.authors, *authors)))
    yield Resource(
        name="source",
        uri=f"git+{source.repository}@{source.commit}",
        digest={"gitCommit": source.commit},
        annotations={AUTHORS_ANNOTATION: named} if named else {},
    )
    yield _resource(record.dockerfile, "dockerfile")
    for kind, materials in (
        ("base", record.bases),
        ("lock", record.locks),
        ("download", record.downloads),
        ("artifact", record.artifacts),
    ):
        for material in materials:
            yield _resource(material, kind)


def _byproducts(record: BuildRecord, sbom: Digest | None) -> Iterator[Resource]:
    yield _resource(record.log, "log")
    if sbom is not None:
        yield Resource(name="sbom", digest=_sha256(sbom), annotations={"kind": "statement"})


def _resource(material: Material, kind: str) -> Resource:
    return Resource(name=material.name, digest=_sha256(material.digest), annotations={"kind": kind})


def _sha256(digest: Digest) -> dict[str, str]:
    return {"sha256": digest.removeprefix("sha256:")}
