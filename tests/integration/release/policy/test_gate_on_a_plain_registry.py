"""The gate on Debian's docker-registry: evidence is laid there over HTTP, left out, and asked for in vain."""

from __future__ import annotations

from dataclasses import dataclass, replace

import msgspec
import pytest
from tests.unit.release.policy.evidence_set import EMPTY, IMAGE, MANIFEST, NOW, codes, failed, make_pieces
from tests.unit.release.policy.shell_parts import ListLedger, clock, ledger
from tests.unit.release.policy.workshop import Workshop, workshop

from pratique.release.policy.document import Policy
from pratique.release.policy.gate import Gate, Question
from pratique.release.registry.client import HttpRegistry
from pratique.release.registry.credentials import AuthFiles
from pratique.release.registry.interface import IMAGE_MANIFEST
from pratique.release.registry.settings import RegistrySettings
from pratique.release.signing.attach import attach
from pratique.release.signing.dossier import load_dossier
from pratique.release.values import Subject
from pratique.testkit.services.registry import RegistryNamespace

pytestmark = pytest.mark.integration


@dataclass
class Place:
    """An image in a registry, and the gate before it."""

    registry: HttpRegistry
    subject: Subject
    shop: Workshop
    book: ListLedger

    @property
    def policy(self) -> Policy:
        document = msgspec.structs.replace(self.shop.policy.document, repositories=(self.subject.repository,))
        return replace(self.shop.policy, document=document)

    @property
    def gate(self) -> Gate:
        return Gate(
            policy=self.policy,
            load_dossier=lambda subject: load_dossier(self.registry, subject, self.shop.verifier),
            ledger=self.book,
            clock=clock(),
        )

    def attach(self, *, without: tuple[str, ...] = ()) -> None:
        self.registry.put_blob(self.subject.repository, EMPTY)
        self.registry.put_manifest(self.subject.repository, IMAGE, MANIFEST, IMAGE_MANIFEST)
        for name, bundle in self.shop.bundles(make_pieces()).items():
            if name not in without:
                attach(self.registry, self.subject, bundle, at=NOW)


@pytest.fixture
def place(registry: RegistryNamespace) -> Place:
    client = HttpRegistry(RegistrySettings(attempts=1, connect_seconds=1.0), AuthFiles(()))
    repository = f"{registry.endpoint.address}/{registry.repository('chat')}"
    return Place(client, Subject(repository, IMAGE), workshop(), ledger())


def test_evidence_that_was_laid_there_opens_the_gate(place: Place) -> None:
    place.attach()
    found = place.gate.decide_and_record(Question(place.subject, "production"), actor="ci")
    assert (found.verdict, failed(found)) == ("allow", set())
    assert place.book.written[-1].kind == "decision"


def test_evidence_that_was_not_is_missing(place: Place) -> None:
    place.attach(without=("evaluation",))
    found = place.gate.look(Question(place.subject, "production")).decision
    assert found.verdict == "block"
    assert codes(found, "evaluation") == ["missing"]


def test_a_registry_that_is_not_there_leaves_it_undecided(place: Place) -> None:
    nowhere = Subject("127.0.0.1:1/chat", IMAGE)
    found = place.gate.decide_and_record(Question(nowhere, "production"), actor="ci")
    assert (found.verdict, found.exit_code) == ("undecided", 3)
