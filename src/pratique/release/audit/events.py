"""What the ledger's entries about one digest come to, each held against the evidence and the entries before. Pure.

- evidence and approvals: the statement that was recorded lies in the registry, and verifies;
- decisions: so does every statement that counted then;
- promotions: the gate had allowed it for that environment, and the last answer before was no other;
- rollbacks: it had been released there before;
- break-glass and revocations are loud, and nothing passes over them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from pratique.core.errors import PratiqueError
from pratique.release.audit.report import Event, Verdict
from pratique.release.decoding import MalformedError, decode_json
from pratique.release.ledger.interface import Entry
from pratique.release.ledger.recording import RecordedStatement
from pratique.release.policy.acts import Revocation
from pratique.release.policy.decision import BreakGlassUse, Decision
from pratique.release.predicates import APPROVAL, Approval
from pratique.release.promotion.history import CanaryResult, Released, Step
from pratique.release.signing.interface import Dossier
from pratique.release.values import Digest, KeyIdentity, Subject

__all__ = ["judge_events"]

T = TypeVar("T")
_LOUD: Final = frozenset({"break_glass", "revocation"})


@dataclass(frozen=True, slots=True)
class _Said:
    summary: str
    verdict: Verdict = "holds"
    reason: str = ""


class _UnreadableError(PratiqueError):
    code = "unreadable_entry"


@dataclass(frozen=True, slots=True)
class _Judge:
    entries: Sequence[Entry]
    subject: Subject
    dossier: Dossier | None

    def say(self, entry: Entry) -> _Said:
        judge = {
            "evidence": self._recorded,
            "approval": self._recorded,
            "decision": self._decision,
            "break_glass": self._break_glass,
            "rollout": self._step,
            "canary": self._canary,
            "promotion": self._promotion,
            "rollback": self._rollback,
            "revocation": self._revocation,
        }.get(entry.kind)
        try:
            return judge(entry) if judge is not None else _Said(entry.kind)
        except _UnreadableError as error:
            return _Said(entry.kind, "undecided", error.message)

    def _recorded(self, entry: Entry) -> _Said:
        body = _read(entry, RecordedStatement)
        said = f"{body.predicate_type or 'statement'} {body.statement}"
        verdict, reason = self._lies_there((body.statement,))
        if entry.kind == "approval":
            said = f"{self._approval(body.statement)} {body.statement}"
        return _Said(said, verdict, reason)

    def _approval(self, statement: Digest) -> str:
        for one in self.dossier.attestations if self.dossier is not None else ():
            if one.statement.digest == statement and one.statement.predicate_type == APPROVAL:
                try:
                    said = one.statement.read(Approval)
                except PratiqueError:
                    return "a malformed approval"
                kind = "BREAK-GLASS" if said.is_break_glass else "approved"
                return f"{kind} for '{said.environment}' until {said.expires_at.isoformat()}: {said.reason}"
        return "approval"

    def _lies_there(self, statements: Iterable[Digest]) -> tuple[Verdict, str]:
        if self.dossier is None:
            return "undecided", "the registry's evidence could not be read"
        there = {one.statement.digest for one in self.dossier.attestations}
        gone = [one for one in dict.fromkeys(statements) if one not in there]
        if gone:
            return "broken", f"not in the registry, or does not verify there any more: {', '.join(gone[:5])}"
        return "holds", "what was recorded lies in the registry, and verifies"

    def _decision(self, entry: Entry) -> _Said:
        body = _read(entry, Decision)
        rules = ", ".join(f"{one.rule} {one.outcome}" for one in body.rules)
        said = f"{body.verdict} by the policy {body.policy}: {rules}"
        if body.digest != entry.subject or body.environment != entry.environment:
            return _Said(said, "broken", "its body is about another digest or environment than its entry")
        verdict, reason = self._lies_there(piece.statement for one in body.rules for piece in one.evidence)
        return _Said(said, verdict, reason)

    def _break_glass(self, entry: Entry) -> _Said:
        body = _read(entry, BreakGlassUse)
        waived = ", ".join(body.waived)
        said = f"BREAK-GLASS by {', '.join(body.people)}: {'; '.join(body.reasons)}; waived: {waived}"
        _, there = self._lies_there(piece.statement for piece in body.evidence)
        return _Said(said, "broken", f"rules were waived, and somebody answered for them ({there})")

    def _step(self, entry: Entry) -> _Said:
        body = _read(entry, Step)
        return _Said(f"{body.action} {body.step} on {body.target}{': ' if body.reason else ''}{body.reason}")

    def _canary(self, entry: Entry) -> _Said:
        body = _read(entry, CanaryResult).canary
        metrics = "; ".join(f"{one.metric} {one.verdict}" for one in body.metrics)
        return _Said(f"canary {body.verdict} against {body.baseline} at {body.share:.0%} of the traffic: {metrics}")

    def _promotion(self, entry: Entry) -> _Said:
        body = _read(entry, Released)
        said = f"all traffic on {body.target}, before: {body.baseline or 'nothing'}"
        last = self._last_decision(entry)
        if last is None:
            return _Said(said, "broken", "no decision of the gate came before it")
        if _read(last, Decision).verdict != "allow":
            return _Said(said, "broken", f"the gate's last answer before it, entry {last.index}, did not allow it")
        return _Said(said, "holds", f"allowed by entry {last.index}")

    def _last_decision(self, entry: Entry) -> Entry | None:
        before = (
            one
            for one in self.entries
            if one.index < entry.index and one.kind == "decision" and one.environment == entry.environment
        )
        return max((one for one in before if one.subject == entry.subject), key=lambda one: one.index, default=None)

    def _rollback(self, entry: Entry) -> _Said:
        body = _read(entry, Released)
        said = f"all traffic again on {body.target}, before: {body.baseline or 'nothing'}"
        was_there = any(
            one.index < entry.index and one.kind == "promotion" and one.environment == entry.environment
            for one in self.entries
            if one.subject == entry.subject
        )
        reason = "it had been promoted there before" if was_there else "it had never been promoted there"
        return _Said(said, "holds" if was_there else "broken", reason)

    def _revocation(self, entry: Entry) -> _Said:
        body = _read(entry, Revocation)
        return _Said(f"REVOKED {body.what} {entry.subject}: {body.reason}", "broken", f"the {body.what} is revoked")


def judge_events(entries: Sequence[Entry], subject: Subject, dossier: Dossier | None) -> tuple[Event, ...]:
    """Judge the entries that concern a digest, in their order.

    Args:
        entries: those about it, and all revocations: of those count the ones of it, of its evidence and its signers.
        subject: the artifact.
        dossier: its evidence; None where that could not be read.
    """
    judge = _Judge(entries, subject, dossier)
    concerned = {subject.digest, *_used(dossier)}
    return tuple(
        _event(one, judge.say(one))
        for one in sorted(entries, key=lambda one: one.index)
        if one.subject == subject.digest or (one.kind == "revocation" and one.subject in concerned)
    )


def _used(dossier: Dossier | None) -> Iterable[Digest]:
    for one in dossier.attestations if dossier is not None else ():
        yield one.statement.digest
        if isinstance(one.signer, KeyIdentity):
            yield one.signer.key


def _event(entry: Entry, said: _Said) -> Event:
    return Event(
        index=entry.index,
        at=entry.at,
        kind=entry.kind,
        environment=entry.environment,
        actor=entry.actor,
        hash=entry.hash,
        summary=said.summary,
        verdict=said.verdict,
        reason=said.reason,
        is_loud=entry.kind in _LOUD or said.summary.startswith("BREAK-GLASS"),
    )


def _read(entry: Entry, kind: type[T]) -> T:
    try:
        return decode_json(entry.body, kind)
    except MalformedError as error:
        raise _UnreadableError(f"entry {entry.index} cannot be read: {error}") from error
