"""What holds of every decision, whatever the policy says: its scope, that nothing is revoked, that nothing was removed.

None of these can be left out of a policy.
"""

from __future__ import annotations

from pratique.release.policy.decision import RuleResult, Unknown
from pratique.release.policy.patterns import matches
from pratique.release.policy.selection import Case, reason, result, undecided
from pratique.release.values import Subject

__all__ = ["judge_record", "judge_revocation", "judge_scope"]


def judge_scope(case: Case, asked: Subject) -> RuleResult:
    """The policy is for this repository and environment, and the evidence is of the artifact that was asked for."""
    reasons = []
    if case.dossier.subject != asked:
        reasons.append(
            reason(
                "other_subject",
                f"the evidence is of {case.dossier.subject.repository}@{case.dossier.subject.digest}, asked was"
                f" {asked.repository}@{asked.digest}",
                mend="This is a fault of the program that gathered it.",
            )
        )
    if not any(matches(pattern, asked.repository) for pattern in case.document.repositories):
        reasons.append(
            reason(
                "not_covered",
                f"the policy is for {', '.join(case.document.repositories)}, not for '{asked.repository}'",
                mend="Use the repository's own policy, or have this one reviewed for it.",
            )
        )
    if case.facts.environment not in case.document.environments:
        reasons.append(
            reason(
                "not_covered",
                f"the policy knows {', '.join(case.document.environments)}, not '{case.facts.environment}'",
                mend="Name one of these, or have the policy reviewed for another.",
            )
        )
    return result("scope", reasons)


def judge_revocation(case: Case) -> RuleResult:
    """The artifact itself is not revoked. Revoked statements, bundles and keys count for no rule."""
    if isinstance(case.facts.revoked, Unknown):
        return undecided("revocation", case.facts.revoked)
    digest = case.dossier.subject.digest
    if digest not in case.facts.revoked:
        return result("revocation", ())
    why = reason("revoked", f"{digest} is revoked", mend="Build and prove another; a revocation is not taken back.")
    return result("revocation", (why,))


def judge_record(case: Case) -> RuleResult:
    """Every statement about this artifact that the ledger recorded is still here, or revoked."""
    recorded, revoked = case.facts.recorded, case.facts.revoked
    if isinstance(recorded, Unknown):
        return undecided("record", recorded)
    here = {one.statement.digest for one in case.dossier.attestations}
    gone = recorded - here - (frozenset() if isinstance(revoked, Unknown) else revoked)
    return result(
        "record",
        (
            reason(
                "removed",
                f"the ledger recorded the statement {digest}, and it is not in the registry",
                mend="Attach it again; or revoke it, and make the evidence anew.",
                statement=digest,
            )
            for digest in sorted(gone)
        ),
    )
