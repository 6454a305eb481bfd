"""Fills the index: bills of materials from the registry, from the ledger which images there are and what runs.

Only what verifies is read, and only of whom the policy names for it; without a policy, of whose keys are accepted. An
identity alone is no reason: of a public instance anybody has one, and could make an image known by a bill that leaves
out what matters, or name addresses as bases that are then asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec

from pratique.core.errors import PratiqueError, RefusedError
from pratique.release.decoding import MalformedError, decode_json
from pratique.release.errors import EvidenceError
from pratique.release.ledger.interface import Entry, Ledger
from pratique.release.policy.document import Document
from pratique.release.predicates import PROVENANCE, SBOM
from pratique.release.registry.interface import Registry
from pratique.release.signing.interface import Attestation, Dossier
from pratique.release.slsa import Provenance, Resource
from pratique.release.triage.index import Inventory, TriageIndex
from pratique.release.triage.parts import read_parts
from pratique.release.triage.places import PLACE_KINDS, read_places
from pratique.release.values import KeyIdentity, Subject, parse_digest

__all__ = ["Added", "Stock", "Trusts", "is_by_key", "named_by", "subjects_of"]

_MAX_CONFIG_BYTES = 16 * 1024 * 1024


class _Named(msgspec.Struct, frozen=True):
    """What entries say that name a repository: steps, releases, decisions."""

    repository: str = ""


class _Filesystem(msgspec.Struct, frozen=True):
    diff_ids: tuple[str, ...] = ()


class _Config(msgspec.Struct, frozen=True):
    rootfs: _Filesystem = _Filesystem()


class _Descriptor(msgspec.Struct, frozen=True):
    digest: str


class _Manifest(msgspec.Struct, frozen=True):
    config: _Descriptor


Trusts = Callable[[Attestation], bool]
"""Whether the signer of a statement may say so."""


def is_by_key(attestation: Attestation) -> bool:
    """Trust whose keys are accepted, which are named one by one."""
    return isinstance(attestation.signer, KeyIdentity)


def named_by(document: Document) -> Trusts:
    """Trust whom a policy names for bills of materials and for provenance."""
    rules = document.rules
    names = {
        SBOM: rules.sbom.signers if rules.sbom is not None else (),
        PROVENANCE: tuple(one.signer for one in rules.provenance.builders) if rules.provenance is not None else (),
    }

    def trusts(attestation: Attestation) -> bool:
        wanted = names.get(attestation.statement.predicate_type, ())
        return any(document.accepts(name, attestation.signer) for name in wanted)

    return trusts


@dataclass(frozen=True, slots=True)
class Added:
    """What came of reading one image's evidence."""

    subject: Subject
    num_new: int
    """Bills of materials that were not known."""
    num_known: int
    problems: tuple[str, ...]
    """What lies there and could not be read."""


@dataclass(frozen=True, slots=True)
class Stock:
    """The index, and where it is filled from."""

    index: TriageIndex
    load_dossier: Callable[[Subject], Dossier]
    registry: Registry | None = None
    """Where the layers of bases are read; None: which layers are the base's is not told."""
    trusts: Trusts = is_by_key

    def add(self, subject: Subject) -> Added:
        """Keep what an image is made of.

        Raises:
            UnavailableError: the registry did not answer.
            RefusedError: it said no.
        """
        dossier = self.load_dossier(subject)
        base_layers = self._base_layers(dossier.attestations)
        num_new = num_known = 0
        problems = [f"{one.where}: {one.reason}" for one in dossier.unverified if one.predicate_type in {"", SBOM}]
        for one in dossier.attestations:
            if one.statement.predicate_type != SBOM:
                continue
            if not self.trusts(one):
                problems.append(f"{one.statement.digest}: signed by {one.signer}, who is not named for this")
                continue
            try:
                parts = read_parts(one.statement.predicate, base_layers=base_layers)
            except EvidenceError as error:
                problems.append(f"{one.statement.digest}: {error.message}")
                continue
            is_new = self.index.add(Inventory(subject.digest, subject.repository, one.statement.digest, parts))
            num_new, num_known = num_new + is_new, num_known + (not is_new)
        return Added(subject, num_new, num_known, tuple(problems))

    def sync(self, ledger: Ledger) -> Iterator[Added]:
        """Keep what runs where, and what every image is made of that the ledger names and that is not known yet.

        What the registry refuses of one image is a problem of that image; the others are read all the same.

        Raises:
            UnavailableError: the ledger or the registry did not answer.
            HistoryUnreadableError: an entry is none that this version writes.
        """
        self.index.put_places(read_places(ledger.entries(kinds=PLACE_KINDS)))
        for subject in subjects_of(ledger.entries(kinds=("build", "decision", *PLACE_KINDS))):
            if not self.index.has_sbom(subject.digest):
                try:
                    yield self.add(subject)
                except RefusedError as error:
                    yield Added(subject, 0, 0, (error.message,))

    def _base_layers(self, attestations: tuple[Attestation, ...]) -> frozenset[str]:
        return frozenset(
            layer
            for one in attestations
            if one.statement.predicate_type == PROVENANCE and self.trusts(one)
            for base in _bases(one)
            for layer in self._layers(base)
        )

    def _layers(self, base: Resource) -> tuple[str, ...]:
        """Return the diff ids of a base image; none where it is not to be had: that decides nothing."""
        repository = base.name.partition("@")[0]
        if self.registry is None or not repository:
            return ()
        try:
            digest = parse_digest(f"sha256:{base.digest.get('sha256')}")
            manifest = decode_json(self.registry.manifest(repository, digest).content, _Manifest)
            config = self.registry.blob(repository, parse_digest(manifest.config.digest), max_bytes=_MAX_CONFIG_BYTES)
            return decode_json(config, _Config).rootfs.diff_ids
        except PratiqueError:
            return ()


def _bases(attestation: Attestation) -> Iterator[Resource]:
    try:
        provenance = attestation.statement.read(Provenance)
    except EvidenceError:
        return
    yield from (
        one for one in provenance.build_definition.resolved_dependencies if one.annotations.get("kind") == "base"
    )


def subjects_of(entries: Iterator[Entry]) -> tuple[Subject, ...]:
    """Return the images that entries name with their repository, each once."""
    found: dict[Subject, None] = {}
    for entry in entries:
        try:
            repository = decode_json(entry.body, _Named).repository
        except MalformedError:
            continue  # another kind of body; what runs is read strictly, by `read_places`
        if repository:
            found[Subject(repository, entry.subject)] = None
    return tuple(found)
