"""What changed against production is known, and what must be reviewed was, by somebody who did not write it. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from pratique.release.policy.decision import Code, Reason, RuleResult, Unknown
from pratique.release.policy.document import DependenciesRule
from pratique.release.policy.selection import (
    Accepted,
    Case,
    Query,
    Read,
    find,
    latest,
    measurements,
    read_all,
    reason,
    result,
    undecided,
)
from pratique.release.predicates import DEPENDENCY_DIFF, DEPENDENCY_REVIEW, Change, DependencyDiff, DependencyReview

__all__ = ["judge_dependencies", "kind_of_change"]

_MEND_DIFF = "Compare with what is in production now, sign the diff and attach it."


def judge_dependencies(case: Case, rule: DependenciesRule) -> RuleResult:
    """Judge the diff against the image in production, and the reviews of that very diff."""
    baseline = case.facts.in_production
    if isinstance(baseline, Unknown):
        return undecided("dependencies", baseline)
    if baseline == case.dossier.subject.digest:
        return result("dependencies", ())  # it is in production: nothing differs from itself
    query = Query(
        predicate_type=DEPENDENCY_DIFF,
        names=rule.signers,
        kind=DependencyDiff,
        what="dependency diff",
        mend=_MEND_DIFF,
    )
    read, reasons = measurements(case, query)
    matching = [one for one in read if one.content.baseline == baseline and one.content.sbom in case.sboms]
    counted = latest(matching)
    found = [*reasons]
    if read and not counted:
        compared = ", ".join(f"{one.content.baseline or 'nothing'} by the SBOM {one.content.sbom}" for one in read)
        what = f"no diff compares the SBOM that counts with {baseline or 'nothing'}, which is in production: {compared}"
        found.append(reason("outdated", what, mend=_MEND_DIFF))
    used: list[Accepted] = []
    for diff in counted:
        reviews, notes = _reviews(case, rule, diff)
        used += [one.accepted for one in reviews]
        found += _unreviewed(rule, diff, reviews, notes)
    return result("dependencies", found, (*(one.accepted for one in counted), *used))


def _reviews(
    case: Case, rule: DependenciesRule, diff: Read[DependencyDiff]
) -> tuple[list[Read[DependencyReview]], list[Reason]]:
    """Return the reviews of a diff that count, and why others do not."""
    found = find(case, DEPENDENCY_REVIEW, rule.reviewers)
    read, broken = read_all(found, DependencyReview)
    counted, notes = [], [*broken, *found.ignored]
    for one in read:
        if one.content.diff != diff.accepted.digest:
            what = f"'{one.accepted.party}' reviewed another diff, {one.content.diff}"
            notes.append(_note("outdated", what, one))
        elif unknown := case.unknown_author:
            notes.append(_note("author_unknown", f"'{one.accepted.party}' may be the author: {unknown}", one))
        elif case.is_author(one.accepted.party):
            notes.append(_note("own_work", f"'{one.accepted.party}' wrote the source, and reviewed it", one))
        else:
            counted.append(one)
    return counted, notes


def _unreviewed(
    rule: DependenciesRule, diff: Read[DependencyDiff], reviews: list[Read[DependencyReview]], notes: list[Reason]
) -> Iterator[Reason]:
    accepted = {package for one in reviews for package in one.content.accepted}
    missing = [
        (one, kind)
        for one in diff.content.changes
        if (kind := kind_of_change(rule, one)) and one.package not in accepted
    ]
    for change, kind in missing:
        yield reason(
            "unreviewed",
            f"{change.package} {change.after or change.before or ''} is {kind}, and nobody accepted it",
            mend=f"Have one of {', '.join(rule.reviewers)} review the diff {diff.accepted.digest}.",
            statement=diff.accepted.digest,
        )
    if missing:
        yield from notes


def kind_of_change(rule: DependenciesRule, change: Change) -> str:
    """Say why a change must be reviewed; empty where it need not be."""
    if change.before is None:
        return "new" if "new" in rule.review else ""
    if change.after is None:
        return "removed" if "removed" in rule.review else ""
    if "licence" in rule.review and set(change.licences_before) != set(change.licences_after):
        return "under another licence"
    return "changed" if "changed" in rule.review and change.before != change.after else ""


def _note(code: Code, what: str, read: Read[DependencyReview]) -> Reason:
    return reason(
        code,
        what,
        mend="Have somebody else review the current diff.",
        statement=read.accepted.digest,
    )
