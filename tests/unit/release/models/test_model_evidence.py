"""Evidence as files: links, pipes, floods and other artifacts are refused; what is there stays."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.unit.release.models.model_parts import NOW, TINY, WEIGHTS, Signatory, verifier

from pratique.release.errors import ConflictError, EvidenceError, VerificationError
from pratique.release.models import evidence as rules
from pratique.release.models.artifact import write_artifact
from pratique.release.models.evidence import Evidence, fetch_evidence, load_evidence, save_evidence
from pratique.release.models.store import ModelFolderError
from pratique.release.predicates import EVALUATION
from pratique.release.registry.interface import IMAGE_MANIFEST
from pratique.release.registry.memory import MemoryRegistry
from pratique.release.signing.attach import attach
from pratique.release.signing.dossier import load_dossier
from pratique.release.signing.keyed import KeyedSigner
from pratique.release.statements import make_statement
from pratique.release.values import Digest, Subject, digest_of

pytestmark = pytest.mark.unit

WRITTEN = write_artifact(TINY)
REPOSITORY = "registry.example/models/tiny"


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    folder = tmp_path / "tiny.evidence"
    save_evidence(folder, Evidence(WRITTEN.manifest, (b"one", b"two")))
    return folder


def test_a_link_is_not_followed(kept: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("a secret")
    (kept / "a.sigstore.json").symlink_to(tmp_path / "secret")
    with pytest.raises(ModelFolderError, match="cannot be read"):
        load_evidence(kept)


def test_a_pipe_is_not_waited_for(kept: Path) -> None:
    os.mkfifo(kept / "a.sigstore.json")
    with pytest.raises(EvidenceError, match="no regular file"):
        load_evidence(kept)


def test_more_than_evidence_has_is_not_read(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "MAX_BUNDLE_BYTES", 2)
    with pytest.raises(VerificationError, match="more than 2 bytes"):
        load_evidence(kept)
    monkeypatch.setattr(rules, "MAX_BUNDLES", 1)
    with pytest.raises(EvidenceError, match="2 bundles"):
        load_evidence(kept)


def test_bundles_without_a_manifest_are_no_evidence(kept: Path) -> None:
    (kept / "artifact.json").unlink()
    with pytest.raises(EvidenceError, match=r"no artifact\.json"):
        load_evidence(kept)


def test_a_file_in_the_folders_place_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelFolderError):
        load_evidence(tmp_path / "file")
    with pytest.raises(ModelFolderError):
        save_evidence(tmp_path / "file", Evidence(b"", ()))


def test_evidence_of_another_artifact_is_not_mixed_in(kept: Path) -> None:
    with pytest.raises(ConflictError, match="another artifact"):
        save_evidence(kept, Evidence(b"{}", ()))


def test_evidence_is_added_to_and_other_files_are_passed_over(kept: Path) -> None:
    (kept / "notes.txt").write_text("for people")
    save_evidence(kept, Evidence(WRITTEN.manifest, (b"two", b"three")))
    found = load_evidence(kept)
    assert found.manifest == WRITTEN.manifest
    assert sorted(found.bundles) == [b"one", b"three", b"two"]


def test_signatures_and_decisions_are_fetched_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    registry, signer, stranger = MemoryRegistry(), Signatory(), Signatory()
    for blob in (b"{}", WEIGHTS, WRITTEN.config):
        registry.put_blob(REPOSITORY, blob)
    registry.put_manifest(REPOSITORY, WRITTEN.digest, WRITTEN.manifest, IMAGE_MANIFEST)
    subject = Subject(REPOSITORY, WRITTEN.digest)
    wanted = {signer.sign(subject.digest), signer.decide(subject.digest)}
    other = KeyedSigner(signer.key).sign(make_statement(subject.digest, EVALUATION, {}).payload)
    for bundle in (*wanted, other, stranger.sign(subject.digest)):
        attach(registry, subject, bundle, at=NOW)
    dossier = load_dossier(registry, subject, verifier(signer))
    found = fetch_evidence(registry, subject, dossier)
    assert (found.manifest, set(found.bundles)) == (WRITTEN.manifest, wanted)
    monkeypatch.setattr(rules, "MAX_BUNDLES", 1)
    with pytest.raises(EvidenceError, match="2 signatures and decisions"):
        fetch_evidence(registry, subject, dossier)


def test_a_signature_that_is_no_blob_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    registry, signer = MemoryRegistry(), Signatory()
    for blob in (b"{}", WEIGHTS, WRITTEN.config):
        registry.put_blob(REPOSITORY, blob)
    registry.put_manifest(REPOSITORY, WRITTEN.digest, WRITTEN.manifest, IMAGE_MANIFEST)
    subject = Subject(REPOSITORY, WRITTEN.digest)
    attach(registry, subject, signer.sign(subject.digest), at=NOW)
    dossier = load_dossier(registry, subject, verifier(signer))
    whole = registry.blob

    def nothing(repository: str, digest: Digest, *, max_bytes: int) -> bytes:
        return whole(repository, digest_of(b"of cosign's older layout"), max_bytes=max_bytes)

    monkeypatch.setattr(registry, "blob", nothing)
    assert fetch_evidence(registry, subject, dossier).bundles == ()
