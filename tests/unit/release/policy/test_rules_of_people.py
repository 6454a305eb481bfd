"""Reviews and approvals: by whom, of what, for how long."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.unit.release.policy.evidence_set import (
    IMAGE,
    NOW,
    PRODUCTION,
    SUBJECT,
    Edit,
    ago,
    attest,
    decide,
    dossier,
    failed,
    iso,
    make_pieces,
    policy,
    reasons,
    refused,
    rule,
    with_member,
    with_predicate,
)

from pratique.release.signing.interface import Dossier
from pratique.release.values import digest_of

pytestmark = pytest.mark.unit


DIFF_CHANGE = {"package": "pkg:pypi/evil", "after": "1.0"}


@pytest.mark.parametrize(
    ("edit", "code", "said"),
    [
        (with_predicate(changes=[DIFF_CHANGE]), "unreviewed", "pkg:pypi/evil 1.0 is new"),
        (with_member("changes/1/licences_after", ["AGPL-3.0-only"]), "unreviewed", "aiohttp 3.13.0 is under another"),
        (with_predicate(baseline=None), "outdated", "no diff compares"),
        (with_predicate(baseline=IMAGE), "outdated", "no diff compares"),
        (with_predicate(sbom=digest_of(b"another SBOM")), "outdated", "no diff compares"),
        (with_predicate(more=1), "malformed", "unknown field"),
    ],
)
def test_changes_that_are_unknown_or_unreviewed_are_refused(edit: Edit, code: str, said: str) -> None:
    found = refused("dependencies", "diff", edit)
    assert (found[0], said in found[1]) == (code, True)


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (with_predicate(diff=digest_of(b"another diff")), "outdated"),
        (with_predicate(more=1), "malformed"),
        (lambda piece: replace(piece, party="stranger"), "stranger"),
        (lambda piece: replace(piece, party="build"), "stranger"),
        (lambda piece: replace(piece, subject=PRODUCTION), "other_subject"),
    ],
)
def test_a_review_that_does_not_count_is_named(edit: Edit, code: str) -> None:
    found = decide(dossier({"review": edit}))
    assert [one.code for one in reasons(found, "dependencies")] == ["unreviewed", code]


def test_the_author_s_own_review_does_not_count() -> None:
    found = decide(authors=frozenset({" Ben@Home.example "}))
    assert [one.code for one in reasons(found, "dependencies")] == ["unreviewed", "own_work"]


@pytest.mark.parametrize(
    ("kinds", "outcome"),
    [('"changed"', "fail"), ('"removed"', "fail"), ('"new"', "pass"), ('"licence"', "pass")],
)
def test_the_policy_says_which_changes_are_reviewed(kinds: str, outcome: str) -> None:
    by = policy(('reviewers = ["ana", "ben", "chi"]', f'reviewers = ["ana", "ben", "chi"]\nreview = [{kinds}]'))
    assert rule(decide(by=by), "dependencies").outcome == outcome


def test_a_new_package_is_let_through_where_only_removals_are_reviewed() -> None:
    by = policy(('reviewers = ["ana", "ben", "chi"]', 'reviewers = ["ana", "ben", "chi"]\nreview = ["removed"]'))
    edit = with_predicate(changes=[DIFF_CHANGE])
    assert rule(decide(dossier({"diff": edit}), by=by), "dependencies").outcome == "pass"


@pytest.mark.parametrize(
    ("edit", "code", "said"),
    [
        (with_predicate(environment="staging"), "other_environment", "is for 'staging'"),
        (with_predicate(expires_at=iso(NOW)), "expired", "expired at"),
        (with_predicate(expires_at=iso(NOW + timedelta(days=8))), "too_long", "longer than 168 hours"),
        (with_predicate(evidence=[]), "outdated", "was given without having seen"),
        (lambda piece: replace(piece, subject=PRODUCTION), "other_subject", "not about this artifact alone"),
        (lambda piece: replace(piece, party="stranger"), "stranger", "who is not named for this"),
        (lambda piece: replace(piece, party="build"), "stranger", "who is not named for this"),
        (with_predicate(more=1), "malformed", "unknown field"),
        (with_predicate(expires_at="2026-11-27T12:00:00"), "malformed", "timezone"),
    ],
)
def test_an_approval_that_does_not_count_is_named(edit: Edit, code: str, said: str) -> None:
    found = decide(dossier({"approval-ben": edit}))
    assert failed(found) == {"approvals"}
    assert [one.code for one in reasons(found, "approvals")] == ["too_few", code]
    assert said in reasons(found, "approvals")[1].message
    assert "1 of 2 approvals for 'production'" in reasons(found, "approvals")[0].message


@pytest.mark.parametrize("party", ["ana", "ana-certificate"])
def test_two_approvals_of_one_person_are_one(party: str) -> None:
    as_ana = dossier({"approval-ben": lambda piece: replace(piece, party="ana")}, without=("approval-chi",))
    again = replace(make_pieces()["approval-ben"], party=party, signed_at=NOW - timedelta(minutes=5))
    found = decide(Dossier(SUBJECT, (*as_ana.attestations, attest(again)), ()))
    assert failed(found) == {"approvals"}
    assert reasons(found, "approvals")[0].mend == "Ask one of ben, chi: pratique approve."


@pytest.mark.parametrize(
    "author",
    [
        "ben@team.example",
        "BEN@home.example",
        " chi@team.example",
        "Ben B. <ben@team.example>",
        "chi@team.example <ben@team.example> ",
        "\uff42\uff45\uff4e@team.example",
        "b\u200ben@team.example",
    ],
)
def test_the_author_s_approval_does_not_count(author: str) -> None:
    by_ana = policy(('reviewers = ["ana", "ben", "chi"]', 'reviewers = ["ben", "ana"]'))
    found = decide(by=by_ana, authors=frozenset({author}))
    assert "own_work" in [one.code for one in reasons(found, "approvals")]


def test_the_author_in_the_provenance_counts_as_one_that_was_given() -> None:
    edit = with_member("buildDefinition/resolvedDependencies/0/annotations", {"authors": ["chi@team.example"]})
    assert failed(decide(dossier({"provenance": edit}))) == {"approvals"}


@pytest.mark.parametrize("annotations", [{}, {"authors": []}, {"authors": "dev@team.example"}, {"authors": [7, " "]}])
def test_where_nobody_knows_the_author_nobody_approves(annotations: dict[str, Any]) -> None:
    edit = with_member("buildDefinition/resolvedDependencies/0/annotations", annotations)
    found = decide(dossier({"provenance": edit}))
    assert [one.code for one in reasons(found, "approvals")] == ["author_unknown"]
    assert decide(dossier({"provenance": edit}), authors=frozenset({"dev@team.example"})).verdict == "allow"
    assert decide(dossier({"provenance": edit}), authors=frozenset({" "})).verdict == "block"


def test_where_nobody_knows_the_author_nobody_has_reviewed() -> None:
    edit = with_member("buildDefinition/resolvedDependencies/0/annotations", {})
    found = decide(dossier({"provenance": edit}))
    assert [one.code for one in reasons(found, "dependencies")] == ["unreviewed", "author_unknown"]


@pytest.mark.parametrize("author", ["Ben B.", "ben", "ben at team.example", "ben @team.example", "<>"])
def test_an_author_who_is_no_address_is_unknown(author: str) -> None:
    found = decide(authors=frozenset({author, "dev@team.example"}) if author != "<>" else frozenset({author}))
    if author == "<>":
        assert found.verdict == "allow"  # nobody: those that provenance names are known
        return
    assert [one.code for one in reasons(found, "approvals")] == ["author_unknown"]
    assert "is no e-mail address" in reasons(found, "approvals")[0].message


def test_the_author_of_another_source_is_not_believed() -> None:
    edit = with_member("buildDefinition/resolvedDependencies/1/annotations", {"authors": ["chi@team.example"]})
    assert decide(dossier({"provenance": edit})).verdict == "allow"


def test_the_author_is_known_from_provenance_also_where_its_rule_does_not_hold() -> None:
    elsewhere = policy(("[rules.provenance]\n", '[rules.provenance]\nenvironments = ["staging"]\n'))
    assert decide(by=elsewhere).verdict == "allow"
    assert failed(decide(dossier(without=("provenance",)), by=elsewhere)) == {"approvals", "dependencies"}


def test_an_approval_of_what_was_known_before_a_newer_scan_is_outdated() -> None:
    newer = with_predicate(scanFinishedOn=ago(hours=1))(make_pieces()["scan"])
    found = decide(dossier(more=(newer,)))
    assert failed(found) == {"approvals"}
    assert {one.code for one in reasons(found, "approvals")} == {"too_few", "outdated"}


def test_the_policy_says_what_an_approval_is_about() -> None:
    about = policy(("count = 2\nenvironments", 'count = 2\nabout = ["sbom", "provenance"]\nenvironments'))
    newer = with_predicate(scanFinishedOn=ago(hours=1))(make_pieces()["scan"])
    assert decide(dossier(more=(newer,)), by=about).verdict == "allow"
