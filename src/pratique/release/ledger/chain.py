"""Entries, hashes and links: what follows what. Pure.

An entry's hash is the SHA-256 of its members in canonical JSON, the body by its digest and the hash of the entry before
among them; the first one follows the hash of the ledger's name. A head says how many entries there are and what the
last one hashes to. Sources: RFC 8785 (canonical JSON); RFC 6962, 3.5 (signed heads).
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, get_args

import msgspec
import rfc8785

from pratique.release.decoding import MalformedError, decode_json
from pratique.release.errors import DigestError
from pratique.release.ledger.errors import EntryError, LedgerBrokenError
from pratique.release.ledger.interface import Entry, EntryKind
from pratique.release.statements import Statement, make_statement
from pratique.release.values import Digest, digest_of, parse_digest

__all__ = [
    "HEAD",
    "MAX_BODY_BYTES",
    "Chain",
    "Happening",
    "HeadMark",
    "canonical",
    "format_time",
    "genesis",
    "head_statement",
    "parse_time",
    "read_head",
]

HEAD: Final = "urn:pratique:predicate:ledger-head:v1"
"""The predicate type of a signed head."""
MAX_BODY_BYTES: Final = 256 * 1024
"""What fits into an item of DynamoDB, with room to spare."""
_MAX_TEXT: Final = 1024
_ENTRY: Final = "urn:pratique:ledger:entry:v1"
_GENESIS: Final = "urn:pratique:ledger:genesis:v1"
_HASH_BYTES: Final = 32
_KINDS: Final = frozenset(get_args(EntryKind))


@dataclass(frozen=True, slots=True)
class Happening:
    """What is to become an entry."""

    at: datetime
    kind: EntryKind
    subject: Digest
    environment: str
    body: object
    actor: str


class HeadMark(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a head says, as it is signed."""

    ledger: str
    size: int
    hash: Digest


def genesis(name: str) -> Digest:
    """Return what the first entry of a ledger follows."""
    return digest_of(rfc8785.dumps({"ledger": name, "type": _GENESIS}))


def canonical(body: object) -> bytes:
    """Return a body in canonical form.

    Raises:
        EntryError: it is no JSON object, or too large.
    """
    try:
        plain = decode_json(msgspec.json.encode(body), dict[str, Any])
        written = rfc8785.dumps(plain)
    except (TypeError, ValueError, MalformedError, rfc8785.CanonicalizationError, RecursionError) as error:
        raise EntryError(f"the body of an entry cannot be written as canonical JSON: {error}") from error
    if len(written) > MAX_BODY_BYTES:
        raise EntryError(f"the body of an entry has {len(written)} bytes, at most {MAX_BODY_BYTES} are kept")
    return written


def format_time(at: datetime) -> str:
    """Return a time as entries have it: RFC 3339 in UTC, with microseconds.

    Raises:
        EntryError: it has no time zone.
    """
    if at.tzinfo is None:
        raise EntryError("the time of an entry must have a time zone")
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def parse_time(text: str) -> datetime:
    """Return the time of an entry.

    Raises:
        LedgerBrokenError: it is none.
    """
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise LedgerBrokenError(f"an entry has no time, but '{text[:50]}'") from error
    if at.tzinfo is None or format_time(at) != text:
        raise LedgerBrokenError(f"an entry has a time that is not written as it should be: '{text[:50]}'")
    return at


def head_statement(mark: HeadMark) -> Statement:
    """Return the statement that is signed: its subject is the hash of the last entry."""
    return make_statement(mark.hash, HEAD, mark, name=mark.ledger)


def read_head(statement: Statement, expected: HeadMark) -> None:
    """Check that a statement says just this of a ledger.

    Raises:
        LedgerBrokenError: it says something else.
        EvidenceError: it says nothing that is known.
    """
    if statement.predicate_type != HEAD:
        raise LedgerBrokenError(f"expected a signed head of a ledger, got a '{statement.predicate_type[:100]}'")
    found = statement.read(HeadMark)
    if found != expected or statement.subjects != (expected.hash,):
        raise LedgerBrokenError(
            f"expected the head of '{expected.ledger}' at {expected.size} entries, {expected.hash}; signed is "
            f"'{found.ledger[:100]}' at {found.size}, {found.hash[:80]}"
        )


