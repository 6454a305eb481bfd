"""How findings are gathered: few of each kind, allowed ones as notes, in an order that does not change. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Final

import msgspec

from pratique.release.evidence.hygiene.settings import Allowance
from pratique.release.predicates import Finding

__all__ = ["settle"]

MAX_OF_A_RULE: Final = 50
_LEVELS: Final = ("error", "warning", "note")


def settle(findings: Iterable[Finding], allowances: Iterable[Allowance]) -> tuple[Finding, ...]:
    """Return findings by level, rule and place; allowed ones as notes; of each rule at most MAX_OF_A_RULE."""
    allowed = tuple(allowances)
    told = sorted(
        {_judged(finding, allowed) for finding in findings},
        key=lambda one: (_LEVELS.index(one.level), one.rule, one.where, one.message),
    )
    counts: Counter[tuple[str, str]] = Counter()
    kept = []
    for finding in told:
        key = finding.level, finding.rule
        counts[key] += 1
        if counts[key] <= MAX_OF_A_RULE:
            kept.append(finding)
    for (level, rule), count in counts.items():
        if count > MAX_OF_A_RULE:
            last = next(one for one in reversed(kept) if (one.level, one.rule) == (level, rule))
            more = msgspec.structs.replace(last, where="", message=f"and {count - MAX_OF_A_RULE} more")
            kept.insert(kept.index(last) + 1, more)
    return tuple(kept)


def _judged(finding: Finding, allowances: Iterable[Allowance]) -> Finding:
    for allowance in allowances:
        if allowance.rule == finding.rule and fnmatchcase(finding.where, allowance.where):
            message = f"{finding.message} Allowed: {allowance.reason}"
            return msgspec.structs.replace(finding, level="note", message=message)
    return finding
