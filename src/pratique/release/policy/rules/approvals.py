"""Enough people agree, each for this artifact, this environment and what is known now; and break-glass. Pure.

A person is a name in `[signers]`, so two keys of one are one. The author of the source does not count, and where the
author is not known nobody does. What an approval says counts only for the digest that its statement is about.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from pratique.release.policy.decision import BreakGlassUse, Code, Reason, RuleName, RuleResult
from pratique.release.policy.document import ApprovalsRule, BreakGlass
from pratique.release.policy.selection import Case, Read, find, read_all, reason, result
from pratique.release.predicates import APPROVAL, Approval
from pratique.release.values import Digest

__all__ = ["judge_approvals", "judge_break_glass", "statements_to_approve"]


@dataclass(frozen=True, slots=True)
class _Kind:
    """What an approval has to be like."""

    is_break_glass: bool
    max_valid_hours: float
    about: frozenset[Digest]
    by_author: bool
    """Whether the author's counts."""


def statements_to_approve(rule: ApprovalsRule, earlier: Iterable[RuleResult]) -> frozenset[Digest]:
    """Return what an approval has to name: the statements that counted for the rules it is about."""
    return frozenset(one.statement for result in earlier if result.rule in rule.about for one in result.evidence)


def judge_approvals(case: Case, rule: ApprovalsRule, earlier: Sequence[RuleResult]) -> RuleResult:
    """Count the people who approve of this artifact as it is known now."""
    kind = _Kind(
        is_break_glass=False,
        max_valid_hours=rule.max_valid_hours,
        about=statements_to_approve(rule, earlier),
        by_author=False,
    )
    counted, notes = _sort(case, rule.signers, kind)
    people = {one.accepted.party for one in counted}
    found: list[Reason] = []
    if unknown := case.unknown_author:
        found.append(
            reason(
                "author_unknown",
                unknown,
                mend="Build with a builder that records the authors of the commit, or name them: --author.",
            )
        )
    if len(people) < rule.count:
        what = f"{len(people)} of {rule.count} approvals for '{case.facts.environment}' are there"
        who = ", ".join(sorted(set(rule.signers) - people))
        found.append(reason("too_few", what, mend=f"Ask one of {who}: pratique approve."))
        found += notes
    return result("approvals", found, (one.accepted for one in counted))


def judge_break_glass(case: Case, rule: BreakGlass, failed: tuple[RuleName, ...]) -> BreakGlassUse | None:
    """Say who lets the artifact through in spite of the rules that failed; None: not enough people do.

    An author of the source may be among them, where somebody else agrees: at night there may be no third.
    """
    kind = _Kind(is_break_glass=True, max_valid_hours=rule.max_hours, about=frozenset(), by_author=True)
    counted, _ = _sort(case, rule.signers, kind)
    people = {one.accepted.party: one for one in counted if one.content.reason.strip()}
    if len(people) < rule.count or all(case.is_author(name) for name in people):
        return None
    return BreakGlassUse(
        people=tuple(sorted(people)),
        reasons=tuple(people[name].content.reason for name in sorted(people)),
        expires_at=min(one.content.expires_at for one in people.values()),
        waived=failed,
        evidence=tuple(people[name].accepted.evidence for name in sorted(people)),
    )


def _sort(case: Case, names: Sequence[str], kind: _Kind) -> tuple[list[Read[Approval]], list[Reason]]:
    """Return the approvals of a kind that count, and why others do not."""
    found = find(case, APPROVAL, names)
    read, broken = read_all(found, Approval)
    counted, notes = [], [*broken, *found.ignored]
    for one in read:
        if one.content.is_break_glass != kind.is_break_glass:
            continue
        if (why := _problem(case, one, kind)) is None:
            counted.append(one)
        else:
            code, what, mend = why
            notes.append(
                reason(code, f"the approval of '{one.accepted.party}' {what}", mend=mend, statement=one.accepted.digest)
            )
    return counted, notes


def _problem(case: Case, read: Read[Approval], kind: _Kind) -> tuple[Code, str, str] | None:
    approval, now = read.content, case.facts.now
    anew = "Approve again."
    if approval.environment != case.facts.environment:
        return "other_environment", f"is for '{approval.environment}'", f"Approve for '{case.facts.environment}'."
    if approval.expires_at <= now:
        return "expired", f"expired at {approval.expires_at.isoformat()}", anew
    if approval.expires_at > now + timedelta(hours=kind.max_valid_hours):
        until = approval.expires_at.isoformat()
        return "too_long", f"holds until {until}, longer than {kind.max_valid_hours:g} hours", anew
    if unseen := kind.about - set(approval.evidence):
        return "outdated", f"was given without having seen {', '.join(sorted(unseen))}", anew
    if case.is_author(read.accepted.party) and not kind.by_author:
        return "own_work", "is by an author of the source", "Ask somebody else."
    return None
