"""What every ledger keeps and refuses, wherever it is kept. For DynamoDB the integration tests run the very same."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from pratique.release.errors import ConflictError, UnavailableError, VerificationError
from pratique.release.ledger.chain import genesis, head_statement
from pratique.release.ledger.errors import EntryError, LedgerBrokenError
from pratique.release.ledger.interface import Entry
from pratique.release.ledger.memory import MemoryStore
from pratique.release.ledger.sqlite import SqliteStore
from pratique.release.ledger.store import LedgerStore, Row
from pratique.release.ledger.verified import HeadTrust, VerifiedLedger
from pratique.release.ledger.witness import WitnessFile
from pratique.release.signing.keyed import KeyedSigner
from pratique.release.signing.keys import FileKey
from pratique.release.signing.publickey import parse_public_key
from pratique.release.signing.verifier import BundleVerifier
from pratique.release.statements import make_statement
from pratique.release.values import KeyIdentity, digest_of

pytestmark = pytest.mark.unit

IMAGE, OTHER = digest_of(b"image"), digest_of(b"other")
NAME = "releases"


@dataclass(frozen=True)
class Keys:
    """A key that signs heads, and the trust in it."""

    signer: KeyedSigner
    trust: HeadTrust

    @classmethod
    def make(cls) -> Keys:
        key = FileKey(ed25519.Ed25519PrivateKey.generate())
        public = parse_public_key(key.public_key_der)
        return cls(KeyedSigner(key), HeadTrust(BundleVerifier((public,)), frozenset({KeyIdentity(public.fingerprint)})))


KEYS = Keys.make()


@dataclass
class Case:
    """A place for a ledger, and hands that change what nobody may change."""

    connect: Callable[[], LedgerStore]
    put: Callable[[Row], None]
    """Put a row in the place of the one with its index."""
    remove: Callable[[int], None]
    made: list[LedgerStore] = field(default_factory=list)

    def open(self, name: str = NAME, keys: Keys = KEYS, **changes: Any) -> VerifiedLedger:
        self.made.append(self.connect())
        return VerifiedLedger.open(name, self.made[-1], keys.trust, **({"signer": keys.signer} | changes))

    def rows(self) -> list[Row]:
        store = self.connect()
        self.made.append(store)
        return list(store.rows(0, store.size()))


def add(ledger: VerifiedLedger, number: int = 0, **changes: Any) -> Entry:
    given: dict[str, Any] = {"kind": "build", "subject": IMAGE, "body": {"number": number}, "actor": "ci"}
    return ledger.append(**(given | changes))


def memory_case() -> Case:
    store = MemoryStore()

    def put(row: Row) -> None:
        store.kept[row.entry.index] = row

    return Case(lambda: store, put, store.kept.__delitem__)


def sqlite_case(file: Path) -> Case:
    def execute(*statements: tuple[str, tuple[Any, ...]]) -> None:
        with contextlib.closing(sqlite3.connect(file)) as connection, connection:
            connection.execute("DROP TRIGGER IF EXISTS entries_never_change")
            connection.execute("DROP TRIGGER IF EXISTS entries_never_go")
            for statement, values in statements:
                connection.execute(statement, values)

    def put(row: Row) -> None:
        entry = row.entry
        values = (
            entry.at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"), entry.kind, entry.subject, entry.environment, entry.body,
            entry.actor, entry.previous, entry.hash, row.bundle, entry.index,
        )  # fmt: skip
        columns = ("at", "kind", "subject", "environment", "body", "actor", "previous", "hash", "bundle")
        changed = ", ".join(f"{one} = ?" for one in columns)
        execute((f"UPDATE entries SET {changed} WHERE idx = ?", values))  # noqa: S608 - our own names

    def remove(index: int) -> None:
        execute(("DELETE FROM entries WHERE idx = ?", (index,)))

    return Case(lambda: SqliteStore(file, busy_seconds=10), put, remove)


@pytest.fixture(params=["memory", "sqlite"])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    made = memory_case() if request.param == "memory" else sqlite_case(tmp_path / "ledger.db")
    yield made
    for store in made.made:
        if isinstance(store, SqliteStore):
            store.close()


class TestAppending:
    def test_entries_follow_each_other_from_the_hash_of_the_name(self, case: Case) -> None:
        ledger = case.open()
        assert (ledger.head().size, ledger.head().hash, ledger.verify()) == (0, genesis(NAME), 0)
        first, second = add(ledger), add(ledger, 1, kind="promotion", environment="production")
        assert (first.index, first.previous, second.index, second.previous) == (0, genesis(NAME), 1, first.hash)
        assert list(ledger.entries()) == list(case.open().entries()) == [first, second]
        assert (ledger.head().size, ledger.head().hash, ledger.verify()) == (2, second.hash, 2)

    def test_the_time_is_kept_in_utc_to_the_microsecond(self, case: Case) -> None:
        at = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=timezone(timedelta(hours=9)))
        entry = add(case.open(now=lambda: at))
        assert entry.at == at
        assert entry.at.tzinfo is UTC
        assert [one.at for one in case.open().entries()] == [at]

    def test_a_body_is_kept_in_canonical_form(self, case: Case) -> None:
        entry = add(case.open(), body={"b": 1.0, "a": ["é", None, True], "c": {}})
        assert entry.body == '{"a":["é",null,true],"b":1,"c":{}}'.encode()

    @pytest.mark.parametrize(
        "changes",
        [{"body": [1]}, {"body": "text"}, {"body": {"n": 2**60}}, {"body": {"o": object()}},
         {"body": {"t": "x" * 300_000}},
         {"kind": "party"}, {"subject": "v1"}, {"actor": ""}, {"actor": "a\nb"}, {"environment": "e" * 1025}],
    )  # fmt: skip
    def test_what_cannot_be_an_entry_is_a_wrong_call(self, case: Case, changes: dict[str, Any]) -> None:
        ledger = case.open()
        with pytest.raises(EntryError):
            add(ledger, **changes)
        assert ledger.verify() == 0

    def test_an_entry_is_added_only_where_nothing_was_added_since(self, case: Case) -> None:
        one, two = case.open(), case.open()
        add(one, expected_size=0)
        with pytest.raises(ConflictError, match="expected 0 entries"):
            add(two, expected_size=0)
        assert add(two, expected_size=1).index == 1

    def test_what_one_adds_the_other_sees_and_continues(self, case: Case) -> None:
        one, two = case.open(), case.open()
        for number in range(3):
            add(one, number)
            add(two, number)
        assert list(one.entries()) == list(two.entries())
        assert one.verify() == two.verify() == 6
        assert one.head() == two.head()

    def test_writers_at_once_lose_nothing(self, case: Case) -> None:
        ledgers = [case.open() for _ in range(4)]

        def write(ledger: VerifiedLedger, base: int) -> None:
            for number in range(5):
                add(ledger, base + number)

        threads = [threading.Thread(target=write, args=(one, 100 * at)) for at, one in enumerate(ledgers * 2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert case.open().verify() == 40

    def test_a_reader_appends_nothing(self, case: Case) -> None:
        with pytest.raises(VerificationError, match="nobody is named who signs"):
            add(case.open(signer=None))

    def test_a_head_that_nobody_would_believe_is_not_written(self, case: Case) -> None:
        with pytest.raises(VerificationError):
            add(case.open(signer=Keys.make().signer))
        assert case.open().verify() == 0


class TestReading:
    def test_entries_are_found_by_kind_artifact_and_environment(self, case: Case) -> None:
        ledger = case.open()
        add(ledger, 0)
        add(ledger, 1, kind="promotion", environment="production")
        add(ledger, 2, kind="promotion", environment="staging")
        add(ledger, 3, kind="revocation", subject=OTHER)

        def found(**filters: Any) -> list[int]:
            return [entry.index for entry in ledger.entries(**filters)]

        assert found(kinds=("promotion",)) == [1, 2]
        assert found(kinds=("promotion", "revocation"), newest_first=True) == [3, 2, 1]
        assert found(subject=OTHER) == [3]
        assert found(environment="production") == [1]
        assert found(environment="") == [0, 3]
        assert found(subject=OTHER, kinds=("build",)) == []

    def test_more_entries_than_a_page_are_all_read(self, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
        for module in ("sqlite._PAGE", "dynamodb._BATCH"):
            monkeypatch.setattr(f"pratique.release.ledger.{module}", 3)
        ledger = case.open()
        for number in range(8):
            add(ledger, number, kind="build" if number % 2 else "alert")
        assert [entry.index for entry in ledger.entries(newest_first=True)] == list(range(7, -1, -1))
        assert [entry.index for entry in case.open().entries(kinds=("build",))] == [1, 3, 5, 7]


class TestTampering:
    @pytest.mark.parametrize(
        "changes",
        [{"at": datetime(2020, 1, 1, tzinfo=UTC)}, {"kind": "approval"}, {"subject": OTHER}, {"environment": "x"},
         {"body": b"{}"}, {"actor": "someone"}, {"previous": OTHER}, {"hash": OTHER}],
    )  # fmt: skip
    @pytest.mark.parametrize("index", [0, 1, 2])
    def test_an_entry_that_was_changed_closes_the_ledger(self, case: Case, index: int, changes: dict[str, Any]) -> None:
        ledger = case.open()
        for number in range(3):
            add(ledger, number)
        row = case.rows()[index]
        case.put(Row(replace(row.entry, **changes), row.bundle))
        with pytest.raises(LedgerBrokenError):
            case.open()
        with pytest.raises(LedgerBrokenError):
            ledger.verify()
        with pytest.raises(LedgerBrokenError):
            list(ledger.entries(newest_first=True))

    def test_an_entry_whose_hash_was_made_to_fit_is_told_by_what_follows(self, case: Case) -> None:
        from pratique.release.ledger.chain import _hash_of

        ledger = case.open()
        for number in range(2):
            add(ledger, number)
        for index in (0, 1):
            row = case.rows()[index]
            forged = replace(row.entry, actor="someone")
            case.put(Row(replace(forged, hash=_hash_of(forged)), row.bundle))
            with pytest.raises((LedgerBrokenError, VerificationError)):
                case.open()
            case.put(row)
        assert case.open().verify() == 2

    @pytest.mark.parametrize("index", [0, 1])
    def test_a_missing_entry_closes_the_ledger(self, case: Case, index: int) -> None:
        ledger = case.open()
        for number in range(3):
            add(ledger, number)
        case.remove(index)
        with pytest.raises(LedgerBrokenError):
            case.open()
        with pytest.raises(LedgerBrokenError):
            list(ledger.entries())

    def test_entries_cut_off_while_it_is_open_are_missed(self, case: Case) -> None:
        ledger = case.open()
        for number in range(3):
            add(ledger, number)
        case.remove(2)
        with pytest.raises(LedgerBrokenError, match="had 3 entries, and has 2"):
            add(ledger)
        with pytest.raises(LedgerBrokenError):
            ledger.head()

    def test_entries_cut_off_or_put_back_are_told_by_the_witness(self, case: Case, tmp_path: Path) -> None:
        witness = WitnessFile(tmp_path / "witness.json")
        ledger = case.open(witness=witness)
        for number in range(3):
            add(ledger, number)
        assert case.open(witness=witness).verify() == 3
        case.remove(2)
        assert case.open().verify() == 2  # by itself it is whole: it is what it was once
        with pytest.raises(LedgerBrokenError, match="put back, or exchanged"):
            case.open(witness=witness)
        add(case.open(), 99)  # grown again, but not the same
        with pytest.raises(LedgerBrokenError, match="put back, or exchanged"):
            case.open(witness=witness)

    def test_a_witness_that_is_gone_is_not_made_anew(self, case: Case, tmp_path: Path) -> None:
        witness = WitnessFile(tmp_path / "witness.json")
        add(case.open(witness=witness))
        (tmp_path / "witness.json").unlink()
        with pytest.raises(LedgerBrokenError, match="witness that it should have is gone"):
            case.open(witness=witness)

    def test_a_witness_that_cannot_be_told_is_said_after_the_entry_is_kept(self, case: Case, tmp_path: Path) -> None:
        (tmp_path / "disk").mkdir()
        ledger = case.open(witness=WitnessFile(tmp_path / "disk" / "witness.json"))
        add(ledger)
        (tmp_path / "disk" / "witness.json").unlink()
        (tmp_path / "disk").rmdir()
        with pytest.raises(UnavailableError, match="entry 1 was added"):
            add(ledger)
        assert case.open().verify() == 2

    def test_heads_of_strangers_are_not_believed(self, case: Case) -> None:
        add(case.open())
        stranger = Keys.make()
        with pytest.raises(VerificationError):
            case.open(keys=stranger)
        known = Keys(stranger.signer, HeadTrust(KEYS.trust.verifier, stranger.trust.signers))
        with pytest.raises(LedgerBrokenError, match="not one of the 1 signers"):
            case.open(keys=known)

    def test_one_ledger_does_not_pass_for_another(self, case: Case) -> None:
        add(case.open())
        rows = case.rows()
        with pytest.raises(LedgerBrokenError):
            VerifiedLedger.open("others", _Fixed(rows), KEYS.trust)

    @pytest.mark.parametrize("which", ["of another size", "of another kind", "of another ledger", "none"])
    def test_a_head_that_says_something_else_is_not_believed(self, case: Case, which: str) -> None:
        ledger = case.open()
        add(ledger)
        add(ledger)
        row = case.rows()[1]
        mark = ledger.mark
        said = {
            "of another size": case.rows()[0].bundle,
            "of another kind": KEYS.signer.sign(make_statement(mark.hash, "urn:other", mark).payload),
            "of another ledger": KEYS.signer.sign(head_statement(type(mark)("others", mark.size, mark.hash)).payload),
            "none": b"{}",
        }
        case.put(Row(row.entry, said[which]))
        with pytest.raises(VerificationError):
            case.open()

    def test_a_head_of_the_past_that_was_exchanged_is_found_by_verify(self, case: Case) -> None:
        ledger = case.open()
        for number in range(3):
            add(ledger, number)
        rows = case.rows()
        case.put(Row(rows[0].entry, rows[1].bundle))
        with pytest.raises(LedgerBrokenError, match="expected the head"):
            case.open().verify()


class _Fixed(MemoryStore):
    def __init__(self, rows: list[Row]) -> None:
        super().__init__()
        self.kept = rows


class TestContention:
    def test_who_always_comes_second_gives_up_in_time(self) -> None:
        class Busy(MemoryStore):
            def add(self, row: Row) -> None:
                super().add(Row(replace(row.entry, index=len(self.kept) + 1), row.bundle))

        ledger = VerifiedLedger.open(NAME, Busy(), KEYS.trust, signer=KEYS.signer, wait_seconds=0.05)
        with pytest.raises(UnavailableError, match="before us"):
            add(ledger)

    def test_the_last_row_may_vanish_between_two_looks(self) -> None:
        store = MemoryStore()
        ledger = VerifiedLedger.open(NAME, store, KEYS.trust, signer=KEYS.signer)
        add(ledger)

        class Vanishing(MemoryStore):
            def rows(self, start: int, end: int) -> Iterator[Row]:
                return iter(())

            def rows_at(self, indices: Any) -> Iterator[Row]:
                return iter(())

            def size(self) -> int:
                return 1

        with pytest.raises(LedgerBrokenError, match="ends after 0"):
            VerifiedLedger.open(NAME, Vanishing(), KEYS.trust)
        ledger.store = Vanishing()
        for call in (ledger.head, lambda: list(ledger.entries())):
            with pytest.raises(LedgerBrokenError, match="entry 0 of 'releases' is gone"):
                call()
