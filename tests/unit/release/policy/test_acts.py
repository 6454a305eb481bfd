"""Approving, breaking the glass, reviewing, revoking: what is signed, and what is refused before it is written."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import msgspec
import pytest
from tests.unit.release.policy.evidence_set import (
    ABOUT,
    FACTS,
    IMAGE,
    NOW,
    PARTIES,
    SUBJECT,
    decide,
    dossier,
    failed,
    make_pieces,
    policy,
    rule,
    with_predicate,
)
from tests.unit.release.policy.shell_parts import QUESTION, ListLedger, NamedSigner, NamedVerifier, Shelf, gate, ledger

from pratique.core.errors import CallerError, PratiqueError, RefusedError
from pratique.release.errors import UnavailableError
from pratique.release.policy.acts import (
    Desk,
    DoesNotCountError,
    Revocation,
    Wish,
    approval_statement,
    approve,
    changes_to_review,
    review,
    review_statement,
    revoke,
)
from pratique.release.policy.decision import Decision, Unknown
from pratique.release.policy.gate import Question, Seen
from pratique.release.predicates import Approval, DependencyReview
from pratique.release.signing.interface import Attestation, Dossier
from pratique.release.values import digest_of

pytestmark = pytest.mark.unit

WISH = Wish(reason="release 1.4.0", valid_hours=48)
GLASS = Wish(reason="all is down", valid_hours=2, is_break_glass=True)
WITHOUT = ("approval-ben", "approval-chi")
AUTHORED_BY_BEN = replace(QUESTION, authors=frozenset({"ben@team.example"}))


def desk(party: str, shelf: Shelf, book: ListLedger) -> Desk:
    signer = PARTIES[party]
    return Desk(policy(), NamedSigner(signer), NamedVerifier(signer), shelf.attach, book)


def said(seen: Decision, wish: Wish = WISH) -> Approval:
    return approval_statement(policy(), seen, wish).read(Approval)


def test_an_approval_names_what_counts_now() -> None:
    found = said(decide(dossier(without=WITHOUT)))
    pieces = make_pieces()
    assert set(found.evidence) == {pieces[name].statement.digest for name in ABOUT}
    assert (found.environment, found.is_break_glass) == ("production", False)
    assert found.expires_at == NOW + timedelta(hours=48)


def test_approvals_so_made_open_the_gate() -> None:
    shelf, book = Shelf(), ledger()
    evidence = dossier(without=WITHOUT)
    signed: list[Attestation] = []
    for party in ("ben", "chi"):
        there = Dossier(SUBJECT, (*evidence.attestations, *signed), ())
        signed.append(approve(desk(party, shelf, book), gate(book, there).look(QUESTION), WISH))
    whole = Dossier(SUBJECT, (*evidence.attestations, *signed), ())
    assert gate(book, whole).look(QUESTION).decision.verdict == "allow"
    assert [entry.kind for entry in book.written[3:]] == ["approval", "approval"]
    assert (book.written[3].actor, book.written[3].environment) == (str(PARTIES["ben"]), "production")
    assert [subject for subject, _ in shelf.laid] == [SUBJECT, SUBJECT]
    # They were recorded: whoever takes them away is found out.
    assert rule(gate(book, evidence).look(QUESTION).decision, "record").outcome == "fail"


def test_break_glass_so_made_opens_the_gate() -> None:
    shelf, book = Shelf(), ledger()
    evidence = dossier(without=("evaluation", *WITHOUT))
    seen = gate(book, evidence).look(QUESTION)
    signed = [approve(desk(party, shelf, book), seen, GLASS) for party in ("ana", "ben")]
    found = gate(book, Dossier(SUBJECT, (*evidence.attestations, *signed), ())).look(QUESTION).decision
    assert found.verdict == "allow"
    assert found.break_glass is not None


@pytest.mark.parametrize("wish", [WISH, GLASS])
@pytest.mark.parametrize("party", ["stranger", "build", "scanner"])
def test_whom_the_policy_does_not_name_writes_nothing(party: str, wish: Wish) -> None:
    shelf, book = Shelf(), ledger()
    with pytest.raises(DoesNotCountError):
        approve(desk(party, shelf, book), gate(book).look(QUESTION), wish)
    assert (shelf.laid, len(book.written)) == ([], 3)


def test_an_author_s_approval_is_refused_where_it_is_made() -> None:
    shelf, book = Shelf(), ledger()
    seen = gate(book, dossier(without=WITHOUT)).look(AUTHORED_BY_BEN)
    with pytest.raises(DoesNotCountError, match="is by an author of the source"):
        approve(desk("ben", shelf, book), seen, WISH)
    assert (shelf.laid, len(book.written)) == ([], 3)


@pytest.mark.parametrize(
    ("wish", "environment"),
    [
        (Wish(reason=" ", valid_hours=1), "production"),
        (Wish(reason="x", valid_hours=0), "production"),
        (Wish(reason="x", valid_hours=169), "production"),
        (Wish(reason="x", valid_hours=float("nan")), "production"),
        (Wish(reason="x", valid_hours=5, is_break_glass=True), "production"),
        (Wish(reason="x", valid_hours=1), "staging"),
        (Wish(reason="x", valid_hours=1, is_break_glass=True), "staging"),
    ],
)
def test_an_approval_that_could_not_count_is_not_made(wish: Wish, environment: str) -> None:
    with pytest.raises(CallerError):
        said(decide(environment=environment), wish)


def test_a_policy_without_people_takes_neither_approvals_nor_reviews() -> None:
    rules = msgspec.structs.replace(policy().document.rules, approvals=None, dependencies=None)
    bare = replace(policy(), document=msgspec.structs.replace(policy().document, break_glass=None, rules=rules))
    for wish in (WISH, GLASS):
        with pytest.raises(CallerError):
            approval_statement(bare, decide(), wish)
    with pytest.raises(CallerError):
        changes_to_review(bare, gate(ledger()).look(QUESTION))


@pytest.mark.parametrize("wish", [WISH, GLASS])
@pytest.mark.parametrize(
    ("seen", "error"),
    [
        (decide(revoked=frozenset({IMAGE})), RefusedError),
        (decide(dossier(without=("signature",))), RefusedError),
        (decide(revoked=Unknown("the ledger does not answer")), UnavailableError),
    ],
    ids=["revoked", "unsigned", "unknown"],
)
def test_nobody_approves_what_is_revoked_unsigned_or_not_seen(
    wish: Wish, seen: Decision, error: type[PratiqueError]
) -> None:
    with pytest.raises(error):
        said(seen, wish)


def test_what_has_to_be_reviewed_is_listed_with_the_reason() -> None:
    edit = with_predicate(
        changes=[
            {"package": "pkg:pypi/new", "after": "1"},
            {"package": "pkg:pypi/same", "before": "1", "after": "2"},
            {"package": "pkg:pypi/free", "before": "1", "after": "2", "licences_after": ["SSPL-1.0"]},
        ]
    )
    evidence = dossier({"diff": edit}, without=("review",))
    [found] = changes_to_review(policy(), gate(ledger(), evidence).look(QUESTION))
    assert found.diff == make_pieces({"diff": edit})["diff"].statement.digest
    assert [(change.package, kind) for change, kind in found.changes] == [
        ("pkg:pypi/new", "new"),
        ("pkg:pypi/free", "under another licence"),
    ]


def test_a_review_so_made_counts() -> None:
    shelf, book = Shelf(), ledger()
    evidence = dossier(without=("review", *WITHOUT))
    seen = gate(book, evidence).look(QUESTION)
    [found] = changes_to_review(policy(), seen)
    packages = [change.package for change, _ in found.changes]
    statement = review_statement(seen, found.diff, accepted=packages, reason="known and small")
    assert statement.read(DependencyReview).accepted == ("pkg:pypi/msgspec",)
    signed = review(desk("chi", shelf, book), seen, statement)
    decision = gate(book, Dossier(SUBJECT, (*evidence.attestations, signed), ())).look(QUESTION).decision
    assert failed(decision) == {"approvals"}
    assert [entry.kind for entry in book.written[3:]] == ["evidence"]


@pytest.mark.parametrize(("party", "question"), [("scanner", QUESTION), ("ben", AUTHORED_BY_BEN)])
@pytest.mark.parametrize("without", [("review",), ()], ids=["open", "reviewed already"])
def test_a_review_that_would_not_count_is_not_written(party: str, question: Question, without: tuple[str, ...]) -> None:
    shelf, book = Shelf(), ledger()
    seen = gate(book, dossier(without=without)).look(question)
    [found] = changes_to_review(policy(), seen)
    statement = review_statement(seen, found.diff, accepted=["pkg:pypi/msgspec"], reason="x")
    with pytest.raises(DoesNotCountError):
        review(desk(party, shelf, book), seen, statement)
    assert (shelf.laid, len(book.written)) == ([], 3)


def test_a_review_of_nothing_or_without_a_reason_is_not_made() -> None:
    seen = gate(ledger()).look(QUESTION)
    with pytest.raises(CallerError):
        review_statement(seen, IMAGE, accepted=[], reason="x")
    with pytest.raises(CallerError):
        review_statement(seen, IMAGE, accepted=["pkg:pypi/x"], reason=" ")


def test_what_could_not_be_read_cannot_be_reviewed() -> None:
    away = Seen(SUBJECT, decide(), Unknown("the registry does not answer"), FACTS)
    with pytest.raises(UnavailableError):
        changes_to_review(policy(), away)


def test_a_revocation_is_recorded_with_its_reason() -> None:
    book = ledger()
    entry = revoke(book, IMAGE, Revocation(what="image", reason="the builder was broken into"), actor="ana")
    assert (entry.kind, entry.subject, entry.actor) == ("revocation", IMAGE, "ana")
    assert b"the builder was broken into" in entry.body
    assert gate(book).look(QUESTION).decision.verdict == "block"
    with pytest.raises(CallerError):
        revoke(book, digest_of(b"key"), Revocation(what="key", reason=" "), actor="ana")
