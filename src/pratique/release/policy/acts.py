"""What people do to the gate: approve, break the glass, revoke. Says what is signed, and records it.

Nobody signs what they did not see: an approval names the statements that count now, by the same rules that the gate
will apply. The signature is verified and the signer looked up before anything is written, so a stranger's approval is
refused where it is made, not in the release.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import msgspec

from pratique.core.errors import CallerError, RefusedError
from pratique.release.errors import UnavailableError
from pratique.release.ledger.interface import Entry, Ledger
from pratique.release.policy.decision import NEVER_WAIVED, Decision
from pratique.release.policy.document import Document, Policy
from pratique.release.policy.gate import RecordedStatement
from pratique.release.policy.rules.approvals import statements_to_approve
from pratique.release.predicates import APPROVAL, Approval
from pratique.release.signing.interface import Attestation, StatementSigner, Verifier
from pratique.release.statements import Statement, make_statement
from pratique.release.values import Digest, Subject

__all__ = ["Approver", "NotNamedError", "Revocation", "Wish", "approval_statement", "revoke"]


class NotNamedError(RefusedError):
    """Whoever signed is not named by the policy for this."""

    code = "not_named"


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants to let through."""

    reason: str
    valid_hours: float
    is_break_glass: bool = False


def approval_statement(policy: Policy, seen: Decision, wish: Wish) -> Statement:
    """Write what an approver signs, from what the gate says now.

    Args:
        policy: the policy.
        seen: the gate's decision by this policy, just made: its evidence is what is approved.
        wish: why, for how long, and whether in an emergency.

    Raises:
        CallerError: the policy has no such approvals, there is no reason, or it would hold for too long.
        RefusedError: the artifact is unsigned, revoked or of another policy: nobody can approve that.
        UnavailableError: what has to be seen could not be read.
    """
    max_hours = _max_hours(policy.document, seen.environment, wish)
    if not wish.reason.strip():
        raise CallerError("An approval needs a reason.", hint="Say why: --reason.")
    if not 0 < wish.valid_hours <= max_hours:
        raise CallerError(
            f"It would hold for {wish.valid_hours:g} hours, the policy allows more than 0 to {max_hours:g}."
        )
    for result in seen.rules:
        if result.outcome == "undecided":
            raise UnavailableError(f"what '{result.rule}' needs could not be read: {result.reasons[0].message}")
        if result.rule in NEVER_WAIVED and result.outcome == "fail":
            raise RefusedError(f"nobody can approve this: {result.reasons[0].message}", hint=result.reasons[0].mend)
    rule = policy.document.rules.approvals
    evidence = statements_to_approve(rule, seen.rules) if rule is not None and not wish.is_break_glass else frozenset()
    approval = Approval(
        environment=seen.environment,
        evidence=tuple(sorted(evidence)),
        expires_at=seen.decided_at + timedelta(hours=wish.valid_hours),
        reason=wish.reason.strip(),
        is_break_glass=wish.is_break_glass,
    )
    return make_statement(seen.digest, APPROVAL, approval, name=seen.repository)


def _max_hours(document: Document, environment: str, wish: Wish) -> float:
    if wish.is_break_glass:
        glass = document.break_glass
        if glass is None or (glass.environments and environment not in glass.environments):
            raise CallerError(f"The policy has no break-glass for '{environment}'.")
        return glass.max_hours
    rule = document.rules.approvals
    if rule is None or (rule.environments and environment not in rule.environments):
        raise CallerError(f"The policy asks for no approvals for '{environment}'.")
    return rule.max_valid_hours


@dataclass(frozen=True, slots=True)
class Approver:
    """Somebody who can sign, and where it is written."""

    policy: Policy
    signer: StatementSigner
    verifier: Verifier
    attach: Callable[[Subject, bytes], Digest]
    """Lays a bundle beside an artifact; returns the bundle's digest."""
    ledger: Ledger

    def approve(self, seen: Decision, wish: Wish) -> Attestation:
        """Sign an approval, lay it beside the artifact, and record it.

        Raises:
            NotNamedError: the policy does not name the signer for this; nothing was written.
            PratiqueError: as `approval_statement`, and as signing, attaching and recording do.
        """
        statement = approval_statement(self.policy, seen, wish)
        bundle = self.signer.sign(statement.payload)
        attestation = self.verifier.verify(bundle)
        document = self.policy.document
        table = document.break_glass if wish.is_break_glass else document.rules.approvals
        names = table.signers if table is not None else ()
        party = next((name for name in names if document.accepts(name, attestation.signer)), None)
        if party is None:
            raise NotNamedError(
                f"{attestation.signer} is not among {', '.join(names)}, whom the policy names for this",
                hint="Sign with the key or the identity that the policy has for you.",
            )
        self.attach(Subject(seen.repository, seen.digest), bundle)
        self.ledger.append(
            "approval",
            seen.digest,
            RecordedStatement(statement=statement.digest, bundle=attestation.bundle, predicate_type=APPROVAL),
            environment=seen.environment,
            actor=str(attestation.signer),
        )
        return attestation


class Revocation(msgspec.Struct, frozen=True, kw_only=True):
    """What the ledger's entry of a revocation says."""

    what: Literal["image", "bundle", "key", "statement"]
    reason: str


def revoke(ledger: Ledger, digest: Digest, revocation: Revocation, *, actor: str) -> Entry:
    """Record that something is not to be trusted any more, for good.

    Raises:
        CallerError: there is no reason.
    """
    if not revocation.reason.strip():
        raise CallerError("A revocation needs a reason.", hint="Say why: --reason.")
    return ledger.append("revocation", digest, revocation, actor=actor)
