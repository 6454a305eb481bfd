"""The gate's shell: what it asks, what it records, and what it does when something does not answer or moves on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from tests.unit.release.policy.evidence_set import (
    IMAGE,
    NOW,
    POLICY_TEXT,
    SUBJECT,
    Piece,
    break_glass,
    codes,
    dossier,
    failed,
    policy,
    rule,
)
from tests.unit.release.policy.shell_parts import QUESTION, ListLedger, gate, ledger

from pratique.core.clock import ManualClock
from pratique.core.settings import SettingsError, load_settings
from pratique.release.errors import NotFoundError, UnavailableError, VerificationError
from pratique.release.ledger.recording import RecordedStatement
from pratique.release.policy.decision import Decision
from pratique.release.policy.gate import PolicyMismatchError, read_policy
from pratique.release.policy.parse import PolicyError
from pratique.release.policy.settings import PolicySettings
from pratique.release.predicates import APPROVAL
from pratique.release.signing.interface import Dossier
from pratique.release.values import Subject, digest_of

pytestmark = pytest.mark.unit


def kinds(book: ListLedger) -> list[str]:
    return [entry.kind for entry in book.written[3:]]


def test_an_allowed_artifact_is_recorded_with_the_policy_s_digest() -> None:
    book = ledger()
    found = gate(book).decide_and_record(QUESTION, actor="ci")
    assert found.verdict == "allow"
    [entry] = book.written[3:]
    assert (entry.kind, entry.subject, entry.environment, entry.actor) == ("decision", IMAGE, "production", "ci")
    assert msgspec.json.decode(entry.body, type=Decision) == found
    assert msgspec.json.decode(entry.body)["policy"] == digest_of(POLICY_TEXT.encode())
    assert found.decided_at == NOW


def test_a_blocked_artifact_is_recorded_too() -> None:
    book = ledger()
    assert gate(book, Dossier(SUBJECT, (), ())).decide_and_record(QUESTION, actor="ci").verdict == "block"
    assert kinds(book) == ["decision"]


def test_to_look_writes_nothing() -> None:
    book = ledger()
    assert gate(book).look(QUESTION).decision.verdict == "allow"
    assert kinds(book) == []


def test_break_glass_is_an_entry_of_its_own_before_the_decision() -> None:
    book = ledger()
    more = tuple(Piece(APPROVAL, break_glass(), party, signed_at=None) for party in ("ana", "ben"))
    evidence = dossier(without=("evaluation",), more=more)
    assert gate(book, evidence).decide_and_record(QUESTION, actor="ci").verdict == "allow"
    assert kinds(book) == ["break_glass", "decision"]
    body = msgspec.json.decode(book.written[3].body)
    assert (body["people"], body["waived"]) == (["ana", "ben"], ["evaluation"])


@pytest.mark.parametrize("what", ["image", "bundle", "statement"])
def test_a_revocation_in_the_ledger_counts(what: str) -> None:
    book = ledger()
    first = dossier().attestations[0]
    revoked = {"image": IMAGE, "bundle": first.bundle, "statement": first.statement.digest}[what]
    book.append("revocation", revoked, {}, actor="ana")
    assert failed(gate(book).look(QUESTION).decision) == {"revocation" if what == "image" else "signature"}


def test_a_revocation_while_it_is_decided_is_seen() -> None:
    book = ledger()
    book.before_append = lambda: book.append("revocation", IMAGE, {}, actor="ana")
    found = gate(book).decide_and_record(QUESTION, actor="ci")
    assert failed(found) == {"revocation"}
    assert kinds(book) == ["revocation", "decision"]


def test_a_ledger_that_always_grows_leaves_it_undecided() -> None:
    book = ledger()

    def grow() -> None:
        book.append("alert", IMAGE, {}, actor="x")
        book.before_append = grow

    book.before_append = grow
    found = gate(book).decide_and_record(QUESTION, actor="ci")
    assert found.verdict == "undecided"
    assert "could not be recorded: the ledger grew 8 times" in rule(found, "record").reasons[0].message
    assert "decision" not in kinds(book)


def test_a_decision_that_cannot_be_recorded_is_none() -> None:
    book = ledger()
    book.is_read_only = True
    found = gate(book).decide_and_record(QUESTION, actor="ci")
    assert (found.verdict, found.exit_code) == ("undecided", 3)
    assert [one.rule for one in found.rules if one.outcome == "undecided"] == ["record"]


def test_a_ledger_that_does_not_answer_leaves_it_undecided() -> None:
    book = ledger()
    book.is_away = True
    found = gate(book).decide_and_record(QUESTION, actor="ci")
    assert found.verdict == "undecided"
    assert {one.rule for one in found.rules if one.outcome == "undecided"} == {
        "revocation", "record", "dependencies", "canary",
    }  # fmt: skip


def test_a_registry_that_does_not_answer_leaves_it_undecided_on_record() -> None:
    def away(_: Subject) -> Dossier:
        raise UnavailableError("the registry does not answer")

    book = ledger()
    found = replace(gate(book), load_dossier=away).decide_and_record(QUESTION, actor="ci")
    assert (found.verdict, found.exit_code) == ("undecided", 3)
    assert kinds(book) == ["decision"]


@pytest.mark.parametrize("error", [NotFoundError("no such artifact"), VerificationError("other bytes")])
def test_what_the_registry_refuses_is_refused(error: Exception) -> None:
    def refuse(_: Subject) -> Dossier:
        raise error

    with pytest.raises(type(error)):
        replace(gate(ledger()), load_dossier=refuse).look(QUESTION)


def test_what_runs_in_production_is_the_ledger_s_last_word() -> None:
    book = ledger()
    older = digest_of(b"older")
    book.append("rollback", older, {}, environment="production", actor="rollout")
    found = gate(book).look(QUESTION).decision
    assert codes(found, "dependencies") == ["outdated"]
    assert older in rule(found, "dependencies").reasons[0].message


def test_an_empty_ledger_means_a_first_release() -> None:
    assert rule(gate(ListLedger()).look(QUESTION).decision, "canary").outcome == "pass"


def test_evidence_that_was_recorded_and_taken_away_is_missed() -> None:
    book = ledger()
    gone = digest_of(b"a bad scan")
    book.append("evidence", IMAGE, RecordedStatement(statement=gone), actor="ci")
    book.append("evidence", digest_of(b"another image"), RecordedStatement(statement=digest_of(b"x")), actor="ci")
    book.append("evidence", IMAGE, {"of": "another form"}, actor="ci")
    found = gate(book).look(QUESTION).decision
    assert codes(found, "record") == ["removed"]
    assert gone in rule(found, "record").reasons[0].message


def test_a_policy_is_read_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "promotion.toml"
    file.write_text(POLICY_TEXT, encoding="utf-8")
    assert read_policy(file, expected=policy().digest) == policy()
    with pytest.raises(PolicyMismatchError) as caught:
        read_policy(file, expected=digest_of(b"the reviewed one"))
    assert caught.value.exit_code == 1
    with pytest.raises(PolicyError) as missing:
        read_policy(tmp_path / "none.toml")
    assert missing.value.exit_code == 2


def test_what_is_gone_back_to_is_asked_less() -> None:
    book = ledger()
    evidence = dossier(without=("scan", "approval-ben", "approval-chi"))
    assert gate(book, evidence).look_at_trust(QUESTION).decision.verdict == "allow"
    book.append("revocation", IMAGE, {}, actor="ana")
    assert gate(book, evidence).look_at_trust(QUESTION).decision.verdict == "block"
    assert kinds(book) == ["revocation"]


def test_the_time_is_the_clock_s() -> None:
    made = ManualClock(epoch_seconds=NOW.timestamp() + 3600)
    found = replace(gate(ledger()), clock=made).look(QUESTION).decision
    assert (found.decided_at - NOW).total_seconds() == 3600


def test_the_settings_take_a_digest_or_none() -> None:
    assert load_settings(PolicySettings, part="release").file is None
    with pytest.raises(SettingsError):
        load_settings(PolicySettings, part="release", overrides={"digest": "latest"})
