"""What the commands of the release gate have in common: the rooms that they open, and who asks."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pratique.core.clock import Clock
    from pratique.release.ledger.interface import Ledger
    from pratique.release.policy.acts import Desk
    from pratique.release.policy.document import Policy
    from pratique.release.policy.gate import Gate, Question
    from pratique.release.policy.settings import PolicySettings
    from pratique.release.settings import ReleaseSettings
    from pratique.release.signing.interface import Dossier, StatementSigner, Verifier
    from pratique.release.values import Subject

__all__ = ["Rooms", "question", "rooms_of", "user"]


@dataclass(frozen=True, slots=True)
class Rooms:
    """A registry, a ledger and a verifier, as the settings name them."""

    load_dossier: Callable[[Subject], Dossier]
    attach: Callable[[Subject, bytes], object]
    ledger: Ledger
    verifier: Verifier
    policy: PolicySettings
    clock: Clock

    def gate(self, file: Path | None, digest: str | None) -> Gate:
        """Read the policy and put a gate before the rest. What is given comes before the settings."""
        from pratique.release.policy.gate import Gate, read_policy

        named = file or self.policy.file or Path("promotion.toml")
        reviewed = read_policy(named, expected=digest or self.policy.digest)
        return Gate(policy=reviewed, load_dossier=self.load_dossier, ledger=self.ledger, clock=self.clock)

    def desk(self, policy: Policy, signer: StatementSigner) -> Desk:
        """Return where somebody signs."""
        from pratique.release.policy.acts import Desk

        return Desk(policy, signer, self.verifier, self.attach, self.ledger)


def rooms_of(settings: ReleaseSettings, ledger: Ledger) -> Rooms:
    """Put the registry and the verifier that the settings name beside a ledger.

    Raises:
        PratiqueError: a key, a trust root or a file of authorities cannot be read.
    """
    from datetime import UTC, datetime

    from pratique.cli._signing import open_registry
    from pratique.core.clock import SystemClock
    from pratique.release.signing.attach import attach
    from pratique.release.signing.build import open_verifier
    from pratique.release.signing.dossier import load_dossier

    clock, verifier, registry = SystemClock(), open_verifier(settings.signing), open_registry(settings)
    return Rooms(
        load_dossier=lambda subject: load_dossier(registry, subject, verifier),
        attach=lambda subject, bundle: attach(registry, subject, bundle, at=datetime.fromtimestamp(clock.epoch(), UTC)),
        ledger=ledger,
        verifier=verifier,
        policy=settings.policy,
        clock=clock,
    )


def question(digest: str, repository: str, environment: str, authors: list[str] | None) -> Question:
    """Return what the gate is asked.

    Raises:
        DigestError: the digest is none.
    """
    from pratique.release.policy.gate import Question
    from pratique.release.values import Subject, parse_digest

    return Question(Subject(repository, parse_digest(digest)), environment, frozenset(authors or ()))


def user() -> str:
    """Say who runs this, as the system has it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        return "unknown"
