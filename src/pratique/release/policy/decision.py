"""What the gate says: a verdict, and for each rule why, and what to do about it.

These types are the JSON of `pratique gate --json` and the body of the ledger's entry; their schema is
docs/release/decision.schema.json. `allow` is said only where every rule passed or was waived by break-glass.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

import msgspec

from pratique.release.values import Digest

__all__ = [
    "EXIT_CODES",
    "NEVER_WAIVED",
    "BreakGlassUse",
    "Code",
    "Decision",
    "Evidence",
    "Facts",
    "Outcome",
    "Reason",
    "RuleName",
    "RuleResult",
    "Unknown",
    "Verdict",
]

Verdict = Literal["allow", "block", "undecided"]
EXIT_CODES: Final[dict[Verdict, int]] = {"allow": 0, "block": 1, "undecided": 3}
Outcome = Literal["pass", "fail", "undecided", "waived"]
RuleName = Literal[
    "scope",
    "signature",
    "revocation",
    "record",
    "sbom",
    "vulnerabilities",
    "provenance",
    "dependencies",
    "hygiene",
    "evaluation",
    "approvals",
    "canary",
]
NEVER_WAIVED: Final[frozenset[RuleName]] = frozenset({"scope", "signature", "revocation"})
"""No emergency makes a stranger's image ours, or a revoked one safe."""

Code = Literal[
    "missing",
    "unproved",
    "stranger",
    "revoked",
    "other_subject",
    "malformed",
    "from_the_future",
    "stale",
    "expired",
    "too_long",
    "other_environment",
    "outdated",
    "own_work",
    "author_unknown",
    "too_few",
    "incomplete",
    "vulnerable",
    "wrong_origin",
    "unreviewed",
    "unclean",
    "too_large",
    "failed",
    "not_covered",
    "removed",
    "unknown",
]
"""Stable names of reasons, for programs."""


class _Value(msgspec.Struct, frozen=True, kw_only=True):
    """Base of what is written; every member always is."""


class Reason(_Value, frozen=True, kw_only=True):
    """One thing that is not as it has to be."""

    code: Code
    message: str
    """What was expected, what was found, and where."""
    mend: str
    """What to do."""
    statement: Digest | None = None
    """The statement that it is about."""


class Evidence(_Value, frozen=True, kw_only=True):
    """A statement that counted."""

    statement: Digest
    bundle: Digest
    predicate_type: str
    party: str
    """The name in the policy's `[signers]`."""
    signer: str
    signed_at: datetime | None


class RuleResult(_Value, frozen=True, kw_only=True):
    """What one rule says."""

    rule: RuleName
    outcome: Outcome
    reasons: tuple[Reason, ...] = ()
    evidence: tuple[Evidence, ...] = ()


class BreakGlassUse(_Value, frozen=True, kw_only=True):
    """Who let it through in spite of rules, and why."""

    people: tuple[str, ...]
    reasons: tuple[str, ...]
    """One of each."""
    expires_at: datetime
    """When the first of them ends."""
    waived: tuple[RuleName, ...]
    evidence: tuple[Evidence, ...]


class Decision(_Value, frozen=True, kw_only=True):
    """What was decided about an artifact, for an environment, by a policy, at a time."""

    schema_version: Literal[1] = 1
    verdict: Verdict
    repository: str
    digest: Digest
    environment: str
    decided_at: datetime
    policy: Digest
    """Of the file's bytes."""
    rules: tuple[RuleResult, ...]
    break_glass: BreakGlassUse | None = None

    @property
    def exit_code(self) -> int:
        """0 allow, 1 block, 3 undecided."""
        return EXIT_CODES[self.verdict]


@dataclass(frozen=True, slots=True)
class Unknown:
    """A fact that could not be found out, and why. It never counts as good news."""

    reason: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What is true around the artifact, and not said by statements about it."""

    now: datetime
    environment: str
    in_production: Digest | Unknown | None
    """The image that runs in the policy's baseline environment; None: none yet."""
    revoked: frozenset[Digest] | Unknown
    """Images, keys, bundles and statements."""
    recorded: frozenset[Digest] | Unknown = frozenset()
    """The statements about this image that the ledger knows: one that is gone was taken away."""
    authors: frozenset[str] = frozenset()
    """E-mail addresses of who wrote the source commit, beside those that provenance names."""