class Chain:
    """What was verified of a ledger: the hash of each entry, and what entries are chosen by.

    So what a store leaves out, or shows under another kind, is noticed: it is known here what there is.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._genesis = genesis(name)
        self._hashes = bytearray()
        self._keys: list[tuple[str, str, str]] = []

    @property
    def size(self) -> int:
        return len(self._hashes) // _HASH_BYTES

    @property
    def mark(self) -> HeadMark:
        """The head: of an empty ledger, what its first entry will follow."""
        return HeadMark(self.name, self.size, self.hash_at(self.size))

    def hash_at(self, size: int) -> Digest:
        """Return what the entry hashes to that makes the ledger so long."""
        if size == 0:
            return self._genesis
        return Digest("sha256:" + self._hashes[(size - 1) * _HASH_BYTES : size * _HASH_BYTES].hex())

    def make(self, what: Happening) -> Entry:
        """Return the entry that follows; the chain stays as it is.

        Raises:
            EntryError: it cannot become one.
        """
        body, at = canonical(what.body), format_time(what.at)
        for name, text in (("environment", what.environment), ("actor", what.actor)):
            if len(text) > _MAX_TEXT or not text.isprintable():
                raise EntryError(f"the {name} of an entry must be printable and at most {_MAX_TEXT} characters")
        if what.kind not in _KINDS or not what.actor:
            raise EntryError(f"an entry needs an actor and a kind of {', '.join(sorted(_KINDS))}, got '{what.kind}'")
        try:
            parse_digest(what.subject)
        except DigestError as error:
            raise EntryError(f"the subject of an entry must be a digest: {error.message}") from error
        entry = Entry(
            index=self.size,
            at=parse_time(at),
            kind=what.kind,
            subject=what.subject,
            environment=what.environment,
            body=body,
            actor=what.actor,
            previous=self.hash_at(self.size),
            hash=Digest(""),
        )
        return replace(entry, hash=_hash_of(entry))

    def extend(self, entry: Entry) -> None:
        """Add an entry that was read, or made.

        Raises:
            LedgerBrokenError: it does not follow, or is not what its hash says.
        """
        if entry.index != self.size:
            raise LedgerBrokenError(f"expected entry {self.size} of '{self.name}', got entry {entry.index}")
        if entry.previous != self.hash_at(self.size):
            raise LedgerBrokenError(
                f"entry {entry.index} of '{self.name}' follows {entry.previous[:80]}, and the one before it hashes to "
                f"{self.hash_at(self.size)}"
            )
        self._require_hash(entry)
        self._hashes += bytes.fromhex(entry.hash.removeprefix("sha256:"))
        self._keys.append((sys.intern(entry.kind), sys.intern(entry.subject), sys.intern(entry.environment)))

    def select(
        self, kinds: Collection[EntryKind], subject: Digest | None, environment: str | None, *, newest_first: bool
    ) -> list[int]:
        """Return the indices of entries of some kind (empty: any), about an artifact or an environment (None: any)."""
        found = [
            index
            for index, (kind, about, place) in enumerate(self._keys)
            if (not kinds or kind in kinds) and subject in {None, about} and environment in {None, place}
        ]
        return found[::-1] if newest_first else found

    def require(self, entry: Entry) -> None:
        """Check that an entry is the one that was verified under its index.

        Raises:
            LedgerBrokenError: it is another.
        """
        if not 0 <= entry.index < self.size or entry.hash != self.hash_at(entry.index + 1):
            raise LedgerBrokenError(f"entry {entry.index} of '{self.name}' is not the one that was verified")
        self._require_hash(entry)

    def require_continues(self, mark: HeadMark) -> None:
        """Check that a head that was seen before is one of this ledger's past.

        Raises:
            LedgerBrokenError: the ledger is shorter, or went another way.
        """
        if mark.ledger != self.name or mark.size > self.size or self.hash_at(mark.size) != mark.hash:
            raise LedgerBrokenError(
                f"'{self.name}' has {self.size} entries and does not continue the head that was kept of "
                f"'{mark.ledger[:100]}' at {mark.size}, {mark.hash[:80]}: it was put back, or exchanged",
                hint="Find out who restored it, and restore a copy that is newer.",
            )

    def _require_hash(self, entry: Entry) -> None:
        if entry.hash != _hash_of(entry):
            raise LedgerBrokenError(f"entry {entry.index} of '{self.name}' was changed: its hash does not fit")


class _Hashed(msgspec.Struct, frozen=True):
    """What an entry's hash is over, the members in their order of RFC 8785.

    msgspec writes it as that RFC has it: no member needs more than printable text and a small integer. It takes a
    twentieth of the time, and opening a ledger is mostly this. A test holds both against each other.
    """

    actor: str
    at: str
    body: Digest
    environment: str
    index: int
    kind: str
    previous: Digest
    subject: Digest
    type: str = _ENTRY


def _hash_of(entry: Entry) -> Digest:
    hashed = _Hashed(
        entry.actor,
        format_time(entry.at),
        digest_of(entry.body),
        entry.environment,
        entry.index,
        entry.kind,
        entry.previous,
        entry.subject,
    )
    return digest_of(msgspec.json.encode(hashed))
