"""What an audit says; the JSON of `pratique audit --json`, schema version 1.

A link holds where everything that it says was verified now. It is broken where something was found that cannot be
right, or what must be there is not. It is undecided where what is needed could not be read: nothing is known then.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, Literal

import msgspec

from pratique.release.values import Digest

__all__ = ["EXIT_CODES", "Event", "Fact", "Link", "LinkName", "Report", "Verdict", "worst"]

Verdict = Literal["holds", "broken", "undecided"]
EXIT_CODES: Final[dict[Verdict, int]] = {"holds": 0, "broken": 1, "undecided": 3}
LinkName = Literal["ledger", "running", "signature", "revocation", "source", "sbom", "evaluation", "evidence", "gate"]


class _Value(msgspec.Struct, frozen=True, kw_only=True):
    """Base of what is written; every member always is."""


class Fact(_Value, frozen=True, kw_only=True):
    """Something that was found out, for people and for programs."""

    name: str
    value: str


class Link(_Value, frozen=True, kw_only=True):
    """One link from the digest back to its source."""

    name: LinkName
    verdict: Verdict
    reason: str
    facts: tuple[Fact, ...] = ()


class Event(_Value, frozen=True, kw_only=True):
    """An entry of the ledger that concerns the digest, held against what lies in the registry and what came before."""

    index: int
    at: datetime
    kind: str
    environment: str
    actor: str
    hash: Digest
    summary: str
    verdict: Verdict
    reason: str
    is_loud: bool
    """Break-glass and revocations: nobody may read over them."""


class Report(_Value, frozen=True, kw_only=True):
    """The audit of one digest."""

    schema_version: Literal[1] = 1
    repository: str
    digest: Digest
    audited_at: datetime
    policy: Digest | None
    """Of the policy that says now whose word counts; None: none could be read."""
    verdict: Verdict
    links: tuple[Link, ...]
    events: tuple[Event, ...]
    unproved: tuple[Fact, ...]
    """What lies beside the image as evidence and proves nothing: where, and why."""

    @property
    def exit_code(self) -> int:
        """0 all hold, 1 something does not, 3 something could not be decided and nothing is known to be wrong."""
        return EXIT_CODES[self.verdict]


def worst(verdicts: tuple[Verdict, ...]) -> Verdict:
    """Return what several come to: one broken breaks all; nothing at all proves nothing."""
    if "broken" in verdicts:
        return "broken"
    return "undecided" if "undecided" in verdicts or not verdicts else "holds"
