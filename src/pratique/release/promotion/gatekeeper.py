"""The gate as promotions ask it: the policy room's, with the canary's result signed and laid beside the artifact."""

from __future__ import annotations

from dataclasses import dataclass

from pratique.core.errors import CallerError, RefusedError
from pratique.release.errors import UnavailableError
from pratique.release.ledger.recording import record_statement
from pratique.release.policy.acts import Desk as SigningDesk
from pratique.release.policy.decision import Decision, Outcome
from pratique.release.policy.gate import Gate, Question
from pratique.release.predicates import CANARY, Canary
from pratique.release.statements import make_statement
from pratique.release.values import Subject

__all__ = ["GateRefusedError", "PolicyGatekeeper"]


class GateRefusedError(RefusedError):
    """The policy says no."""

    code = "gate_refused"


@dataclass(frozen=True, slots=True)
class PolicyGatekeeper:
    """Asks a policy's gate about one environment."""

    gate: Gate
    signing: SigningDesk | None
    """Where a canary's result is signed and filed. None: nothing is, as where one only looks."""
    environment: str
    actor: str
    authors: frozenset[str] = frozenset()
    """E-mail addresses of who wrote the source, beside those that provenance names."""

    def admit(self, subject: Subject) -> None:
        """Let a canary begin where every rule but the canary's passes; that one cannot yet."""
        _require_allowed(self.gate.look_at_admission(self._question(subject)).decision)

    def attest(self, subject: Subject, canary: Canary) -> None:
        """Sign the result, lay it beside the artifact, and record that it is there."""
        if self.signing is None:
            raise CallerError("a canary's result is to be signed, and nobody who signs is named")
        statement = make_statement(subject.digest, CANARY, canary, name=subject.repository)
        bundle = self.signing.signer.sign(statement.payload)
        attestation = self.signing.verifier.verify(bundle)
        self.signing.attach(subject, bundle)
        record_statement(self.signing.ledger, subject.digest, attestation)

    def release(self, subject: Subject) -> None:
        """Ask the whole policy, and have the decision recorded."""
        _require_allowed(self.gate.decide_and_record(self._question(subject), actor=self.actor))

    def trust(self, subject: Subject) -> None:
        """Ask whether it is signed by whom the policy names, and not revoked."""
        _require_allowed(self.gate.look_at_trust(self._question(subject)).decision)

    def _question(self, subject: Subject) -> Question:
        return Question(subject, self.environment, self.authors)


def _require_allowed(decision: Decision) -> None:
    if decision.verdict == "allow":
        return
    whom = f"{decision.repository}@{decision.digest} in '{decision.environment}'"
    outcome: Outcome = "fail" if decision.verdict == "block" else "undecided"
    said = [(one.rule, why) for one in decision.rules if one.outcome == outcome for why in one.reasons]
    words = "; ".join(f"{rule}: {why.message}" for rule, why in said) or "no rule says why"
    if decision.verdict == "undecided":
        raise UnavailableError(f"the gate cannot decide about {whom}: {words}")
    hint = said[0][1].mend if said else "See the whole decision: pratique gate."
    raise GateRefusedError(f"the gate blocks {whom}: {words}", hint=hint)
