"""What people do to the gate: approve, break the glass, review, revoke. Says what is signed, and files it.

Nobody signs what they did not see: an approval names the statements that count now, by the same rules that the gate
will apply. What was signed is put before these rules once more, and only what counts there is laid beside the artifact
and recorded: an approval by a stranger, or by an author, is refused where it is made, not in the release.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Literal

import msgspec

from pratique.core.errors import CallerError, RefusedError
from pratique.release.errors import UnavailableError
from pratique.release.ledger.interface import Entry, Ledger
from pratique.release.ledger.recording import record_statement
from pratique.release.policy.decision import NEVER_WAIVED, Decision, RuleName, Unknown
from pratique.release.policy.document import Document, Policy
from pratique.release.policy.evaluate import evaluate
from pratique.release.policy.gate import Seen
from pratique.release.policy.rules.approvals import statements_to_approve
from pratique.release.policy.rules.dependencies import kind_of_change
from pratique.release.predicates import (
    APPROVAL,
    DEPENDENCY_DIFF,
    DEPENDENCY_REVIEW,
    Approval,
    Change,
    DependencyDiff,
    DependencyReview,
)
from pratique.release.signing.interface import Attestation, Dossier, StatementSigner, Verifier
from pratique.release.statements import Statement, make_statement
from pratique.release.values import Digest, Subject

__all__ = [
    "Desk",
    "DoesNotCountError",
    "Revocation",
    "ToReview",
    "Wish",
    "approval_statement",
    "approve",
    "changes_to_review",
    "review",
    "review_statement",
    "revoke",
]


class DoesNotCountError(RefusedError):
    """What was signed would count for nothing by the policy; nothing was written."""

    code = "does_not_count"


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants to let through."""

    reason: str
    valid_hours: float
    is_break_glass: bool = False


@dataclass(frozen=True, slots=True)
class Desk:
    """Where somebody signs, and where it is filed."""

    policy: Policy
    signer: StatementSigner
    verifier: Verifier
    attach: Callable[[Subject, bytes], object]
    """Lays a bundle beside an artifact."""
    ledger: Ledger


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
        raise CallerError(f"It would hold for {wish.valid_hours:g} hours, the policy allows at most {max_hours:g}.")
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


def approve(desk: Desk, seen: Seen, wish: Wish) -> Attestation:
    """Sign an approval, or break the glass; lay it beside the artifact, and record it.

    Raises:
        DoesNotCountError: the policy does not name the signer for this, or the signer wrote the source.
        PratiqueError: as `approval_statement`, and as signing, attaching and recording do.
    """
    signed = _sign(desk, approval_statement(desk.policy, seen.decision, wish))
    if wish.is_break_glass:
        glass = desk.policy.document.break_glass
        _require_named(desk, signed, glass.signers if glass is not None else ())
    else:
        _require_counting(desk, seen, signed, "approvals")
    return _file(desk, seen, signed)


@dataclass(frozen=True, slots=True)
class ToReview:
    """A diff that counts, and what in it has to be reviewed, each with the reason."""

    diff: Digest
    changes: tuple[tuple[Change, str], ...]


def changes_to_review(policy: Policy, seen: Seen) -> tuple[ToReview, ...]:
    """Return what the policy wants reviewed, of each diff that counts now; also what was reviewed already.

    Raises:
        CallerError: the policy asks for no reviews.
        UnavailableError: the evidence could not be read.
    """
    rule = policy.document.rules.dependencies
    if rule is None:
        raise CallerError("The policy asks for no reviews of dependencies.")
    dossier = _dossier(seen)
    counted = {
        evidence.bundle
        for result in seen.decision.rules
        if result.rule == "dependencies"
        for evidence in result.evidence
        if evidence.predicate_type == DEPENDENCY_DIFF
    }
    found = []
    for one in dossier.attestations:
        if one.bundle in counted:
            changes = one.statement.read(DependencyDiff).changes
            listed = tuple((change, kind) for change in changes if (kind := kind_of_change(rule, change)))
            found.append(ToReview(one.statement.digest, listed))
    return tuple(found)


def review_statement(seen: Seen, diff: Digest, *, accepted: Sequence[str], reason: str) -> Statement:
    """Write what a reviewer signs.

    Raises:
        CallerError: nothing is accepted, or there is no reason.
    """
    if not accepted:
        raise CallerError("A review accepts something.", hint="Name the packages: --accept pkg:…, without a version.")
    if not reason.strip():
        raise CallerError("A review needs a reason.", hint="Say why: --reason.")
    content = DependencyReview(diff=diff, accepted=tuple(sorted(set(accepted))), reason=reason.strip())
    return make_statement(seen.subject.digest, DEPENDENCY_REVIEW, content, name=seen.subject.repository)


def review(desk: Desk, seen: Seen, statement: Statement) -> Attestation:
    """Sign a review, lay it beside the artifact, and record it.

    Raises:
        DoesNotCountError: the policy does not name the signer for this, or the signer wrote the source.
        PratiqueError: as signing, attaching and recording do.
    """
    signed = _sign(desk, statement)
    _require_counting(desk, seen, signed, "dependencies")
    return _file(desk, seen, signed)


@dataclass(frozen=True, slots=True)
class _Signed:
    bundle: bytes
    attestation: Attestation


def _sign(desk: Desk, statement: Statement) -> _Signed:
    bundle = desk.signer.sign(statement.payload)
    return _Signed(bundle, desk.verifier.verify(bundle))


def _require_named(desk: Desk, signed: _Signed, names: Sequence[str]) -> None:
    signer = signed.attestation.signer
    if not any(desk.policy.document.accepts(name, signer) for name in names):
        raise DoesNotCountError(
            f"{signer} is not among {', '.join(names)}, whom the policy names for this",
            hint="Sign with the key or the identity that the policy has for you.",
        )


def _require_counting(desk: Desk, seen: Seen, signed: _Signed, rule: RuleName) -> None:
    """Have the rules say whether what was just signed counts."""
    dossier = _dossier(seen)
    with_it = replace(dossier, attestations=(*dossier.attestations, signed.attestation))
    decision = evaluate(desk.policy, seen.subject, with_it, seen.facts)
    result = next(one for one in decision.rules if one.rule == rule)
    if any(one.bundle == signed.attestation.bundle for one in result.evidence):
        return
    about = [why for why in result.reasons if why.statement == signed.attestation.statement.digest]
    why = about[0] if about else None
    raise DoesNotCountError(
        why.message if why else f"what was signed would count for nothing in the rule '{rule}'",
        hint=why.mend if why else None,
    )


def _file(desk: Desk, seen: Seen, signed: _Signed) -> Attestation:
    desk.attach(seen.subject, signed.bundle)
    record_statement(desk.ledger, seen.subject.digest, signed.attestation)
    return signed.attestation


def _dossier(seen: Seen) -> Dossier:
    if isinstance(seen.evidence, Unknown):
        raise UnavailableError(seen.evidence.reason)
    return seen.evidence


class Revocation(msgspec.Struct, frozen=True, kw_only=True):
    """What the ledger's entry of a revocation says."""

    what: Literal["image", "key", "statement"]
    """No bundle: anybody can write one anew around the same signed statement, with another digest."""
    reason: str


def revoke(ledger: Ledger, digest: Digest, revocation: Revocation, *, actor: str) -> Entry:
    """Record that something is not to be trusted any more, for good.

    Raises:
        CallerError: there is no reason.
    """
    if not revocation.reason.strip():
        raise CallerError("A revocation needs a reason.", hint="Say why: --reason.")
    return ledger.append("revocation", digest, revocation, actor=actor)
