"""Which statements count for a rule, and which of several."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.release.policy.evidence_set import (
    FACTS,
    NOW,
    OTHER,
    PARTIES,
    PIECES,
    SUBJECT,
    Piece,
    ago,
    attest,
    codes,
    decide,
    dossier,
    failed,
    make_pieces,
    policy,
    reasons,
    rule,
    with_predicate,
)

from pratique.release.policy.selection import MAX_SKEW, Case, find, latest, read_all
from pratique.release.predicates import HYGIENE, Hygiene
from pratique.release.signing.interface import Attestation, Dossier, Unverified
from pratique.release.statements import parse_statement
from pratique.release.values import CertificateIdentity, KeyIdentity, digest_of

pytestmark = pytest.mark.unit

GOOD = make_pieces()["hygiene"]
BAD = with_predicate(findings=[{"rule": "secret-in-file", "level": "error", "where": "/app", "message": "a key"}])(GOOD)
BY_KEY = policy(('signers = ["build"]\nrequired', 'signers = ["build", "rollout"]\nrequired'))


def at(piece: Piece, moment: datetime | None, *, party: str = "build") -> Piece:
    return replace(piece, signed_at=moment, party=party)


def hygiene_outcome(*pieces: Piece) -> str:
    """The policy takes reports of a certificate and of a key."""
    found = decide(dossier(without=("hygiene", "approval-ben", "approval-chi"), more=pieces), by=BY_KEY)
    return rule(found, "hygiene").outcome


EARLY, LATE = NOW - timedelta(hours=9), NOW - timedelta(hours=2)


def test_the_latest_signed_under_a_certificate_counts_alone() -> None:
    assert hygiene_outcome(at(GOOD, LATE), at(BAD, EARLY)) == "pass"
    assert hygiene_outcome(at(BAD, LATE), at(GOOD, EARLY)) == "fail"


def test_of_the_same_time_all_count() -> None:
    assert hygiene_outcome(at(BAD, LATE), at(GOOD, LATE)) == "fail"


def test_each_without_a_time_counts_beside_the_latest() -> None:
    assert hygiene_outcome(at(GOOD, LATE), at(BAD, None)) == "fail"
    assert hygiene_outcome(at(BAD, LATE), at(GOOD, None, party="rollout")) == "fail"
    assert hygiene_outcome(at(GOOD, LATE), at(GOOD, None, party="rollout")) == "pass"


def test_an_old_statement_of_a_key_that_was_stamped_today_takes_no_newer_one_s_place() -> None:
    """Anybody can have a key's signature stamped or logged again: it was there then, and may have been made before."""
    assert hygiene_outcome(at(BAD, EARLY, party="rollout"), at(GOOD, LATE, party="rollout")) == "fail"
    assert hygiene_outcome(at(BAD, EARLY), at(GOOD, LATE, party="rollout")) == "fail"


def test_a_newer_statement_of_an_accepted_signer_that_cannot_be_read_blocks() -> None:
    newer = with_predicate(of_a_later_version=1)(GOOD)
    assert hygiene_outcome(at(GOOD, EARLY), at(newer, LATE)) == "fail"


def test_what_strangers_attach_neither_helps_nor_harms() -> None:
    assert hygiene_outcome(at(GOOD, LATE), at(BAD, NOW, party="stranger")) == "pass"
    assert hygiene_outcome(at(GOOD, LATE), replace(at(BAD, NOW), subject=OTHER)) == "pass"
    assert hygiene_outcome(at(GOOD, NOW, party="stranger")) == "fail"


def test_the_signer_of_another_rule_is_a_stranger_to_this_one() -> None:
    swapped = decide(dossier({"hygiene": lambda piece: replace(piece, party="scanner")}))
    assert codes(swapped, "hygiene") == ["missing", "stranger"]


