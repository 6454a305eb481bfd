"""The decision: a policy, the evidence, and the facts around it; nothing else goes in. Pure.

Every rule is judged even where one has failed, so that a person sees all that has to be mended. Any rule that fails
blocks; any that could not be judged leaves it undecided; allowed is only what passed them all. Break-glass turns
failures into waived ones, but never those of `NEVER_WAIVED`, and never what is not known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import msgspec

from pratique.release.policy.decision import (
    NEVER_WAIVED,
    BreakGlassUse,
    Decision,
    Facts,
    RuleName,
    RuleResult,
    Unknown,
    Verdict,
)
from pratique.release.policy.document import Document, Policy
from pratique.release.policy.people import person
from pratique.release.policy.rules.approvals import judge_approvals, judge_break_glass
from pratique.release.policy.rules.canary import judge_canary
from pratique.release.policy.rules.dependencies import judge_dependencies
from pratique.release.policy.rules.evaluation import judge_evaluation
from pratique.release.policy.rules.hygiene import judge_hygiene
from pratique.release.policy.rules.provenance import judge_provenance
from pratique.release.policy.rules.sbom import judge_sbom
from pratique.release.policy.rules.signature import judge_signature
from pratique.release.policy.rules.standing import judge_record, judge_revocation, judge_scope
from pratique.release.policy.rules.vulnerabilities import judge_vulnerabilities
from pratique.release.policy.selection import Case, undecided
from pratique.release.signing.interface import Dossier
from pratique.release.values import Subject

__all__ = ["evaluate", "evaluate_admission", "evaluate_trust"]

_STANDING: Final[tuple[RuleName, ...]] = ("scope", "revocation", "record", "signature")
_CONFIGURED: Final[tuple[RuleName, ...]] = (
    "sbom",
    "provenance",
    "vulnerabilities",
    "dependencies",
    "hygiene",
    "evaluation",
    "canary",
    "approvals",
)
_JUDGES: Final[dict[str, Callable[[Case, Any], RuleResult]]] = {
    "vulnerabilities": judge_vulnerabilities,
    "dependencies": judge_dependencies,
    "hygiene": judge_hygiene,
    "evaluation": judge_evaluation,
    "canary": judge_canary,
}
"""Those that need nothing of each other, each with its table of `Rules`."""


def evaluate(policy: Policy, subject: Subject, evidence: Dossier | Unknown, facts: Facts) -> Decision:
    """Decide about an artifact.

    Args:
        policy: what is required.
        subject: the artifact that is asked about.
        evidence: what lies beside it, verified; Unknown where it could not be read.
        facts: what is true around it. `facts.now` has a time zone.
    """
    use: BreakGlassUse | None = None
    if isinstance(evidence, Unknown):
        results = tuple(undecided(name, evidence) for name in _names(policy.document, facts.environment))
    else:
        authors = frozenset(filter(None, map(person, facts.authors)))
        case, results = _judge(Case(policy.document, evidence, facts, authors=authors), subject)
        use, results = _break_glass(case, results)
    return _decision(policy, subject, facts, results, use)


def evaluate_admission(policy: Policy, subject: Subject, evidence: Dossier | Unknown, facts: Facts) -> Decision:
    """Decide whether a canary may begin: by all of the policy but what its result is judged by. Arguments as above."""
    rules = msgspec.structs.replace(policy.document.rules, canary=None)
    before = replace(policy, document=msgspec.structs.replace(policy.document, rules=rules))
    return evaluate(before, subject, evidence, facts)


def evaluate_trust(policy: Policy, subject: Subject, evidence: Dossier | Unknown, facts: Facts) -> Decision:
    """Decide whether an artifact is still ours: of this policy, signed, and not revoked.

    That is what can be asked of one that was promoted before, when it is gone back to: its scan is old by then, and
    its approvals have expired. Arguments as of `evaluate`; there is no break-glass.
    """
    names: tuple[RuleName, ...] = ("scope", "revocation", "signature")
    if isinstance(evidence, Unknown):
        results = tuple(undecided(name, evidence) for name in names)
    else:
        case = Case(policy.document, evidence, facts)
        results = (judge_scope(case, subject), judge_revocation(case), judge_signature(case))
    return _decision(policy, subject, facts, results, None)


def _decision(
    policy: Policy, subject: Subject, facts: Facts, results: tuple[RuleResult, ...], use: BreakGlassUse | None
) -> Decision:
    return Decision(
        verdict=_verdict(results),
        repository=subject.repository,
        digest=subject.digest,
        environment=facts.environment,
        decided_at=facts.now,
        policy=policy.digest,
        rules=results,
        break_glass=use,
    )


def _names(document: Document, environment: str) -> tuple[RuleName, ...]:
    return (*_STANDING, *(name for name in _CONFIGURED if _holds(document, name, environment)))


def _holds(document: Document, name: RuleName, environment: str) -> bool:
    """Whether a rule is in the policy, and for this environment."""
    table = getattr(document.rules, name)
    return table is not None and (not table.environments or environment in table.environments)


def _judge(case: Case, subject: Subject) -> tuple[Case, tuple[RuleResult, ...]]:
    """Judge every rule; return what was learned on the way, too."""
    standing = (judge_scope(case, subject), judge_revocation(case), judge_record(case), judge_signature(case))
    rules, environment = case.document.rules, case.facts.environment
    found: list[RuleResult] = []
    # What the SBOM and the provenance say is needed by other rules, also where theirs does not hold.
    if rules.sbom is not None:
        sbom, sboms = judge_sbom(case, rules.sbom)
        case = replace(case, sboms=sboms)
        found.append(sbom)
    if rules.provenance is not None:
        provenance, authors = judge_provenance(case, rules.provenance)
        case = replace(case, authors=case.authors.union(filter(None, map(person, authors))))
        found.append(provenance)
    for name, judge in _JUDGES.items():
        if (rule := getattr(rules, name)) is not None:
            found.append(judge(case, rule))
    found = [one for one in found if _holds(case.document, one.rule, environment)]
    if rules.approvals is not None and _holds(case.document, "approvals", environment):
        found.append(judge_approvals(case, rules.approvals, found))
    return case, (*standing, *found)


def _break_glass(case: Case, results: tuple[RuleResult, ...]) -> tuple[BreakGlassUse | None, tuple[RuleResult, ...]]:
    """Waive what failed, where the policy, the rules and enough people let it."""
    rule = case.document.break_glass
    failed = tuple(one.rule for one in results if one.outcome == "fail")
    if rule is None or not failed or not NEVER_WAIVED.isdisjoint(failed):
        return None, results
    if rule.environments and case.facts.environment not in rule.environments:
        return None, results
    use = judge_break_glass(case, rule, failed)
    if use is None:
        return None, results
    waived = (msgspec.structs.replace(one, outcome="waived") if one.rule in failed else one for one in results)
    return use, tuple(waived)


def _verdict(results: tuple[RuleResult, ...]) -> Verdict:
    """Block where anything failed; allow only where there was something to pass, and all passed or was waived."""
    outcomes = {one.outcome for one in results}
    if "fail" in outcomes:
        return "block"
    return "allow" if outcomes and outcomes <= {"pass", "waived"} else "undecided"
