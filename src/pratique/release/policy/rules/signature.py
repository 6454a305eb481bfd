"""The image is signed by somebody who may release it. Pure."""

from __future__ import annotations

from pratique.release.policy.decision import RuleResult
from pratique.release.policy.selection import Case, find, reason, result
from pratique.release.predicates import RELEASE

__all__ = ["judge_signature"]


def judge_signature(case: Case) -> RuleResult:
    """One signature by an accepted signer is enough; those of strangers neither help nor harm."""
    names = case.document.rules.signature.signers
    found = find(case, RELEASE, names)
    if found.accepted:
        return result("signature", (), found.accepted)
    missing = reason(
        "missing",
        f"the image is not signed by {' or '.join(names)}",
        mend="Sign it where it is built, with a key or an identity that the policy names.",
    )
    return result("signature", (missing, *found.broken, *found.ignored))
