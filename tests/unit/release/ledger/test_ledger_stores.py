"""What stores say of files and tables that are not theirs, and witnesses of files that hold no head."""

from __future__ import annotations

import contextlib
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from pratique.core.errors import CallerError
from pratique.release.errors import UnavailableError
from pratique.release.ledger import dynamodb
from pratique.release.ledger.build import head_trust, open_ledger, open_store
from pratique.release.ledger.chain import Chain, Happening, HeadMark, format_time, genesis, parse_time
from pratique.release.ledger.dynamodb import DynamoStore
from pratique.release.ledger.errors import EntryError, LedgerBrokenError
from pratique.release.ledger.settings import LedgerSettings
from pratique.release.ledger.sqlite import SqliteStore
from pratique.release.ledger.store import Row, TakenError
from pratique.release.ledger.witness import WitnessFile, load_witness
from pratique.release.signing.verifier import BundleVerifier
from pratique.release.values import CertificateIdentity, digest_of

pytestmark = pytest.mark.unit


def test_files_that_are_no_ledger_are_left_alone(tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    with contextlib.closing(sqlite3.connect(other)) as connection, connection:
        connection.execute("CREATE TABLE x (y)")
    with pytest.raises(UnavailableError, match="no ledger, or a newer one"):
        SqliteStore(other, busy_seconds=1)
    noise = tmp_path / "noise.db"
    noise.write_bytes(b"no database at all, but long enough" * 100)
    with pytest.raises(LedgerBrokenError, match="damaged"):
        SqliteStore(noise, busy_seconds=1)
    with pytest.raises(UnavailableError, match="cannot be opened"):
        SqliteStore(tmp_path / "none" / "ledger.db", busy_seconds=1)


def test_a_ledger_that_others_hold_for_too_long_is_not_waited_for(tmp_path: Path) -> None:
    file = tmp_path / "ledger.db"
    with (
        contextlib.closing(SqliteStore(file, busy_seconds=0.05)) as store,
        contextlib.closing(sqlite3.connect(file, isolation_level=None)) as other,
    ):
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(UnavailableError, match="locked"), store.exclusive():
            pytest.fail("it is held by another")


@pytest.mark.parametrize("is_removed", [True, False])
def test_a_file_that_is_exchanged_while_it_is_open_takes_and_gives_nothing(tmp_path: Path, *, is_removed: bool) -> None:
    file = tmp_path / "ledger.db"
    with contextlib.closing(SqliteStore(file, busy_seconds=1)) as store:
        assert store.size() == 0
        file.rename(tmp_path / "moved.db")
        if not is_removed:
            SqliteStore(file, busy_seconds=1).close()
        with pytest.raises(LedgerBrokenError, match="exchanged or removed"):
            store.size()
        with pytest.raises(LedgerBrokenError, match="exchanged or removed"), store.exclusive():
            pytest.fail("nobody writes into a file that has no name")


def test_rows_are_never_changed_or_removed_by_mistake(tmp_path: Path) -> None:
    file = tmp_path / "ledger.db"
    with contextlib.closing(SqliteStore(file, busy_seconds=1)) as store:
        assert store.size() == 0
    assert file.stat().st_mode & 0o777 == 0o600
    with contextlib.closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("INSERT INTO entries VALUES (0, '', '', '', '', x'', '', '', '', x'')")
        for statement in ("DELETE FROM entries", "UPDATE entries SET actor = 'me'"):
            with pytest.raises(sqlite3.IntegrityError, match="never"):
                connection.execute(statement)


def test_values_of_another_type_close_the_ledger(tmp_path: Path) -> None:
    file = tmp_path / "ledger.db"
    with contextlib.closing(SqliteStore(file, busy_seconds=1)) as store:
        with contextlib.closing(sqlite3.connect(file)) as connection, connection:
            connection.execute("INSERT INTO entries VALUES (0, '', '', '', '', 'text', '', '', '', x'')")
        with pytest.raises(LedgerBrokenError, match="not as it was written"):
            list(store.rows(0, 1))


def test_of_two_rows_with_one_index_the_first_stays(tmp_path: Path) -> None:
    entry = Chain("releases").make(Happening(datetime.now(UTC), "build", genesis("a"), "", {}, "ci"))
    with contextlib.closing(SqliteStore(tmp_path / "ledger.db", busy_seconds=1)) as store:
        store.add(Row(entry, b"first"))
        with pytest.raises(TakenError):
            store.add(Row(entry, b"second"))
        assert [row.bundle for row in store.rows(0, 2)] == [b"first"]


@given(
    actor=st.text(st.characters(categories=["L", "N", "P", "S", "Zs", "M"]), min_size=1, max_size=50).filter(
        str.isprintable
    ),
    at=st.datetimes(timezones=st.just(UTC)),
)
@settings(max_examples=50)
def test_the_hash_is_over_the_canonical_form_of_the_rfc(actor: str, at: datetime) -> None:
    entry = Chain("releases").make(Happening(at, "alert", genesis("a"), 'é "\\/', {"a": actor}, actor))
    members: dict[str, Any] = {
        "actor": actor,
        "at": format_time(at),
        "body": digest_of(entry.body),
        "environment": 'é "\\/',
        "index": 0,
        "kind": "alert",
        "previous": genesis("releases"),
        "subject": genesis("a"),
        "type": "urn:pratique:ledger:entry:v1",
    }
    assert entry.hash == digest_of(rfc8785.dumps(members))
    assert parse_time(format_time(at)) == entry.at == at


@pytest.mark.parametrize(
    "text", ["yesterday", "2026-01-01", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00.000000+00:00"]
)
def test_times_are_exact_or_none(text: str) -> None:
    with pytest.raises(LedgerBrokenError):
        parse_time(text)
    with pytest.raises(EntryError, match="time zone"):
        format_time(parse_time("2026-01-01T00:00:00.000000Z").replace(tzinfo=None))


@pytest.mark.parametrize("content", [b"", b"[]", b'{"ledger":"a","size":"1","hash":"x"}', b'{"ledger":"a"}'])
def test_a_witness_that_holds_no_head_closes_the_ledger(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "witness.json"
    file.write_bytes(content)
    with pytest.raises(LedgerBrokenError, match="holds no head"):
        WitnessFile(file).load()


def test_a_witness_is_replaced_whole_and_read_again(tmp_path: Path) -> None:
    witness, mark = WitnessFile(tmp_path / "witness.json"), HeadMark("releases", 0, genesis("releases"))
    assert witness.load() is None
    witness.keep(mark)
    assert witness.load() == load_witness(tmp_path / "witness.json") == mark
    assert [file.name for file in tmp_path.iterdir()] == ["witness.json"]
    with pytest.raises(CallerError, match="there is no witness"):
        load_witness(tmp_path / "none.json")
    with pytest.raises(UnavailableError):
        load_witness(tmp_path)


def test_somebody_must_be_believed() -> None:
    with pytest.raises(CallerError, match="nobody is named"):
        head_trust(LedgerSettings(), BundleVerifier())
    with pytest.raises(CallerError, match="together"):
        head_trust(LedgerSettings(signer_issuer="https://issuer.test"), BundleVerifier())
    named = LedgerSettings(signer_issuer="https://issuer.test", signer_subject="ci@example.org")
    expected = CertificateIdentity("https://issuer.test", "ci@example.org")
    assert head_trust(named, BundleVerifier()).signers == {expected}


def test_a_ledger_must_be_named_and_a_reader_makes_none(tmp_path: Path) -> None:
    known: dict[str, Any] = {"signer_issuer": "https://issuer.test", "signer_subject": "ci@example.org"}
    with pytest.raises(CallerError, match="no ledger is named"), open_ledger(LedgerSettings(**known), BundleVerifier()):
        pass
    missing = LedgerSettings(file=tmp_path / "ledger.db", **known)
    with pytest.raises(CallerError, match="there is no ledger"), open_ledger(missing, BundleVerifier()):
        pass
    assert not list(tmp_path.iterdir())
    table = LedgerSettings(backend="dynamodb", region="eu-west-1", endpoint_url="http://127.0.0.1:1")
    with open_store(table, may_make=False) as store:
        assert isinstance(store, DynamoStore)


class Client:
    """DynamoDB's client, as far as batches go: it gives one key at a time, or none."""

    def __init__(self, *, gives: int) -> None:
        self.gives = gives
        self.asked: list[int] = []

    def batch_get_item(self, RequestItems: Any) -> Any:  # noqa: N803 - boto3's
        keys = RequestItems["t"]["Keys"]
        self.asked.append(len(keys))
        text = {name: {"S": "2026-01-01T00:00:00.000000Z"} for name in dynamodb._TEXTS}
        items = [{**key, **text, "body": {"B": b"{}"}, "bundle": {"B": b""}} for key in keys[: self.gives]]
        left = {"t": {**RequestItems["t"], "Keys": keys[self.gives :]}} if keys[self.gives :] else {}
        return {"Responses": {"t": items}, "UnprocessedKeys": left}


def test_a_batch_that_comes_in_parts_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dynamodb, "_PAUSE_SECONDS", 0.0)
    client: Any = Client(gives=2)
    assert [row.entry.index for row in DynamoStore(client, "t", "releases").rows_at([3, 1, 2])] == [3, 1, 2]
    assert client.asked == [3, 1]
    never: Any = Client(gives=0)
    with pytest.raises(UnavailableError, match="does not give all"):
        list(DynamoStore(never, "t", "releases").rows_at([1]))
    assert len(never.asked) == 8
