"""Whether a model server may load an artifact: by who signed it, and by what the gate decided. Decides without I/O.

What is asked is what still holds long after a promotion: a signature, and a decision that was made then. Approvals and
scans have ended by the time a server restarts at night; that they held when it mattered is what the decision says.
Of several decisions for an environment the latest counts. What was decided in an emergency ends with the emergency.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from pratique.core.errors import CallerError
from pratique.release.errors import EvidenceError, VerificationError
from pratique.release.models.artifact import Kind, ModelArtifact
from pratique.release.policy.decision import Decision
from pratique.release.policy.document import Identity
from pratique.release.predicates import DECISION, RELEASE
from pratique.release.signing.interface import Attestation
from pratique.release.values import Digest

__all__ = ["Admitted", "NotAdmittedError", "Trust", "admit"]

MAX_SKEW: Final = timedelta(minutes=5)
"""How far clocks may be apart; what is later than that from now was not said yet."""


class NotAdmittedError(VerificationError):
    """The artifact is not signed, or not let through, by those whom the server believes."""

    code = "model_not_admitted"


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom a server believes, and about what."""

    signers: tuple[Identity, ...]
    """One of these signed the artifact."""
    environment: str = ""
    """The environment that the gate must have let it through to; empty: no decision is asked for."""
    deciders: tuple[Identity, ...] = ()
    """One of these signed the decision."""
    policy: Digest | None = None
    """The policy that must have been decided by; None: any."""
    max_decision_age: timedelta | None = None
    """None: a decision holds for as long as the artifact is served."""

    def __post_init__(self) -> None:
        """Refuse what would let anybody in."""
        if not self.signers:
            raise CallerError("expected somebody whose signature on a model is accepted, got nobody")
        if bool(self.environment) != bool(self.deciders):
            raise CallerError("a decision needs both: the environment that it is for, and whose word it is")
        if not self.environment and (self.policy is not None or self.max_decision_age is not None):
            raise CallerError("a policy or an age is asked of decisions, and no environment asks for one")


@dataclass(frozen=True, slots=True)
class Admitted:
    """An artifact that may be loaded, and why."""

    digest: Digest
    kind: Kind
    base: Digest | None
    files: Mapping[str, tuple[int, str]]
    """Of each file: its size in bytes and its SHA-256 in hexadecimal. Nothing else may be in the folder."""
    signer: str
    decision: Mapping[str, str] = field(default_factory=dict)
    """Of the decision, where one is asked for: environment, policy, time, and whose word it is."""

    def told(self) -> dict[str, object]:
        """Return what the server says of it."""
        return {
            "digest": self.digest,
            "kind": self.kind,
            "base": self.base,
            "signer": self.signer,
            "decision": dict(self.decision) or None,
        }


def admit(
    artifact: ModelArtifact, digest: Digest, attestations: Sequence[Attestation], *, trust: Trust, now: datetime
) -> Admitted:
    """Return the artifact where it may be loaded.

    Args:
        artifact: what the manifest says.
        digest: the manifest's.
        attestations: statements whose signatures hold, about whatever.
        trust: whom the server believes.
        now: the time.

    Raises:
        NotAdmittedError: nobody who is accepted signed it, or let it through.
    """
    about = [one for one in attestations if digest in one.statement.subjects]
    signed = [one for one in about if one.statement.predicate_type == RELEASE and _is_by(one, trust.signers)]
    if not signed:
        raise NotAdmittedError(
            f"nobody who is accepted has signed {digest}; {_seen(attestations, about)}",
            hint="`pratique sign` signs it; `pratique model pull` brings the signature here.",
        )
    decision = _decision(digest, about, trust, now) if trust.environment else {}
    return Admitted(
        digest=digest,
        kind=artifact.kind,
        base=artifact.base,
        files={file.name: (file.size_bytes, file.digest.removeprefix("sha256:")) for file in artifact.files},
        signer=str(signed[0].signer),
        decision=decision,
    )


def _is_by(attestation: Attestation, accepted: Iterable[Identity]) -> bool:
    return any(identity.matches(attestation.signer) for identity in accepted)


def _seen(attestations: Sequence[Attestation], about: Sequence[Attestation]) -> str:
    others = ", ".join(sorted({str(one.signer) for one in about})) or "nobody else has"
    return f"of {len(attestations)} signatures that hold, {len(about)} are about it, by: {others}"


def _decision(digest: Digest, about: Sequence[Attestation], trust: Trust, now: datetime) -> dict[str, str]:
    found = []
    for one in about:
        if one.statement.predicate_type == DECISION and _is_by(one, trust.deciders):
            try:
                decision = one.statement.read(Decision)
            except EvidenceError as error:  # a newer one, perhaps: an older must not take its place
                raise _refused(digest, f"a decision that counts cannot be read: {error.message}") from error
            if decision.environment == trust.environment:
                found.append((_with_times(decision, digest), one))
    if not found:
        raise _refused(digest, f"no accepted decision lets it through to '{trust.environment}'")
    decision, attestation = max(found, key=lambda pair: (pair[0].decided_at, pair[0].verdict != "allow"))
    if why := _problem(decision, digest, trust, now):
        raise _refused(digest, f"the latest decision for '{trust.environment}' {why}")
    return {
        "environment": decision.environment,
        "policy": decision.policy,
        "decided_at": decision.decided_at.isoformat(),
        "by": str(attestation.signer),
    }


def _with_times(decision: Decision, digest: Digest) -> Decision:
    """Return it where its times are instants: what has no offset cannot be compared."""
    times = [decision.decided_at, *([decision.break_glass.expires_at] if decision.break_glass is not None else [])]
    if any(at.tzinfo is None for at in times):
        raise _refused(digest, "a decision that counts has a time without an offset")
    return decision


def _problem(decision: Decision, digest: Digest, trust: Trust, now: datetime) -> str:
    if decision.digest != digest:
        return f"is about {decision.digest}"
    if decision.decided_at > now + MAX_SKEW:
        return f"was made at {decision.decided_at.isoformat()}, which is not in the past"
    if decision.verdict != "allow":
        return f"is '{decision.verdict}'"
    return _lapsed(decision, trust, now)


def _lapsed(decision: Decision, trust: Trust, now: datetime) -> str:
    """Say why what was allowed does not hold here and now; empty where it does."""
    glass = decision.break_glass
    if trust.policy is not None and decision.policy != trust.policy:
        return f"was made by the policy {decision.policy}, expected {trust.policy}"
    if trust.max_decision_age is not None and decision.decided_at < now - trust.max_decision_age:
        return f"was made at {decision.decided_at.isoformat()}, more than {trust.max_decision_age} ago"
    if glass is not None and glass.expires_at <= now:
        return f"was an emergency's, which ended at {glass.expires_at.isoformat()}"
    return ""


def _refused(digest: Digest, why: str) -> NotAdmittedError:
    return NotAdmittedError(
        f"{digest} may not be loaded: {why}",
        hint="`pratique gate --json` decides, `attest --type decision` signs, `pratique model evidence` fetches it.",
    )
