"""The gate itself: gathers evidence and facts, has them judged, and records what was decided. Decides nothing.

1. The ledger says how long it is, what is revoked, what runs in production, and which statements it knows.
2. The registry's evidence about the artifact is read and verified.
3. `evaluate` decides.
4. The decision is appended where the ledger is still as long as in step 1: nothing was revoked meanwhile. Where it is
   longer, all is done again. Break-glass is an entry of its own, and comes first.

What does not answer leaves the decision open; what answers "no" is a refusal of its own and goes on to the caller. A
decision that could not be recorded is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar

from pratique.core.clock import Clock
from pratique.core.errors import EnvironmentFaultError, RefusedError
from pratique.release.decoding import MalformedError, decode_json
from pratique.release.errors import ConflictError, UnavailableError
from pratique.release.ledger.interface import Ledger
from pratique.release.ledger.recording import RecordedStatement
from pratique.release.policy.decision import Decision, Facts, Unknown
from pratique.release.policy.document import Policy
from pratique.release.policy.evaluate import evaluate, evaluate_admission, evaluate_trust
from pratique.release.policy.parse import MAX_POLICY_BYTES, PolicyError, parse_policy
from pratique.release.signing.interface import Dossier
from pratique.release.values import Digest, Subject

__all__ = ["Gate", "PolicyMismatchError", "Question", "Seen", "read_policy"]

_MAX_TRIES: Final = 8

T = TypeVar("T")


class PolicyMismatchError(RefusedError):
    """The policy's file is not the one that was reviewed."""

    code = "policy_mismatch"


def read_policy(file: Path, *, expected: str | None = None) -> Policy:
    """Read a policy from its file.

    Args:
        file: the TOML file.
        expected: the digest that it must have; None: any.

    Raises:
        PolicyError: it cannot be read, or is no policy.
        PolicyMismatchError: it has another digest.
    """
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_POLICY_BYTES + 1)
    except OSError as error:
        raise PolicyError(f"the policy {file} cannot be read: {error.strerror}") from error
    policy = parse_policy(content, where=str(file))
    if expected is not None and policy.digest != expected:
        raise PolicyMismatchError(
            f"the policy {file} has the digest {policy.digest}, expected {expected}",
            hint="Have the change reviewed, and set [release.policy] digest to it.",
        )
    return policy


@dataclass(frozen=True, slots=True)
class Question:
    """What the gate is asked."""

    subject: Subject
    environment: str
    authors: frozenset[str] = frozenset()
    """E-mail addresses of who wrote the source, beside those that provenance names."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A decision, and what it was made from."""

    subject: Subject
    decision: Decision
    evidence: Dossier | Unknown
    facts: Facts


@dataclass(frozen=True, slots=True)
class Gate:
    """A policy, and where evidence and facts come from."""

    policy: Policy
    load_dossier: Callable[[Subject], Dossier]
    """Reads and verifies what lies beside an artifact; raises UnavailableError where the registry does not answer."""
    ledger: Ledger
    clock: Clock

    def look(self, question: Question) -> Seen:
        """Decide, and record nothing.

        Raises:
            RefusedError: there is no such artifact, or the ledger or the registry was changed.
        """
        evidence, facts = self._gather(question)
        return Seen(question.subject, self._decide(question, evidence, facts), evidence, facts)

    def look_at_admission(self, question: Question) -> Seen:
        """Decide whether a canary may begin, which has no result yet; record nothing.

        Raises:
            RefusedError: as `look`.
        """
        evidence, facts = self._gather(question)
        decision = evaluate_admission(self.policy, question.subject, evidence, facts)
        return Seen(question.subject, decision, evidence, facts)

    def look_at_trust(self, question: Question) -> Seen:
        """Decide whether an artifact that was promoted before is still ours, for going back to it; record nothing.

        Raises:
            RefusedError: as `look`.
        """
        evidence, facts = self._gather(question)
        decision = evaluate_trust(self.policy, question.subject, evidence, facts)
        return Seen(question.subject, decision, evidence, facts)

    def decide_and_record(self, question: Question, *, actor: str) -> Decision:
        """Decide, and record it in the ledger; what cannot be recorded is undecided.

        Args:
            question: what is asked.
            actor: who asks.

        Raises:
            RefusedError: as `look`.
        """
        tries = 0
        while True:
            tries += 1
            size = _known(lambda: self.ledger.head().size)
            evidence, facts = self._gather(question)
            decision = self._decide(question, evidence, facts)
            try:
                self._record(decision, actor=actor, size=size)
            except ConflictError:  # step 4: somebody wrote, perhaps a revocation
                if tries < _MAX_TRIES:
                    continue
                why = f"the ledger grew {tries} times meanwhile"
            except EnvironmentFaultError as error:
                why = error.message
            else:
                return decision
            unknown = Unknown(f"the decision could not be recorded: {why}")
            return self._decide(question, evidence, replace(facts, recorded=unknown))

    def _decide(self, question: Question, evidence: Dossier | Unknown, facts: Facts) -> Decision:
        return evaluate(self.policy, question.subject, evidence, facts)

    def _record(self, decision: Decision, *, actor: str, size: int | Unknown) -> None:
        if isinstance(size, Unknown):
            raise UnavailableError(size.reason)
        subject, environment = decision.digest, decision.environment
        if decision.break_glass is not None:
            self.ledger.append(
                "break_glass", subject, decision.break_glass, environment=environment, actor=actor, expected_size=size
            )
            size += 1
        self.ledger.append("decision", subject, decision, environment=environment, actor=actor, expected_size=size)

    def _gather(self, question: Question) -> tuple[Dossier | Unknown, Facts]:
        facts = Facts(
            now=datetime.fromtimestamp(self.clock.epoch(), UTC),
            environment=question.environment,
            in_production=_known(self._in_production),
            revoked=_known(self._revoked),
            recorded=_known(lambda: frozenset(self._recorded(question.subject.digest))),
            authors=question.authors,
        )
        return _known(lambda: self.load_dossier(question.subject)), facts

    def _in_production(self) -> Digest | None:
        baseline = self.policy.document.baseline
        entries = self.ledger.entries(kinds=("promotion", "rollback"), environment=baseline, newest_first=True)
        return next((entry.subject for entry in entries), None)

    def _revoked(self) -> frozenset[Digest]:
        return frozenset(entry.subject for entry in self.ledger.entries(kinds=("revocation",)))

    def _recorded(self, subject: Digest) -> Iterator[Digest]:
        for entry in self.ledger.entries(kinds=("evidence", "approval"), subject=subject):
            try:
                yield decode_json(entry.body, RecordedStatement).statement
            except MalformedError:
                continue  # it names no statement, so none can be missing; and an entry can never be corrected


def _known(ask: Callable[[], T]) -> T | Unknown:
    try:
        return ask()
    except EnvironmentFaultError as error:
        return Unknown(error.message)
