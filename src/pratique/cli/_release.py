"""What the commands of the release gate have in common: the rooms that they open, and who asks."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pratique.core.errors import CallerError

if TYPE_CHECKING:
    from datetime import datetime

    from pratique.core.clock import Clock
    from pratique.release.ledger.interface import Ledger
    from pratique.release.policy.acts import Desk
    from pratique.release.policy.document import Policy
    from pratique.release.policy.gate import Gate, Question
    from pratique.release.policy.settings import PolicySettings
    from pratique.release.settings import ReleaseSettings
    from pratique.release.signing.interface import Dossier, StatementSigner, Verifier
    from pratique.release.values import Subject

__all__ = ["Rooms", "opened", "question", "rooms_of", "time_of", "user"]


@dataclass(frozen=True, slots=True)
class Rooms:
    """A registry, a ledger and a verifier, as the settings name them."""

    load_dossier: Callable[[Subject], Dossier]
    attach: Callable[[Subject, bytes], object]
    ledger: Ledger
    signer: StatementSigner | None
    """None: nothing is written."""
    verifier: Verifier
    policy: PolicySettings
    clock: Clock

    def gate(self, file: Path | None, digest: str | None) -> Gate:
        """Read the policy and put a gate before the rest. The file that is given comes before the settings' one.

        Raises:
            CallerError: the settings pin another digest than is given: a flag loosens no pin.
        """
        from pratique.release.policy.gate import Gate, read_policy

        named = file or self.policy.file or Path("promotion.toml")
        pinned = self.policy.digest
        if digest and pinned and digest != pinned:
            raise CallerError(
                f"the settings pin the policy {pinned}, and {digest} is asked for",
                hint="Have the change reviewed, and set [release.policy] digest to it.",
            )
        reviewed = read_policy(named, expected=digest or pinned)
        return Gate(policy=reviewed, load_dossier=self.load_dossier, ledger=self.ledger, clock=self.clock)

    def desk(self, policy: Policy) -> Desk:
        """Return where somebody signs."""
        from pratique.release.policy.acts import Desk

        if self.signer is None:
            raise CallerError("Nobody is named who would sign.", hint="Say --key, or see [release.signing].")
        return Desk(policy, self.signer, self.verifier, self.attach, self.ledger)


@contextmanager
def opened(config: Path | None, sign: Callable[[ReleaseSettings], StatementSigner] | None = None) -> Iterator[Rooms]:
    """Open the rooms that the settings name, for as long as a command runs.

    Args:
        config: the settings' file.
        sign: says who signs, evidence and the ledger's heads; None: nothing is written.

    Raises:
        PratiqueError: as the settings, `rooms_of` and the ledger do.
    """
    from pratique.cli._signing import release_settings
    from pratique.release.ledger.build import open_ledger
    from pratique.release.signing.build import open_verifier

    settings = release_settings(config)
    if settings.ledger.backend == "sqlite" and settings.ledger.file is None:
        hint = (
            f"Add [release.ledger] with file to {config}." if config else "Say --config FILE, or set PRATIQUE_CONFIG."
        )
        raise CallerError("no settings say where the ledger is", hint=hint)
    signer = sign(settings) if sign is not None else None
    with open_ledger(settings.ledger, open_verifier(settings.signing), signer=signer) as ledger:
        yield rooms_of(settings, ledger, signer)


def rooms_of(settings: ReleaseSettings, ledger: Ledger, signer: StatementSigner | None = None) -> Rooms:
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
        signer=signer,
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


def time_of(text: str | None, flag: str) -> datetime | None:
    """Return the time that a flag gives.

    Raises:
        CallerError: it is none, or has no offset.
    """
    from pratique.release.decoding import MalformedError, parse_instant

    try:
        return parse_instant(text) if text is not None else None
    except MalformedError as error:
        raise CallerError(f"{flag} {text}: expected a time like 2026-06-30T12:00:00Z.") from error


def user() -> str:
    """Say who runs this, as the system has it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        return "unknown"
