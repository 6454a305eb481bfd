"""The image carries nothing that it should not, by checks that really ran, and keeps to its budget. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from pratique.release.policy.decision import Reason, RuleResult
from pratique.release.policy.document import HygieneRule
from pratique.release.policy.selection import Case, Query, Read, latest, measurements, reason, result
from pratique.release.predicates import HYGIENE, Hygiene

__all__ = ["judge_hygiene"]


def judge_hygiene(case: Case, rule: HygieneRule) -> RuleResult:
    """Judge the inspections that count."""
    query = Query(
        predicate_type=HYGIENE,
        names=rule.signers,
        kind=Hygiene,
        what="hygiene report",
        mend="Inspect the image, sign the report and attach it.",
    )
    read, reasons = measurements(case, query)
    counted = latest(read)
    found = (why for one in counted for why in _problems(rule, one))
    return result("hygiene", (*reasons, *found), (one.accepted for one in counted))


def _problems(rule: HygieneRule, read: Read[Hygiene]) -> Iterator[Reason]:
    report, digest = read.content, read.accepted.digest
    for check in rule.required:
        if check not in report.checked:
            mend = "Inspect the image with a version that has this check."
            yield reason("incomplete", f"the check '{check}' did not run", mend=mend, statement=digest)
    for one in report.findings:
        if one.level == "error":
            mend = "Take it out of the image, and build anew."
            yield reason("unclean", f"{one.rule}: {one.message} ({one.where})", mend=mend, statement=digest)
    sizes = (
        ("is", report.size_bytes, rule.max_size_bytes, 1),
        ("wastes", report.wasted_bytes, rule.max_wasted_bytes, 0),
    )
    for verb, size, budget, least in sizes:
        if size < least:
            what = f"the report says that the image {verb} {size} bytes, which cannot be"
            yield reason("malformed", what, mend="Inspect the image anew.", statement=digest)
        if size > budget:
            what = f"the image {verb} {size} bytes, its budget is {budget}"
            yield reason("too_large", what, mend="Make it smaller, or have the budget reviewed.", statement=digest)
