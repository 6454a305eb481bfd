"""What a model is held to: by the golden set itself, by a policy, and by what was said with the command. Pure.

Later ones win: set < policy < said. What was used goes into the evidence, and the gate holds the values to its policy
again: being lenient here lets nothing through there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from pratique.core.errors import CallerError
from pratique.release.errors import EvidenceError
from pratique.release.evaluation.golden import GoldenSet
from pratique.release.evaluation.scoring import GUARDS, MEASURES, Limit
from pratique.release.policy.document import EvaluationRule, Policy

__all__ = ["limits_of"]

_SHARES: Final = frozenset({"answers", "answers-low", "within-tolerance", "agreement"})


def limits_of(golden: GoldenSet, model: str, policy: Policy | None, said: Mapping[str, float]) -> dict[str, Limit]:
    """Return the limits for an evaluation.

    Args:
        golden: has thresholds of its own.
        model: what is evaluated.
        policy: its rule on evaluations comes before the set's thresholds; None: there is none.
        said: thresholds that come before both.

    Raises:
        CallerError: a threshold is for nothing that is measured, or is none.
        EvidenceError: the policy is about another golden set or another model.
    """
    limits = {name: Limit(threshold) for name, threshold in golden.header.thresholds.items()}
    if policy is not None:
        limits |= _of_policy(policy, golden, model)
    limits |= {name: Limit(threshold, limits.get(name, Limit(0.0)).min_samples) for name, threshold in said.items()}
    for name, limit in limits.items():
        if problem := _problem(name, limit.threshold):
            raise CallerError(f"the threshold for '{name}': {problem}")
    return limits


def _of_policy(policy: Policy, golden: GoldenSet, model: str) -> dict[str, Limit]:
    rule: EvaluationRule | None = policy.document.rules.evaluation
    if rule is None:
        raise CallerError("the policy has no [rules.evaluation]")
    if rule.golden_set != golden.digest:
        raise EvidenceError(f"the policy asks for the golden set {rule.golden_set}, this is {golden.digest}")
    if rule.model is not None and rule.model != model:
        raise EvidenceError(f"the policy asks for the model '{rule.model}', got '{model}'")
    for check in rule.checks:
        if MEASURES.get(check.name, check.at) != check.at:
            raise CallerError(f"the policy asks for '{check.name}' at {check.at}, it is measured the other way round")
    return {check.name: Limit(check.threshold, check.min_samples) for check in rule.checks}


def _problem(name: str, threshold: float) -> str:
    if name not in MEASURES:
        return f"this is not measured; measured are {', '.join(MEASURES)}"
    if not math.isfinite(threshold) or threshold < 0:
        return f"expected a number that is not negative, got {threshold}"
    if name in _SHARES and not 0 < threshold <= 1:
        return f"expected a share above 0 and at most 1, got {threshold}"
    if name in GUARDS and threshold != 0:
        return f"it is 0 always, got {threshold}"
    return ""
