"""Who may load a model: strangers, other artifacts, and decisions that do not hold come first."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from tests.unit.release.models.model_parts import (
    ADAPTER,
    NOW,
    OTHER,
    POLICY,
    TINY,
    Signatory,
    clock,
    decision,
    trust,
    verifier,
)

from pratique.core.errors import CallerError
from pratique.release.errors import EvidenceError
from pratique.release.models.admission import Admitted, NotAdmittedError, Trust
from pratique.release.models.admitting import Admission, evidence_beside
from pratique.release.models.artifact import ArtifactFormError, ModelArtifact, write_artifact
from pratique.release.models.evidence import Evidence, save_evidence
from pratique.release.policy.decision import BreakGlassUse
from pratique.release.predicates import DECISION, SBOM
from pratique.release.signing.keyed import KeyedSigner
from pratique.release.statements import make_statement
from pratique.release.values import digest_of

pytestmark = pytest.mark.unit

RELEASER, GATE, STRANGER = Signatory(), Signatory(), Signatory()
DIGEST = write_artifact(TINY).digest
ASKS = trust(RELEASER, GATE)
SIGNED = RELEASER.sign(DIGEST)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "tiny"


def ask(
    folder: Path, *bundles: bytes, asks: Trust = ASKS, artifact: ModelArtifact = TINY, root: Path | None = None
) -> Admitted:
    save_evidence(
        evidence_beside(folder) if root is None else root / "tiny.evidence",
        Evidence(write_artifact(artifact).manifest, bundles),
    )
    return Admission(asks, verifier(RELEASER, GATE), clock(), root)(folder)


def test_unsigned_is_refused(folder: Path) -> None:
    with pytest.raises(NotAdmittedError, match="nobody who is accepted has signed"):
        ask(folder)


def test_signed_by_a_stranger_is_refused_with_the_reason(folder: Path) -> None:
    with pytest.raises(NotAdmittedError, match="signed by none of the 2 accepted keys"):
        ask(folder, STRANGER.sign(DIGEST))


def test_signed_by_somebody_who_is_known_for_something_else_is_refused(folder: Path) -> None:
    with pytest.raises(NotAdmittedError, match="by: key sha256:"):
        ask(folder, GATE.sign(DIGEST), GATE.decide(DIGEST))


def test_a_signature_on_another_artifact_is_refused(folder: Path) -> None:
    with pytest.raises(NotAdmittedError, match="1 are about it"):
        ask(folder, RELEASER.sign(OTHER), GATE.decide(DIGEST))


def test_another_statement_is_no_signature(folder: Path) -> None:
    said = KeyedSigner(RELEASER.key).sign(make_statement(DIGEST, SBOM, {}).payload)
    with pytest.raises(NotAdmittedError, match="has signed"):
        ask(folder, said)


def test_a_manifest_that_was_exchanged_is_another_artifact(folder: Path) -> None:
    with pytest.raises(NotAdmittedError):
        ask(folder, SIGNED, GATE.decide(DIGEST), artifact=replace(TINY, name="other"))


def test_bytes_that_are_no_bundle_are_named(folder: Path) -> None:
    with pytest.raises(NotAdmittedError, match="not verified"):
        ask(folder, b"{}")


def glass(ends: datetime) -> BreakGlassUse:
    return BreakGlassUse(people=("a", "b"), reasons=("x", "y"), expires_at=ends, waived=("evaluation",), evidence=())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"verdict": "block"}, "is 'block'"),
        ({"verdict": "undecided"}, "is 'undecided'"),
        ({"digest": OTHER}, "is about sha256"),
        ({"environment": "staging"}, "no accepted decision lets it through to 'production'"),
        ({"policy": OTHER}, "was made by the policy"),
        ({"decided_at": NOW + timedelta(minutes=6)}, "not in the past"),
        ({"decided_at": NOW - timedelta(hours=25)}, "ago"),
        ({"decided_at": NOW.replace(tzinfo=None)}, "without an offset"),
        ({"break_glass": glass(NOW)}, "emergency's, which ended"),
        ({"break_glass": glass(NOW.replace(tzinfo=None))}, "without an offset"),
    ],
)
def test_a_decision_that_does_not_hold_lets_nothing_in(folder: Path, changes: dict[str, object], reason: str) -> None:
    strict = replace(ASKS, policy=POLICY, max_decision_age=timedelta(hours=24))
    with pytest.raises(NotAdmittedError, match=reason):
        ask(folder, SIGNED, GATE.decide(DIGEST, decision(DIGEST, **changes)), asks=strict)


@pytest.mark.parametrize("other", [STRANGER, RELEASER])
def test_a_decision_by_somebody_else_is_none(folder: Path, other: Signatory) -> None:
    with pytest.raises(NotAdmittedError, match="no accepted decision"):
        ask(folder, SIGNED, other.decide(DIGEST))


def test_a_decision_about_another_artifact_is_none(folder: Path) -> None:
    with pytest.raises(NotAdmittedError, match="no accepted decision"):
        ask(folder, SIGNED, GATE.decide(OTHER, decision(DIGEST)))


def test_a_later_block_ends_an_earlier_allow(folder: Path) -> None:
    later = decision(DIGEST, verdict="block", decided_at=NOW - timedelta(minutes=1))
    with pytest.raises(NotAdmittedError, match="'block'"):
        ask(folder, SIGNED, GATE.decide(DIGEST), GATE.decide(DIGEST, later))


def test_of_two_decisions_at_one_moment_the_refusal_counts(folder: Path) -> None:
    with pytest.raises(NotAdmittedError, match="'block'"):
        ask(folder, SIGNED, GATE.decide(DIGEST), GATE.decide(DIGEST, decision(DIGEST, verdict="block")))


def test_a_decision_that_cannot_be_read_blocks(folder: Path) -> None:
    odd = KeyedSigner(GATE.key).sign(make_statement(DIGEST, DECISION, {"schema_version": 2}).payload)
    with pytest.raises(NotAdmittedError, match="cannot be read"):
        ask(folder, SIGNED, GATE.decide(DIGEST), odd)


def test_without_evidence_nothing_is_admitted(folder: Path) -> None:
    with pytest.raises(EvidenceError, match="there is no evidence"):
        Admission(ASKS, verifier(RELEASER), clock())(folder)


def test_a_manifest_that_is_none_is_refused(folder: Path) -> None:
    save_evidence(evidence_beside(folder), Evidence(b"{}", ()))
    with pytest.raises(ArtifactFormError):
        Admission(ASKS, verifier(RELEASER), clock())(folder)


@pytest.mark.parametrize(
    "values",
    [
        {"signers": ()},
        {"environment": "production"},
        {"deciders": (GATE.identity,)},
        {"policy": POLICY},
        {"max_decision_age": timedelta(hours=1)},
    ],
)
def test_trust_that_would_let_anybody_in_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(CallerError):
        replace(trust(RELEASER), **values)  # type: ignore[arg-type]  # one of the fields, by its name


def test_a_signature_is_enough_where_no_decision_is_asked_for(folder: Path) -> None:
    found = ask(folder, SIGNED, asks=trust(RELEASER))
    assert (found.digest, found.kind, found.base) == (DIGEST, "model", None)
    assert found.told()["decision"] is None


def test_signed_and_let_through_is_admitted(folder: Path, tmp_path: Path) -> None:
    held = decision(DIGEST, break_glass=glass(NOW + timedelta(hours=1)))
    strict = replace(ASKS, policy=POLICY, max_decision_age=timedelta(hours=24))
    found = ask(folder, SIGNED, GATE.decide(DIGEST, held), STRANGER.sign(DIGEST), asks=strict, root=tmp_path / "kept")
    assert found.files == {one.name: (one.size_bytes, one.digest[7:]) for one in TINY.files}
    told = found.told()
    assert told["signer"] == str(verifier(RELEASER).verify(SIGNED).signer)
    assert told["decision"] == {
        "environment": "production",
        "policy": POLICY,
        "decided_at": "2026-11-26T11:00:00+00:00",
        "by": f"key {GATE.identity.key}",
    }


def test_an_adapter_names_its_model(folder: Path) -> None:
    digest = write_artifact(ADAPTER).digest
    found = ask(folder, RELEASER.sign(digest), asks=trust(RELEASER), artifact=ADAPTER)
    assert (found.kind, found.base) == ("adapter", OTHER)


def test_the_digest_is_the_manifests() -> None:
    assert digest_of(write_artifact(TINY).manifest) == DIGEST
