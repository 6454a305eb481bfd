"""A ledger over a store: everything is verified when it is opened, and again when it is read.

To open: every link, no gap, each row's entry and head together, the signature of the last head, and that the head a
witness kept is one of its past. To append: what others added is verified first, the new head is signed, verified, and
written with its entry as one row. `verify` also checks the signature of every head there ever was.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from pratique.release.errors import ConflictError, UnavailableError, VerificationError
from pratique.release.ledger.chain import Chain, Happening, HeadMark, head_statement, read_head
from pratique.release.ledger.errors import LedgerBrokenError
from pratique.release.ledger.interface import Entry, EntryKind, Head
from pratique.release.ledger.store import LedgerStore, Row, TakenError
from pratique.release.ledger.witness import WitnessFile
from pratique.release.signing.interface import StatementSigner, Verifier
from pratique.release.values import Digest, Signer

__all__ = ["HeadTrust", "VerifiedLedger"]

_PAUSE_SECONDS: Final = (0.0, 0.05)


@dataclass(frozen=True, slots=True)
class HeadTrust:
    """Whose signed heads are believed."""

    verifier: Verifier
    signers: frozenset[Signer]

    def require(self, bundle: bytes, expected: HeadMark) -> None:
        """Check that one of the signers signed just this head.

        Raises:
            VerificationError: nobody did who is believed.
        """
        attestation = self.verifier.verify(bundle)
        if attestation.signer not in self.signers:
            raise LedgerBrokenError(
                f"the head of '{expected.ledger}' at {expected.size} entries is signed by {attestation.signer}, "
                f"who is not one of the {len(self.signers)} signers of this ledger",
                hint="Name the key in public_keys of [release.signing], or the identity in [release.ledger].",
            )
        read_head(attestation.statement, expected)


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass
class VerifiedLedger:
    """A ledger. Opened by `open`, which verifies it."""

    name: str
    store: LedgerStore
    trust: HeadTrust
    signer: StatementSigner | None = None
    """None: nothing is appended here."""
    witness: WitnessFile | None = None
    now: Callable[[], datetime] = _now
    wait_seconds: float = 60.0
    """How long an append tries where others always come first."""
    _chain: Chain = field(init=False)
    _lock: threading.RLock = field(init=False, default_factory=threading.RLock)

    @classmethod
    def open(
        cls,
        name: str,
        store: LedgerStore,
        trust: HeadTrust,
        *,
        signer: StatementSigner | None = None,
        witness: WitnessFile | None = None,
        now: Callable[[], datetime] = _now,
        wait_seconds: float = 60.0,
    ) -> VerifiedLedger:
        """Verify a ledger and return it.

        Raises:
            VerificationError: it is not what was written.
            UnavailableError: the store cannot be asked.
        """
        ledger = cls(name, store, trust, signer, witness, now, wait_seconds)
        ledger._chain = Chain(name)
        ledger._catch_up()
        ledger._require_witnessed()
        return ledger

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
        what = Happening(self.now(), kind, subject, environment, body, actor)
        deadline = time.monotonic() + self.wait_seconds
        while time.monotonic() < deadline:
            try:
                with self._lock, self.store.exclusive():
                    return self._append(what, expected_size)
            except TakenError:
                time.sleep(random.uniform(*_PAUSE_SECONDS))  # noqa: S311 - so that writers do not go in step
        raise UnavailableError(f"others added to '{self.name}' before us for {self.wait_seconds} s", hint="Try again.")

    def entries(
        self,
        *,
        kinds: tuple[EntryKind, ...] = (),
        subject: Digest | None = None,
        environment: str | None = None,
        newest_first: bool = False,
    ) -> Iterator[Entry]:
        with self._lock:
            self._catch_up()
            indices = self._chain.select(kinds, subject, environment, newest_first=newest_first)
        expected = iter(indices)
        for row in self.store.rows_at(indices):
            self._require_row(row, next(expected))
            yield row.entry
        if (missing := next(expected, None)) is not None:
            raise LedgerBrokenError(f"entry {missing} of '{self.name}' is gone")

    def head(self) -> Head:
        with self._lock:
            self._catch_up()
            mark = self._chain.mark
            return Head(mark.size, mark.hash, self._last_bundle())

    def verify(self) -> int:
        with self._lock:
            chain = Chain(self.name)
            size = self.store.size()
            for row in self.store.rows(0, size):
                chain.extend(row.entry)
                self.trust.require(row.bundle, chain.mark)
            _require_size(self.name, chain.size, size)
            chain.require_continues(self._chain.mark)
            self._chain = chain
            self._require_witnessed()
            return size

    @property
    def mark(self) -> HeadMark:
        """What the last head says that was verified."""
        with self._lock:
            return self._chain.mark

    def require_continues(self, mark: HeadMark) -> None:
        """Check that a head that was seen before is one of this ledger's past.

        Raises:
            LedgerBrokenError: it is not.
        """
        with self._lock:
            self._chain.require_continues(mark)

    def _append(self, what: Happening, expected_size: int | None) -> Entry:
        if self.signer is None:
            raise VerificationError(f"'{self.name}' was opened to be read: nobody is named who signs its heads")
        self._catch_up()
        if expected_size is not None and self._chain.size != expected_size:
            raise ConflictError(f"expected {expected_size} entries in '{self.name}', got {self._chain.size}")
        entry = self._chain.make(what)
        mark = HeadMark(self.name, entry.index + 1, entry.hash)
        bundle = self.signer.sign(head_statement(mark).payload)
        self.trust.require(bundle, mark)  # before it is written: a head that nobody believes would close the ledger
        self.store.add(Row(entry, bundle))
        self._chain.extend(entry)
        if self.witness is not None:
            self._keep(self.witness, mark)
        return entry

    def _keep(self, witness: WitnessFile, mark: HeadMark) -> None:
        try:
            witness.keep(mark)
        except UnavailableError as error:
            raise UnavailableError(
                f"entry {mark.size - 1} was added to '{self.name}', but its witness was not told: {error.message}",
                hint="Do not add it again. Mend the witness; the next append tells it all.",
            ) from error

    def _catch_up(self) -> None:
        """Verify what was added since; the signature of its last head covers all before it."""
        size = self.store.size()
        if size < self._chain.size:
            raise LedgerBrokenError(f"'{self.name}' had {self._chain.size} entries, and has {size}")
        last: Row | None = None
        for row in self.store.rows(self._chain.size, size):
            self._chain.extend(row.entry)
            last = row
        _require_size(self.name, self._chain.size, size)
        if last is not None:
            self.trust.require(last.bundle, self._chain.mark)

    def _require_row(self, row: Row, index: int) -> None:
        if row.entry.index != index:
            raise LedgerBrokenError(f"entry {index} of '{self.name}' is gone")
        with self._lock:
            self._chain.require(row.entry)

    def _last_bundle(self) -> bytes:
        size = self._chain.size
        if not size:
            return b""
        for row in self.store.rows_at([size - 1]):
            self._require_row(row, size - 1)
            return row.bundle
        raise LedgerBrokenError(f"entry {size - 1} of '{self.name}' is gone")

    def _require_witnessed(self) -> None:
        if self.witness is None:
            return
        kept = self.witness.load()
        if kept is not None:
            self._chain.require_continues(kept)
        elif self._chain.size:
            raise LedgerBrokenError(
                f"'{self.name}' has {self._chain.size} entries, and the witness that it should have is gone",
                hint="Compare with a head that was kept elsewhere, then write one: pratique ledger show --head --json",
            )


def _require_size(name: str, found: int, expected: int) -> None:
    if found != expected:
        raise LedgerBrokenError(f"'{name}' should have {expected} entries, and ends after {found}")
