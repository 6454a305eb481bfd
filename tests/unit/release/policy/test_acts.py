"""Approving, breaking the glass, revoking: what is signed, and what is refused before anything is written."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import msgspec
import pytest
from tests.unit.release.policy.evidence_set import (
    ABOUT,
    IMAGE,
    NOW,
    PARTIES,
    SUBJECT,
    decide,
    dossier,
    make_pieces,
    policy,
    rule,
)
from tests.unit.release.policy.shell_parts import (
    QUESTION,
    ListLedger,
    NamedSigner,
    NamedVerifier,
    Shelf,
    gate,
    ledger,
)

from pratique.core.errors import CallerError, PratiqueError, RefusedError
from pratique.release.errors import UnavailableError
from pratique.release.policy.acts import Approver, NotNamedError, Revocation, Wish, approval_statement, revoke
from pratique.release.policy.decision import Decision, Unknown
from pratique.release.predicates import Approval
from pratique.release.signing.interface import Dossier
from pratique.release.values import digest_of

pytestmark = pytest.mark.unit

WISH = Wish(reason="release 1.4.0", valid_hours=48)
GLASS = Wish(reason="all is down", valid_hours=2, is_break_glass=True)
WITHOUT = ("approval-ben", "approval-chi")


def approver(party: str, shelf: Shelf, book: ListLedger) -> Approver:
    signer = PARTIES[party]
    return Approver(policy(), NamedSigner(signer), NamedVerifier(signer), shelf.attach, book)


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
    for party in ("ben", "chi"):
        approver(party, shelf, book).approve(gate(book, evidence).decide(QUESTION), WISH)
    signed = (
        NamedVerifier(PARTIES[party]).verify(bundle)
        for party, (_, bundle) in zip(("ben", "chi"), shelf.laid, strict=True)
    )
    whole = Dossier(SUBJECT, (*evidence.attestations, *signed), ())
    assert gate(book, whole).decide(QUESTION).verdict == "allow"
    assert {entry.kind for entry in book.written[3:]} == {"approval"}
    assert book.written[3].actor == str(PARTIES["ben"])
    assert rule(gate(book, evidence).decide(QUESTION), "record").outcome == "fail"  # they were recorded, and are gone


def test_break_glass_so_made_opens_the_gate() -> None:
    shelf, book = Shelf(), ledger()
    evidence = dossier(without=("evaluation", *WITHOUT))
    seen = gate(book, evidence).decide(QUESTION)
    signed = [approver(party, shelf, book).approve(seen, GLASS) for party in ("ana", "ben")]
    found = gate(book, Dossier(SUBJECT, (*evidence.attestations, *signed), ())).decide(QUESTION)
    assert found.verdict == "allow"
    assert found.break_glass is not None


@pytest.mark.parametrize("party", ["stranger", "build", "scanner"])
def test_whom_the_policy_does_not_name_writes_nothing(party: str) -> None:
    shelf, book = Shelf(), ledger()
    with pytest.raises(NotNamedError):
        approver(party, shelf, book).approve(decide(), WISH)
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


def test_a_policy_without_approvals_takes_none() -> None:
    document = policy().document
    bare = msgspec.structs.replace(
        document, break_glass=None, rules=msgspec.structs.replace(document.rules, approvals=None)
    )
    for wish in (WISH, GLASS):
        with pytest.raises(CallerError):
            approval_statement(replace(policy(), document=bare), decide(), wish)


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


def test_a_revocation_is_recorded_with_its_reason() -> None:
    book = ledger()
    entry = revoke(book, IMAGE, Revocation(what="image", reason="the builder was broken into"), actor="ana")
    assert (entry.kind, entry.subject, entry.actor) == ("revocation", IMAGE, "ana")
    assert b"the builder was broken into" in entry.body
    assert gate(book).decide(QUESTION).verdict == "block"
    with pytest.raises(CallerError):
        revoke(book, digest_of(b"key"), Revocation(what="key", reason=" "), actor="ana")
