"""An append-only list of entries, each holding the hash of the one before; heads are signed.

The same contract holds for SQLite, DynamoDB and memory. What is returned was verified: a ledger whose links or heads
do not hold is not opened.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from pratique.release.values import Digest

__all__ = ["Entry", "EntryKind", "Head", "Ledger"]

EntryKind = Literal[
    "build",
    "evidence",
    "decision",
    "approval",
    "break_glass",
    "rollout",
    "canary",
    "promotion",
    "rollback",
    "revocation",
    "alert",
]
"""A "rollout" is a step of a promotion or a rollback; "promotion" and "rollback" say that the subject has all traffic
of the environment."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened."""

    index: int
    """0, 1, 2, …, without a gap."""
    at: datetime
    kind: EntryKind
    subject: Digest
    """The artifact that it is about; of a revocation, what is revoked."""
    environment: str
    """"production", for example; empty where it is about none."""
    body: bytes
    """JSON in canonical form (RFC 8785), by the kind."""
    actor: str
    """Who did it, as the signer's identity reads; who ran the command where nobody signed."""
    previous: Digest
    """The hash of the entry before; of the first, the hash of the ledger's name."""
    hash: Digest


@dataclass(frozen=True, slots=True)
class Head:
    """How long the ledger is and what its last entry hashes to, signed."""

    size: int
    hash: Digest
    bundle: bytes
    """A signed statement of both."""


class Ledger(Protocol):
    """Reads and appends. Safe to use from several threads and processes.

    Every method raises UnavailableError where the store cannot be asked, and VerificationError where what it holds was
    changed.
    """

    def append(
        self,
        kind: EntryKind,
        subject: Digest,
        body: object,
        *,
        environment: str = "",
        actor: str,
        expected_size: int | None = None,
    ) -> Entry:
        """Add an entry, durably, and sign the new head.

        The body is what msgspec can write as a JSON object. With `expected_size` the ledger must have as many entries:
        nothing was added since the caller looked.

        Raises:
            ConflictError: it has more.
        """
        ...

    def entries(
        self,
        *,
        kinds: tuple[EntryKind, ...] = (),
        subject: Digest | None = None,
        environment: str | None = None,
        newest_first: bool = False,
    ) -> Iterator[Entry]:
        """Go through the entries, all or those of some kind, about some artifact or environment."""
        ...

    def head(self) -> Head:
        """Return the head that was signed last."""
        ...

    def verify(self) -> int:
        """Check every link and every signed head anew; return the number of entries."""
        ...
