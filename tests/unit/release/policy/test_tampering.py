"""A whole valid set of evidence, really signed, spoiled in one place at a time: nothing may pass."""

from __future__ import annotations

import pytest
from tests.unit.release.policy.evidence_set import PIECES, failed
from tests.unit.release.policy.tampering import CASES, added_cases, whole
from tests.unit.release.policy.workshop import workshop

pytestmark = pytest.mark.unit

LEAST_CASES = 500
GROUPS = sorted({(case.kind, case.piece) for case in CASES})
RULE_OF = {
    "signature": "signature",
    "sbom": "sbom",
    "scan": "vulnerabilities",
    "vex": "vulnerabilities",
    "provenance": "provenance",
    "diff": "dependencies",
    "review": "dependencies",
    "hygiene": "hygiene",
    "evaluation": "evaluation",
    "canary": "canary",
    "approval-ben": "approvals",
    "approval-chi": "approvals",
}
ABOUT_AUTHORS = {"nobody wrote it", "an approver wrote it", "one of several authors approves"}


def test_there_are_enough_ways_to_spoil_it_and_of_every_kind() -> None:
    assert len(CASES) >= LEAST_CASES
    assert len({(case.kind, case.piece, case.name) for case in CASES}) == len(CASES)
    assert {kind for kind, _ in GROUPS} == {
        "added",
        "another authority",
        "around",
        "dropped",
        "duplicated member",
        "edited payload",
        "expired certificate",
        "extra subject",
        "no material",
        "no subject",
        "replaced signature",
        "replaced type",
        "revoked",
        "stripped signature",
        "swapped digest",
        "swapped predicate type",
        "truncated",
        "wrong content",
        "wrong identity",
        "wrong key",
        "wrong party",
        "wrong statement",
    }
    for kind in (
        "dropped",
        "truncated",
        "edited payload",
        "wrong key",
        "swapped digest",
        "duplicated member",
        "revoked",
    ):
        assert {piece for one, piece in GROUPS if one == kind} == set(PIECES)


@pytest.mark.parametrize(("kind", "piece"), GROUPS)
def test_nothing_spoiled_passes(kind: str, piece: str) -> None:
    shop = workshop()
    group = [case for case in CASES if (case.kind, case.piece) == (kind, piece)]
    found = {case.name: case.spoil(shop).decision(shop) for case in group}
    assert {name: one.verdict for name, one in found.items() if one.verdict != "block"} == {}
    assert [name for name, one in found.items() if not any(result.reasons for result in one.rules)] == []
    if piece:  # and it is that piece's rule that refuses
        wrong = {name for name, one in found.items() if RULE_OF[piece] not in failed(one)}
        assert wrong <= ABOUT_AUTHORS


def test_the_untouched_set_passes() -> None:
    shop = workshop()
    found = whole(shop).decision(shop)
    assert found.verdict == "allow", found
    assert not shop.dossier(whole(shop).bundles).unverified


def test_two_who_break_the_glass_of_a_signed_image_are_let_through() -> None:
    """So the cases about the glass are refused for what they change, and for nothing else."""
    shop = workshop()
    [case] = [one for one in added_cases() if one.name == "two break the glass of an unsigned image"]
    attempt = case.spoil(shop)
    attempt.bundles |= {"signature": whole(shop).bundles["signature"]}
    del attempt.bundles["evaluation"]
    assert attempt.decision(shop).verdict == "allow"
