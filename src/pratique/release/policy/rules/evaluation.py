"""The model can do what it must: each required check reached the policy's threshold, on the expected questions. Pure.

Whether a check passed is computed here, from its value and the policy's threshold. What the report says of itself is
compared with its own numbers only: a report that contradicts itself was not made by what we know.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pratique.release.policy.decision import Reason, RuleResult
from pratique.release.policy.document import CheckRule, EvaluationRule
from pratique.release.policy.selection import Case, Query, Read, latest, measurements, reason, result
from pratique.release.predicates import EVALUATION, Check, Evaluation
from pratique.release.values import Digest

__all__ = ["judge_evaluation"]

_MEND = "Evaluate this build with the expected golden set; where it fails, mend the build."


def judge_evaluation(case: Case, rule: EvaluationRule) -> RuleResult:
    """Judge the evaluations that count."""
    query = Query(
        predicate_type=EVALUATION, names=rule.signers, kind=Evaluation, what="evaluation of the model", mend=_MEND
    )
    read, reasons = measurements(case, query)
    counted = latest(read)
    found = (why for one in counted for why in _problems(rule, one))
    return result("evaluation", (*reasons, *found), (one.accepted for one in counted))


def _problems(rule: EvaluationRule, read: Read[Evaluation]) -> Iterator[Reason]:
    report, digest = read.content, read.accepted.digest
    if report.golden_set != rule.golden_set:
        yield _failed(f"the golden set was {report.golden_set}, expected {rule.golden_set}", digest)
    if rule.model is not None and report.model != rule.model:
        yield _failed(f"the model was '{report.model}', expected '{rule.model}'", digest)
    for check in report.checks:
        if check.passed != _reaches(check.value, check.at, check.threshold):
            what = (
                f"the check '{check.name}' says passed={str(check.passed).lower()}, and its own numbers say otherwise"
            )
            yield reason("malformed", what, mend=_MEND, statement=digest)
    for wanted in rule.checks:
        yield from _check_problems(wanted, [one for one in report.checks if one.name == wanted.name], digest)
    required = {wanted.name for wanted in rule.checks}
    for check in report.checks:
        if check.name not in required and not check.passed:
            yield _failed(f"the check '{check.name}' failed by its own threshold", digest)


def _check_problems(wanted: CheckRule, found: list[Check], digest: Digest) -> Iterator[Reason]:
    if len(found) != 1:
        yield _failed(f"the check '{wanted.name}' stands {len(found)} times in the evaluation, expected once", digest)
        return
    [check] = found
    if check.at != wanted.at:
        what = f"the check '{check.name}' was held to at {check.at} a value, the policy asks for at {wanted.at}"
        yield reason("malformed", what, mend=_MEND, statement=digest)
    if not _reaches(check.value, wanted.at, wanted.threshold):
        what = f"the check '{check.name}' has {check.value:g}, at {wanted.at} {wanted.threshold:g} is required"
        yield _failed(what, digest)
    if check.num_samples < wanted.min_samples:
        what = f"the check '{check.name}' has {check.num_samples} samples, at least {wanted.min_samples} are required"
        yield _failed(what, digest)


def _reaches(value: float, at: Literal["least", "most"], threshold: float) -> bool:
    """Whether a value keeps a threshold; what is no number never does."""
    return value >= threshold if at == "least" else value <= threshold


def _failed(what: str, digest: Digest) -> Reason:
    return reason("failed", what, mend=_MEND, statement=digest)
