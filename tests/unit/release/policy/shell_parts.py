"""A ledger, a signer and a registry of evidence in memory, with faults that can be switched on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec
from tests.unit.release.policy.evidence_set import NOW, PARTIES, PRODUCTION, SUBJECT, dossier, policy

from pratique.core.clock import ManualClock
from pratique.release.errors import ConflictError, UnavailableError
from pratique.release.ledger.interface import Entry, EntryKind, Head
from pratique.release.policy.gate import Gate, Question
from pratique.release.signing.interface import Attestation, Dossier
from pratique.release.statements import parse_statement
from pratique.release.values import Digest, Signer, Subject, digest_of


@dataclass
class ListLedger:
    """Entries in a list; `before_append` runs once before the next entry is written."""

    written: list[Entry] = field(default_factory=list)
    is_away: bool = False
    is_read_only: bool = False
    before_append: Callable[[], object] | None = None

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
        before, self.before_append = self.before_append, None
        if before is not None:
            before()
        if self.is_away or self.is_read_only:
            raise UnavailableError("the ledger does not answer")
        if expected_size is not None and expected_size != len(self.written):
            raise ConflictError("the ledger has grown")
        content = msgspec.json.encode(body)
        entry = Entry(
            index=len(self.written),
            at=NOW,
            kind=kind,
            subject=subject,
            environment=environment,
            body=content,
            actor=actor,
            previous=digest_of(b""),
            hash=digest_of(content),
        )
        self.written.append(entry)
        return entry

    def entries(
        self,
        *,
        kinds: tuple[EntryKind, ...] = (),
        subject: Digest | None = None,
        environment: str | None = None,
        newest_first: bool = False,
    ) -> Iterator[Entry]:
        if self.is_away:
            raise UnavailableError("the ledger does not answer")
        for entry in reversed(self.written) if newest_first else self.written:
            if (
                (not kinds or entry.kind in kinds)
                and subject in {None, entry.subject}
                and environment in {None, entry.environment}
            ):
                yield entry

    def head(self) -> Head:
        if self.is_away:
            raise UnavailableError("the ledger does not answer")
        return Head(len(self.written), digest_of(b"head"), b"")

    def verify(self) -> int:
        return len(self.written)


def ledger() -> ListLedger:
    """One in which an image went to production, and this one after that to staging."""
    made = ListLedger()
    made.append("promotion", digest_of(b"older"), {}, environment="production", actor="rollout")
    made.append("promotion", PRODUCTION, {}, environment="production", actor="rollout")
    made.append("promotion", SUBJECT.digest, {}, environment="staging", actor="rollout")
    return made


def clock() -> ManualClock:
    return ManualClock(epoch_seconds=NOW.timestamp())


def gate(book: ListLedger, evidence: Dossier | None = None) -> Gate:
    there = evidence or dossier()
    return Gate(policy=policy(), load_dossier=lambda _: there, ledger=book, clock=clock())


QUESTION = Question(SUBJECT, "production")


@dataclass
class NamedSigner:
    """Signs by writing the payload down; `NamedVerifier` believes it."""

    signer: Signer

    def sign(self, payload: bytes) -> bytes:
        return payload


@dataclass
class NamedVerifier:
    signer: Signer

    def verify(self, bundle: bytes) -> Attestation:
        return Attestation(parse_statement(bundle), self.signer, datetime(2026, 1, 1, tzinfo=UTC), digest_of(bundle))


@dataclass
class Shelf:
    """Where bundles are laid."""

    laid: list[tuple[Subject, bytes]] = field(default_factory=list)

    def attach(self, subject: Subject, bundle: bytes) -> Digest:
        self.laid.append((subject, bundle))
        return digest_of(bundle)


BEN = PARTIES["ben"]