def test_missing_evidence_says_what_lay_there_instead() -> None:
    there = dossier(without=("hygiene",), more=(replace(GOOD, party="stranger"), replace(GOOD, subject=OTHER)))
    unverified = (
        Unverified("sha256-abc.att", "the signature does not hold", HYGIENE),
        Unverified("sha256-def.att", "no JSON"),
        Unverified("sha256-fff.att", "something else", "urn:other"),
    )
    found = decide(replace(there, unverified=unverified))
    assert codes(found, "hygiene") == ["missing", "unproved", "unproved", "stranger", "other_subject"]
    assert "sha256-abc.att proves nothing: the signature does not hold" in reasons(found, "hygiene")[1].message


def with_payload(payload: bytes) -> Attestation:
    return Attestation(parse_statement(payload), PARTIES["build"], LATE, digest_of(payload))


TEXT = GOOD.statement.payload


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (TEXT.replace(b'"size_bytes":', b'"size_bytes":999,"size_bytes":'), "'size_bytes' stands twice"),
        (TEXT.replace(b'"size_bytes":', b'"size\\u005fbytes":999,"size_bytes":'), "'size_bytes' stands twice"),
        (TEXT[:-1] + b',"subject":' + TEXT.split(b'"subject":')[1].split(b',"predicateType"')[0] + b"}", "'subject'"),
        (TEXT.replace(b'"checked":', b'"size_bytes":"x","checked":'), "stands twice"),
    ],
    ids=["twice", "twice by an escape", "subject twice", "of two types"],
)
def test_signed_json_that_two_readers_read_differently_is_malformed(payload: bytes, said: str) -> None:
    there = dossier(without=("hygiene",))
    found = decide(Dossier(SUBJECT, (*there.attestations, with_payload(payload)), ()))
    assert codes(found, "hygiene") == ["malformed"]
    assert said in reasons(found, "hygiene")[0].message


@pytest.mark.parametrize("odd", [b"NaN", b"[" * 50_000 + b"]" * 50_000], ids=["no JSON", "deep"])
def test_what_a_lenient_reader_lets_through_is_malformed(odd: bytes) -> None:
    statement = replace(GOOD.statement, payload=TEXT.replace(b"120000000", odd))
    attestation = Attestation(statement, PARTIES["build"], LATE, digest_of(b"odd"))
    case = Case(policy().document, Dossier(SUBJECT, (attestation,), ()), FACTS)
    assert [one.code for one in find(case, HYGIENE, ("build",)).broken] == ["malformed"]


def test_what_was_signed_in_the_future_is_refused() -> None:
    soon = at(GOOD, NOW + MAX_SKEW)
    later = at(GOOD, NOW + MAX_SKEW + timedelta(seconds=1))
    assert hygiene_outcome(soon) == "pass"
    assert hygiene_outcome(later) == "fail"


@pytest.mark.parametrize("what", ["bundle", "statement", "key"])
def test_what_is_revoked_does_not_count(what: str) -> None:
    there = dossier()
    [scan] = [one for one in there.attestations if one.signer == PARTIES["scanner"]]
    assert isinstance(scan.signer, KeyIdentity)
    revoked = {"bundle": scan.bundle, "statement": scan.statement.digest, "key": scan.signer.key}[what]
    found = decide(there, revoked=frozenset({revoked}))
    assert failed(found) == {"vulnerabilities"}
    assert codes(found, "vulnerabilities") == ["missing", "revoked"]


def test_a_revoked_failure_no_longer_stands_in_the_way() -> None:
    bad = attest(at(BAD, None))
    there = dossier()
    there = replace(there, attestations=(*there.attestations, bad))
    assert failed(decide(there)) >= {"hygiene"}
    assert decide(there, revoked=frozenset({bad.bundle})).verdict == "allow"


def test_of_nothing_nothing_is_the_latest() -> None:
    assert latest(()) == ()


def test_reasons_are_cut_where_they_are_endless() -> None:
    findings = [{"rule": "secret-in-file", "level": "error", "where": f"/{i}", "message": "a key"} for i in range(200)]
    found = decide(dossier({"hygiene": with_predicate(findings=findings)}))
    assert len(reasons(found, "hygiene")) == 51
    assert reasons(found, "hygiene")[-1].message == "… and 150 more"


