"""The gate on evidence that really lies in a registry: what a writer to the registry can do, and when it is away."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from tests.unit.release.policy.evidence_set import EMPTY, IMAGE, MANIFEST, NOW, SUBJECT, codes, failed, make_pieces
from tests.unit.release.policy.shell_parts import QUESTION, ListLedger, clock, ledger
from tests.unit.release.policy.workshop import Workshop, workshop

from pratique.release.errors import NotFoundError, UnavailableError
from pratique.release.policy.gate import Gate, Question
from pratique.release.registry.interface import IMAGE_MANIFEST, Manifest
from pratique.release.registry.memory import MemoryRegistry
from pratique.release.signing.attach import attach
from pratique.release.signing.dossier import load_dossier
from pratique.release.signing.interface import Dossier
from pratique.release.signing.layout import make_referrer, own_tag
from pratique.release.values import Digest, Subject, digest_of

pytestmark = pytest.mark.unit

OTHER_MANIFEST = MANIFEST.replace(b"2,", b"2 ,", 1)


class FickleRegistry(MemoryRegistry):
    """Loses or changes what it is told to, and goes away."""

    def __init__(self, **features: bool) -> None:
        super().__init__(**features)
        self.lost: set[str] = set()
        self.is_away = False

    def manifest(self, repository: str, reference: str) -> Manifest:
        self._ask(reference)
        return super().manifest(repository, reference)

    def blob(self, repository: str, digest: Digest, *, max_bytes: int) -> bytes:
        self._ask(digest)
        return super().blob(repository, digest, max_bytes=max_bytes)

    def referrers(self, repository: str, digest: Digest) -> Manifest | None:
        self._ask("")
        return super().referrers(repository, digest)

    def _ask(self, reference: str) -> None:
        if self.is_away:
            raise UnavailableError("the registry does not answer")
        if reference in self.lost:
            raise NotFoundError(f"there is no {reference}")


@dataclass
class Place:
    """An image with its evidence, and the gate before it."""

    registry: FickleRegistry
    shop: Workshop
    book: ListLedger = field(default_factory=ledger)
    bundles: dict[str, Digest] = field(default_factory=dict)

    def attach(self, subject: Subject = SUBJECT, *, without: tuple[str, ...] = ()) -> None:
        self.registry.put_blob(subject.repository, EMPTY)
        self.registry.put_manifest(subject.repository, IMAGE, MANIFEST, IMAGE_MANIFEST)
        for name, bundle in self.shop.bundles(make_pieces()).items():
            if name not in without:
                self.bundles[name] = attach(self.registry, subject, bundle, at=NOW).bundle

    def gate(self) -> Gate:
        def load(subject: Subject) -> Dossier:
            return load_dossier(self.registry, subject, self.shop.verifier)

        return Gate(policy=self.shop.policy, load_dossier=load, ledger=self.book, clock=clock())


@pytest.fixture(params=[True, False], ids=["referrers", "plain"])
def place(request: pytest.FixtureRequest) -> Place:
    registry = FickleRegistry(
        has_referrers_api=request.param, has_conditional_writes=request.param, has_immutable_tags=request.param
    )
    return Place(registry, workshop())


def test_evidence_in_a_registry_opens_the_gate(place: Place) -> None:
    place.attach()
    assert place.gate().decide_and_record(QUESTION, actor="ci").verdict == "allow"


def test_a_bundle_that_is_lost_blocks(place: Place) -> None:
    place.attach()
    place.registry.lost.add(place.bundles["hygiene"])
    found = place.gate().look(QUESTION).decision
    assert failed(found) == {"hygiene"}
    assert codes(found, "hygiene") == ["missing", "unproved"]


def test_a_registry_that_is_away_leaves_it_undecided(place: Place) -> None:
    place.attach()
    place.registry.is_away = True
    found = place.gate().decide_and_record(QUESTION, actor="ci")
    assert (found.verdict, found.exit_code) == ("undecided", 3)


def test_an_image_without_evidence_is_refused(place: Place) -> None:
    place.attach(without=tuple(make_pieces()))
    assert place.gate().look(QUESTION).decision.verdict == "block"


def test_evidence_that_was_carried_to_another_image_is_refused(place: Place) -> None:
    """Manifests name their subject, and anybody can write one that names another; the signed statement does not."""
    place.attach()
    other = digest_of(OTHER_MANIFEST)
    place.registry.put_manifest(SUBJECT.repository, other, OTHER_MANIFEST, IMAGE_MANIFEST)
    for bundle in place.bundles.values():
        _lay(place.registry, Subject(SUBJECT.repository, other), bundle)
    question = Question(Subject(SUBJECT.repository, other), "production")
    found = place.gate().look(question).decision
    assert found.verdict == "block"
    assert "signature" in failed(found)


def test_evidence_in_another_repository_is_refused(place: Place) -> None:
    elsewhere = Subject("registry.example/mallory/chat", IMAGE)
    place.attach(elsewhere)
    found = place.gate().look(Question(elsewhere, "production")).decision
    assert failed(found) == {"scope"}


def test_an_image_that_is_not_there_is_refused_for_what_is_missing(place: Place) -> None:
    place.attach()
    nowhere = Subject(SUBJECT.repository, digest_of(b"nothing"))
    assert place.gate().look(Question(nowhere, "production")).decision.verdict == "block"


def _lay(registry: MemoryRegistry, subject: Subject, bundle: Digest) -> None:
    content = registry.blob(subject.repository, bundle, max_bytes=10**6)
    blob = registry.put_blob(subject.repository, content)
    image = registry.manifest(subject.repository, subject.digest)
    manifest = make_referrer(image, blob, predicate_type="", at=NOW)
    digest = registry.put_manifest(subject.repository, digest_of(manifest), manifest, IMAGE_MANIFEST)
    registry.put_manifest(subject.repository, own_tag(subject.digest, digest), manifest, IMAGE_MANIFEST)
