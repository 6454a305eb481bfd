"""A canary beside what is in production showed, on enough traffic, that the new one is no worse. Pure.

Inconclusive is not passed. Where nothing is in production there is nothing to compare with, and where this very
artifact is, it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from pratique.release.policy.decision import Reason, RuleResult, Unknown
from pratique.release.policy.document import CanaryRule
from pratique.release.policy.selection import Case, Query, Read, latest, measurements, reason, result, undecided
from pratique.release.predicates import CANARY, Canary
from pratique.release.values import Digest

__all__ = ["judge_canary"]

_MEND = "Run a canary of this artifact beside what is in production; where it fails, mend the build."


def judge_canary(case: Case, rule: CanaryRule) -> RuleResult:
    """Judge the latest canary."""
    baseline = case.facts.in_production
    if isinstance(baseline, Unknown):
        return undecided("canary", baseline)
    if baseline is None or baseline == case.dossier.subject.digest:
        return result("canary", ())
    query = Query(
        predicate_type=CANARY,
        names=rule.signers,
        kind=Canary,
        what="canary",
        mend=_MEND,
        time_of=lambda canary: canary.ended_at,
    )
    read, reasons = measurements(case, query)
    counted = latest(read, query.time_of)
    found = (why for one in counted for why in _problems(case, rule, one, baseline))
    return result("canary", (*reasons, *found), (one.accepted for one in counted))


def _problems(case: Case, rule: CanaryRule, read: Read[Canary], baseline: Digest) -> Iterator[Reason]:
    canary, digest = read.content, read.accepted.digest
    seconds = (canary.ended_at - canary.started_at).total_seconds()
    if canary.baseline != baseline:
        what = f"the canary was compared with {canary.baseline}, in production is {baseline}"
        yield reason("outdated", what, mend=_MEND, statement=digest)
    if case.facts.now - canary.ended_at > timedelta(hours=rule.max_age_hours):
        what = f"the canary ended at {canary.ended_at.isoformat()}, at most {rule.max_age_hours:g} hours are allowed"
        yield reason("stale", what, mend=_MEND, statement=digest)
    if seconds < rule.min_seconds:
        yield _failed(f"the canary took {seconds:g} s, at least {rule.min_seconds:g} s are required", digest)
    if not rule.min_share <= canary.share <= 1:
        yield _failed(
            f"the canary had {canary.share:g} of the traffic, at least {rule.min_share:g} is required", digest
        )
    if canary.verdict != "pass":
        yield _failed(f"the canary's verdict is '{canary.verdict}'", digest)
    yield from _metric_problems(rule, canary, digest)


def _metric_problems(rule: CanaryRule, canary: Canary, digest: Digest) -> Iterator[Reason]:
    for name in rule.metrics:
        if name not in {one.metric for one in canary.metrics}:
            yield _failed(f"the canary did not measure '{name}'", digest)
    for one in canary.metrics:
        if one.verdict != "pass":
            yield _failed(f"the canary's '{one.metric}' is '{one.verdict}': {one.reason}", digest)
        samples = min(one.num_old, one.num_new)
        if one.metric in rule.metrics and samples < rule.min_samples:
            what = f"the canary's '{one.metric}' has {samples} samples on one side, {rule.min_samples} are required"
            yield _failed(what, digest)


def _failed(what: str, digest: Digest) -> Reason:
    return reason("failed", what, mend=_MEND, statement=digest)