def test_a_statement_that_is_read_keeps_its_signer() -> None:
    case = Case(policy().document, dossier(), FACTS)
    read, broken = read_all(find(case, HYGIENE, ("build",)), Hygiene)
    assert broken == ()
    assert [(one.accepted.party, one.content.size_bytes) for one in read] == [("build", 120_000_000)]


def edited_scan(**members: Any) -> str:
    return rule(decide(dossier({"scan": with_predicate(**members)})), "vulnerabilities").outcome


@pytest.mark.parametrize("at", ["9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59"])
@pytest.mark.parametrize(
    ("piece", "members"),
    [
        ("scan", ("scanStartedOn", "scanFinishedOn")),
        ("vex", ("timestamp",)),
        ("canary", ("started_at", "ended_at")),
        ("approval-ben", ("expires_at",)),
    ],
)
def test_times_at_the_ends_of_the_calendar_are_refused(piece: str, members: tuple[str, ...], at: str) -> None:
    edit = with_predicate(**dict.fromkeys(members, at))
    assert decide(dossier({piece: edit})).verdict == "block"


def test_a_time_without_an_offset_is_malformed() -> None:
    assert edited_scan(scanFinishedOn="2026-11-26T10:00:00") == "fail"


SPOILED_NEWER = {
    "scan": with_predicate(scanStartedOn=ago(minutes=50), scanFinishedOn=ago(minutes=50), result={}),
    "hygiene": with_predicate(
        findings=[{"rule": "secret-in-file", "level": "error", "where": "/app", "message": "a key"}]
    ),
    "evaluation": with_predicate(checks=[]),
    "canary": with_predicate(verdict="fail", ended_at=ago(minutes=5)),
    "sbom": with_predicate(components=[]),
    "provenance": with_predicate(runDetails={"builder": {"id": "https://builder.mallory.example"}}),
    "diff": with_predicate(changes=[{"package": "pkg:pypi/evil", "after": "1"}]),
}
TIMES = st.none() | st.integers(-600, 4).map(lambda minutes: NOW + timedelta(minutes=minutes))


@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from(sorted(SPOILED_NEWER)),
    st.lists(st.tuples(st.sampled_from(PIECES), TIMES), max_size=6),
    st.lists(st.tuples(st.sampled_from(PIECES), st.sampled_from(["stranger", "stranger-certificate"])), max_size=3),
)
def test_whatever_old_or_strange_is_added_to_bad_news_it_stays_blocked(
    spoiled: str, replayed: list[tuple[str, datetime | None]], strange: list[tuple[str, str]]
) -> None:
    """A certificate's signing time cannot be chosen; that of a key's signature can, by stamping it again."""
    pieces = make_pieces()
    newest = replace(SPOILED_NEWER[spoiled](pieces[spoiled]), signed_at=NOW - timedelta(minutes=1))
    old = [
        pieces[name]
        if isinstance(PARTIES[pieces[name].party], CertificateIdentity)
        else replace(pieces[name], signed_at=at)
        for name, at in replayed
    ]
    there = dossier(more=(newest, *old, *(replace(pieces[name], party=party) for name, party in strange)))
    assert decide(there).verdict == "block"


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(PIECES), TIMES, st.sampled_from(["stranger", "scanner", "rollout"]))))
def test_what_others_add_to_good_news_changes_nothing(added: list[tuple[str, datetime | None, str]]) -> None:
    pieces = make_pieces()
    more = tuple(
        replace(SPOILED_NEWER.get(name, as_it_is)(pieces[name]), party=party, signed_at=at)
        for name, at, party in added
        if pieces[name].party != party
    )
    assert decide(dossier(more=more)).verdict == "allow"


def as_it_is(piece: Piece) -> Piece:
    return piece
