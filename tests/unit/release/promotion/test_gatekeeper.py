"""The policy's gate as promotions ask it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import msgspec
import pytest
from tests.unit.release.policy.evidence_set import IMAGE, NOW, PARTIES, PRODUCTION, SUBJECT, dossier, policy
from tests.unit.release.policy.shell_parts import ListLedger, NamedSigner, NamedVerifier, Shelf, gate, ledger

from pratique.core.errors import CallerError
from pratique.release.errors import UnavailableError
from pratique.release.ledger.recording import RecordedStatement
from pratique.release.policy.acts import Desk as SigningDesk
from pratique.release.policy.acts import Revocation, revoke
from pratique.release.predicates import CANARY, Canary, MetricVerdict
from pratique.release.promotion.gatekeeper import GateRefusedError, PolicyGatekeeper
from pratique.release.signing.interface import Dossier
from pratique.release.statements import parse_statement
from pratique.release.values import Subject, digest_of

pytestmark = pytest.mark.unit

RESULT = Canary(
    baseline=PRODUCTION,
    verdict="pass",
    metrics=(MetricVerdict(metric="error", verdict="pass", num_old=900, num_new=300, p_value=0.5, reason="same"),),
    share=0.05,
    started_at=NOW - timedelta(minutes=15),
    ended_at=NOW,
)


def keeper(book: ListLedger, evidence: Dossier | None = None, *, shelf: Shelf | None = None) -> PolicyGatekeeper:
    rollout = PARTIES["rollout"]
    desk = SigningDesk(policy(), NamedSigner(rollout), NamedVerifier(rollout), (shelf or Shelf()).attach, book)
    return PolicyGatekeeper(gate(book, evidence), desk, "production", "somebody")


def test_a_canary_may_begin_where_only_the_canary_is_missing() -> None:
    book = ledger()
    keeper(book, dossier(without=("canary",))).admit(SUBJECT)
    assert len(book.written) == 3  # a look is not recorded


def test_a_canary_may_begin_where_nothing_is_missing() -> None:
    keeper(ledger()).admit(SUBJECT)


@pytest.mark.parametrize("missing", ["sbom", "scan", "provenance", "hygiene", "evaluation", "approval-ben"])
def test_a_canary_may_not_begin_where_anything_else_is_missing(missing: str) -> None:
    with pytest.raises(GateRefusedError, match="the gate blocks") as caught:
        keeper(ledger(), dossier(without=("canary", missing))).admit(SUBJECT)
    assert caught.value.hint
    assert "canary: " not in caught.value.message


def test_a_canary_may_not_begin_where_the_ledger_cannot_be_asked() -> None:
    book = ledger()
    book.is_away = True
    with pytest.raises(UnavailableError, match="cannot decide"):
        keeper(book, dossier(without=("canary",))).admit(SUBJECT)


def test_all_traffic_needs_the_canary_and_the_answer_is_recorded() -> None:
    book = ledger()
    with pytest.raises(GateRefusedError, match="canary: "):
        keeper(book, dossier(without=("canary",))).release(SUBJECT)
    keeper(book).release(SUBJECT)
    assert [one.kind for one in book.written[3:]] == ["decision", "decision"]


def test_a_decision_that_cannot_be_recorded_is_none() -> None:
    book = ledger()
    book.is_read_only = True
    with pytest.raises(UnavailableError, match="could not be recorded"):
        keeper(book).release(SUBJECT)


def test_a_canarys_result_is_signed_laid_beside_the_artifact_and_recorded() -> None:
    book, shelf = ListLedger(), Shelf()
    keeper(book, shelf=shelf).attest(SUBJECT, RESULT)
    ((subject, bundle),) = shelf.laid
    statement = parse_statement(bundle)
    assert (subject, statement.subjects, statement.predicate_type) == (SUBJECT, (IMAGE,), CANARY)
    assert statement.read(Canary) == RESULT
    (entry,) = book.written
    assert (entry.kind, entry.subject, entry.actor) == ("evidence", IMAGE, str(PARTIES["rollout"]))
    recorded = RecordedStatement(statement=statement.digest, bundle=digest_of(bundle), predicate_type=CANARY)
    assert entry.body == msgspec.json.encode(recorded)


def test_a_canarys_result_that_nobody_would_sign_is_not_filed() -> None:
    book = ListLedger()
    with pytest.raises(CallerError, match="nobody who signs is named"):
        replace(keeper(book), signing=None).attest(SUBJECT, RESULT)
    assert book.written == []


def test_what_was_released_once_is_trusted_without_fresh_evidence() -> None:
    keeper(ledger(), dossier(without=("scan", "approval-ben", "approval-chi", "canary"))).trust(SUBJECT)


def test_what_is_revoked_is_not_trusted() -> None:
    book = ledger()
    revoke(book, IMAGE, Revocation(what="image", reason="a backdoor"), actor="somebody")
    with pytest.raises(GateRefusedError, match="revocation"):
        keeper(book).trust(SUBJECT)


def test_what_is_not_signed_is_not_trusted() -> None:
    with pytest.raises(GateRefusedError, match="signature"):
        keeper(ledger(), dossier(without=("release", "signature"))).trust(SUBJECT)


def test_another_repository_is_not_trusted() -> None:
    other = Subject("registry.example/other/chat", IMAGE)
    with pytest.raises(GateRefusedError, match="scope"):
        keeper(ledger(), replace(dossier(), subject=other)).trust(other)
