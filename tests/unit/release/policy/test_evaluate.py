"""Verdicts: what blocks, what cannot be decided, what break-glass does and never does."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from tests.unit.release.policy.evidence_set import (
    FACTS,
    IMAGE,
    NOW,
    OTHER,
    PIECES,
    REPOSITORY,
    SUBJECT,
    Piece,
    break_glass,
    codes,
    decide,
    dossier,
    failed,
    iso,
    policy,
    rule,
    with_member,
    with_predicate,
)

from pratique.release.policy.decision import NEVER_WAIVED, Decision, Unknown
from pratique.release.policy.document import Policy
from pratique.release.policy.evaluate import _verdict, evaluate, evaluate_admission, evaluate_trust
from pratique.release.predicates import APPROVAL
from pratique.release.signing.interface import Dossier
from pratique.release.values import Subject, digest_of

pytestmark = pytest.mark.unit


def test_a_whole_valid_set_is_allowed_by_every_rule() -> None:
    found = decide()
    assert found.verdict == "allow"
    assert found.exit_code == 0
    assert [one.outcome for one in found.rules] == ["pass"] * 12
    assert found.policy == policy().digest
    assert (found.repository, found.digest, found.environment) == (REPOSITORY, IMAGE, "production")
    assert found.break_glass is None


def test_no_evidence_at_all_blocks_every_rule_that_asks_for_some() -> None:
    found = decide(Dossier(SUBJECT, (), ()))
    assert (found.verdict, found.exit_code) == ("block", 1)
    assert failed(found) == {
        "signature", "sbom", "vulnerabilities", "provenance", "dependencies", "hygiene", "evaluation", "canary",
        "approvals",
    }  # fmt: skip
    assert all(reason.mend for one in found.rules for reason in one.reasons)


@pytest.mark.parametrize("name", PIECES)
def test_each_piece_is_needed(name: str) -> None:
    assert decide(dossier(without=(name,))).verdict == "block"


@pytest.mark.parametrize(
    "facts",
    [
        {"revoked": Unknown("the ledger does not answer")},
        {"recorded": Unknown("the ledger does not answer")},
        {"in_production": Unknown("the ledger does not answer")},
    ],
)
def test_a_fact_that_is_not_known_leaves_it_undecided(facts: dict[str, Any]) -> None:
    found = decide(**facts)
    assert (found.verdict, found.exit_code) == ("undecided", 3)
    undecided = [one for one in found.rules if one.outcome == "undecided"]
    assert undecided
    assert all(one.reasons[0].message == "the ledger does not answer" for one in undecided)


def test_what_fails_is_refused_even_where_something_else_is_not_known() -> None:
    found = decide(dossier(without=("hygiene",)), revoked=Unknown("the ledger does not answer"))
    assert found.verdict == "block"


def test_evidence_that_could_not_be_read_is_not_missing() -> None:
    found = evaluate(policy(), SUBJECT, Unknown("the registry does not answer"), FACTS)
    assert (found.verdict, found.exit_code) == ("undecided", 3)
    assert {one.outcome for one in found.rules} == {"undecided"}
    assert {one.rule for one in found.rules} == {one.rule for one in decide().rules}


def test_nothing_judged_is_nothing_allowed() -> None:
    assert _verdict(()) == "undecided"


def test_rules_hold_in_the_environments_that_they_name() -> None:
    there = dossier(without=("canary", "evaluation", "approval-ben", "approval-chi"))
    assert {one.rule for one in decide(there, environment="staging").rules}.isdisjoint(
        {"canary", "evaluation", "approvals"}
    )
    assert decide(there, environment="staging").verdict == "allow"
    assert failed(decide(there, environment="canary")) == {"evaluation", "approvals"}


def test_a_scan_is_judged_by_its_sbom_also_where_the_sbom_s_rule_does_not_hold() -> None:
    elsewhere = policy(("min_components = 3", 'min_components = 3\nenvironments = ["staging"]'))
    found = decide(by=elsewhere)
    assert (found.verdict, rule(found, "vulnerabilities").outcome) == ("allow", "pass")
    assert codes(decide(dossier(without=("sbom",)), by=elsewhere), "vulnerabilities") == ["missing"]


@pytest.mark.parametrize("environment", ["prod", "Production", ""])
def test_an_environment_that_the_policy_does_not_know_is_refused(environment: str) -> None:
    assert failed(decide(environment=environment)) >= {"scope"}


def test_another_repository_is_refused() -> None:
    elsewhere = Subject("registry.example/team/other", IMAGE)
    found = evaluate(policy(), elsewhere, replace(dossier(), subject=elsewhere), FACTS)
    assert failed(found) == {"scope"}


@pytest.mark.parametrize("asked", [Subject(REPOSITORY, OTHER), Subject("registry.example/team/other", IMAGE)])
def test_evidence_of_something_else_than_what_was_asked_for_is_refused(asked: Subject) -> None:
    assert "scope" in failed(evaluate(policy(), asked, dossier(), FACTS))


def test_a_revoked_image_is_refused() -> None:
    found = decide(revoked=frozenset({IMAGE}))
    assert failed(found) == {"revocation"}


def test_evidence_that_the_ledger_recorded_and_that_is_gone_is_refused_until_it_is_revoked() -> None:
    gone = digest_of(b"a bad scan")
    assert codes(decide(recorded=frozenset({gone})), "record") == ["removed"]
    assert decide(recorded=frozenset({gone}), revoked=frozenset({gone})).verdict == "allow"
    here = frozenset(one.statement.digest for one in dossier().attestations)
    assert decide(recorded=here).verdict == "allow"
    unknown = decide(recorded=frozenset({gone}), revoked=Unknown("away"))
    assert codes(unknown, "record") == ["removed"]


@pytest.mark.parametrize(
    ("evidence", "facts", "verdict"),
    [
        (dossier(), {}, "allow"),
        (dossier(without=tuple(set(PIECES) - {"signature"})), {"now": NOW + timedelta(days=300)}, "allow"),
        (dossier(without=("signature",)), {}, "block"),
        (dossier({"signature": lambda piece: replace(piece, party="stranger")}), {}, "block"),
        (dossier(), {"revoked": frozenset({IMAGE})}, "block"),
        (dossier(), {"environment": "prod"}, "block"),
        (dossier(), {"revoked": Unknown("away")}, "undecided"),
        (Unknown("away"), {}, "undecided"),
    ],
)
def test_what_is_gone_back_to_is_still_signed_and_not_revoked(
    evidence: Dossier | Unknown, facts: dict[str, Any], verdict: str
) -> None:
    found = evaluate_trust(policy(), SUBJECT, evidence, replace(FACTS, **facts))
    assert found.verdict == verdict
    assert {one.rule for one in found.rules} == {"scope", "revocation", "signature"}


@pytest.mark.parametrize(
    ("evidence", "facts", "verdict"),
    [
        (dossier(), {}, "allow"),
        (dossier(without=("canary",)), {}, "allow"),
        (dossier({"canary": with_member("verdict", "fail")}), {}, "allow"),  # of an earlier try
        (dossier(without=("canary", "approval-ben")), {}, "block"),
        (dossier(without=("canary", "scan")), {}, "block"),
        (dossier(without=("canary",)), {"revoked": frozenset({IMAGE})}, "block"),
        (dossier(without=("canary",)), {"in_production": Unknown("away")}, "undecided"),
        (Unknown("away"), {}, "undecided"),
    ],
)
def test_a_canary_begins_by_all_rules_but_that_of_its_result(
    evidence: Dossier | Unknown, facts: dict[str, Any], verdict: str
) -> None:
    found = evaluate_admission(policy(), SUBJECT, evidence, replace(FACTS, **facts))
    assert found.verdict == verdict
    whole = evaluate(policy(), SUBJECT, evidence, replace(FACTS, **facts))
    assert {one.rule for one in found.rules} == {one.rule for one in whole.rules} - {"canary"}
    assert found.policy == whole.policy == policy().digest


def glass(party: str, **members: Any) -> Piece:
    return Piece(APPROVAL, break_glass(**members), party, signed_at=None)


def broken(
    *pieces: Piece, without: tuple[str, ...] = ("evaluation",), by: Policy | None = None, **facts: Any
) -> Decision:
    return decide(dossier(without=without, more=pieces), by=by, **facts)


def test_break_glass_by_two_people_is_allowed_and_loud() -> None:
    found = broken(glass("ana"), glass("ben", reason="no chat for anybody", expires_at=iso(NOW + timedelta(hours=1))))
    assert found.verdict == "allow"
    assert rule(found, "evaluation").outcome == "waived"
    assert rule(found, "evaluation").reasons
    use = found.break_glass
    assert use is not None
    assert use.people == ("ana", "ben")
    assert use.reasons == ("everything is down", "no chat for anybody")
    assert use.expires_at == NOW + timedelta(hours=1)
    assert use.waived == ("evaluation",)
    assert {one.party for one in use.evidence} == {"ana", "ben"}


def test_break_glass_by_an_author_and_another_counts() -> None:
    found = broken(glass("ana"), glass("ben"), authors=frozenset({"ana@team.example"}))
    assert found.verdict == "allow"


def test_break_glass_by_authors_alone_changes_nothing() -> None:
    authors = frozenset({"ana@team.example", "ben@team.example"})
    assert broken(glass("ana"), glass("ben"), authors=authors).break_glass is None
    named = with_member("buildDefinition/resolvedDependencies/0/annotations", {"authors": sorted(authors)})
    there = dossier({"provenance": named}, without=("evaluation",), more=(glass("ana"), glass("ben")))
    assert decide(there).break_glass is None


@pytest.mark.parametrize(
    "pieces",
    [
        (),
        (glass("ana"),),
        (glass("ana"), glass("ana", reason="again")),
        (glass("ana"), glass("ana-certificate")),
        (glass("ana"), glass("stranger")),
        (glass("ana"), glass("stranger-certificate")),
        (glass("ana"), glass("build")),
        (glass("ana"), glass("ben", reason=" ")),
        (glass("ana"), glass("ben", environment="canary")),
        (glass("ana"), glass("ben", expires_at=iso(NOW))),
        (glass("ana"), glass("ben", expires_at=iso(NOW - timedelta(hours=1)))),
        (glass("ana"), glass("ben", expires_at=iso(NOW + timedelta(hours=5)))),
        (glass("ana"), glass("ben", is_break_glass=False)),
        (glass("ana"), replace(glass("ben"), subject=OTHER)),
        (glass("ana"), replace(glass("ben"), predicate_type="urn:other")),
        (glass("ana"), with_predicate(more=1)(glass("ben"))),
    ],
)
def test_break_glass_that_is_not_whole_changes_nothing(pieces: tuple[Piece, ...]) -> None:
    found = broken(*pieces)
    assert (found.verdict, found.break_glass) == ("block", None)


def test_break_glass_never_waives_an_unsigned_image() -> None:
    found = broken(glass("ana"), glass("ben"), without=("signature",))
    assert (found.verdict, found.break_glass) == ("block", None)


def test_break_glass_never_waives_a_revoked_image() -> None:
    found = broken(glass("ana"), glass("ben"), revoked=frozenset({IMAGE}))
    assert (found.verdict, found.break_glass) == ("block", None)
    assert {"signature", "revocation", "scope"} <= NEVER_WAIVED


def test_break_glass_never_waives_what_is_not_known() -> None:
    found = broken(glass("ana"), glass("ben"), in_production=Unknown("the ledger does not answer"))
    assert found.verdict == "undecided"


def test_break_glass_holds_where_the_policy_lets_it() -> None:
    only_canary = policy(
        ('max_hours = 4\nenvironments = ["canary", "production"]', 'max_hours = 4\nenvironments = ["canary"]')
    )
    assert broken(glass("ana"), glass("ben"), by=only_canary).verdict == "block"


def test_break_glass_does_not_stand_in_for_an_ordinary_approval() -> None:
    found = decide(dossier(without=("approval-ben",), more=(glass("ana"),)))
    assert failed(found) == {"approvals"}


def test_break_glass_is_not_used_where_nothing_failed() -> None:
    found = decide(dossier(more=(glass("ana"), glass("ben"))))
    assert (found.verdict, found.break_glass) == ("allow", None)


def test_a_decision_is_written_and_read_back_as_json() -> None:
    found = broken(glass("ana"), glass("ben"))
    assert msgspec.json.decode(msgspec.json.encode(found), type=Decision) == found


def test_a_first_release_needs_neither_a_canary_nor_a_baseline() -> None:
    first = decide(
        dossier({"diff": with_predicate(baseline=None)}, without=("canary",)),
        in_production=None,
    )
    assert first.verdict == "allow"
    assert codes(decide(in_production=None), "dependencies") == ["outdated"]


def test_what_is_in_production_does_not_differ_from_itself() -> None:
    assert decide(dossier(without=("diff", "review", "canary")), in_production=IMAGE).verdict == "allow"
