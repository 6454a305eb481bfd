"""From OSV's exports to a file that answers; damaged, doubtful and old data are told, not swallowed."""

from __future__ import annotations

import shutil
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.unit.release.advisories.osv_records import affected, events, record

from pratique.release.advisories.database import AdvisoryDatabase, DatabaseInfo, write_database
from pratique.release.advisories.errors import AdvisoryDatabaseError, AdvisoryDataError
from pratique.release.advisories.importing import ImportRequest, import_advisories
from pratique.release.advisories.matching import Lookup

pytestmark = pytest.mark.unit

NOW = datetime(2024, 6, 1, tzinfo=UTC)
NEWEST = datetime(2024, 5, 1, tzinfo=UTC)
EVERY = affected(events("introduced 0", "fixed 2"), versions=["1.0"])
RECORDS = {
    "PYSEC-2024-1.json": record("PYSEC-2024-1", EVERY, aliases=["CVE-2024-1"]),
    "GHSA-aaaa.json": record("GHSA-aaaa", EVERY, aliases=["CVE-2024-1"], database_specific={"severity": "HIGH"}),
    "sub/PYSEC-2024-2.json": record("PYSEC-2024-2", EVERY, withdrawn="2024-05-02T00:00:00Z"),
    "DSA-1-1.json": record(
        "DSA-1-1", affected(events("introduced 0"), name="openssl", ecosystem="Debian:12"), upstream=["CVE-2024-1"]
    ),
}


def folder(tmp_path: Path, **more: bytes) -> Path:
    root = tmp_path / "osv"
    for name, content in {**RECORDS, **{f"{key}.json": value for key, value in more.items()}}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (root / "README").write_text("no record")
    return root


def archive(tmp_path: Path) -> Path:
    path = tmp_path / "all.zip"
    with zipfile.ZipFile(path, "w") as file:
        for name, content in RECORDS.items():
            file.writestr(name, content)
    return path


def imported(*sources: Path, **more: object) -> DatabaseInfo:
    database = sources[0].parent / "db" / "advisories.db"
    return import_advisories(ImportRequest(sources, database, NOW, **more))  # type: ignore[arg-type]  # options


def test_a_record_that_cannot_be_read_refuses_the_import_and_the_old_database_stays(tmp_path: Path) -> None:
    imported(folder(tmp_path))
    before = (tmp_path / "db" / "advisories.db").read_bytes()
    with pytest.raises(AdvisoryDataError, match=r"1 records cannot be read:\n  .*broken\.json: expected a record"):
        imported(folder(tmp_path, broken=b"{"))
    assert (tmp_path / "db" / "advisories.db").read_bytes() == before
    assert [path.name for path in (tmp_path / "db").iterdir()] == ["advisories.db"]


def test_records_that_may_be_left_out_are_named_in_the_database(tmp_path: Path) -> None:
    info = imported(folder(tmp_path, broken=b"{"), max_unreadable=1)
    assert len(info.unreadable) == 1
    assert "broken.json" in info.unreadable[0]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"no archive"])
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "all.zip"
    path.write_bytes(content)
    with pytest.raises(AdvisoryDataError, match="no readable archive"):
        imported(path)


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path)
    content = bytearray(path.read_bytes())
    content[content.index(b'"modified"')] ^= 1
    path.write_bytes(content)
    with pytest.raises(AdvisoryDataError, match="CRC"):
        imported(path)


def test_a_source_without_records_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(AdvisoryDataError, match="has no records"):
        imported(folder(tmp_path), tmp_path / "empty")
    with pytest.raises(AdvisoryDataError, match="no readable archive"):
        imported(tmp_path / "nothing.zip")


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    root = folder(tmp_path)
    (root / "gone.json").symlink_to(tmp_path / "nowhere")
    with pytest.raises(AdvisoryDataError, match=r"gone\.json cannot be read"):
        imported(root)


def test_an_archive_and_a_folder_with_the_same_records_give_the_same_digest(tmp_path: Path) -> None:
    one, other = imported(folder(tmp_path)), imported(archive(tmp_path))
    assert one == other
    assert one.digest != imported(folder(tmp_path, more=record("X-1"))).digest


def test_a_database_says_what_it_was_made_from(tmp_path: Path) -> None:
    info = imported(folder(tmp_path))
    assert (info.num_advisories, info.num_withdrawn, info.num_without_severity) == (4, 1, 0)
    assert info.updated_at == NEWEST
    assert info.imported_at == NOW
    assert {name: one.num_advisories for name, one in info.ecosystems.items()} == {"Debian:12": 1, "PyPI": 2}


def test_the_age_is_that_of_the_oldest_source_or_when_they_were_fetched(tmp_path: Path) -> None:
    older = tmp_path / "older"
    older.mkdir()
    (older / "x.json").write_bytes(record("X-1", modified="2023-01-01T00:00:00Z"))
    assert imported(folder(tmp_path), older).updated_at == datetime(2023, 1, 1, tzinfo=UTC)
    fetched = NOW - timedelta(hours=1)
    assert imported(folder(tmp_path), older, as_of=fetched).updated_at == fetched


@pytest.mark.parametrize("as_of", [NEWEST - timedelta(days=1), NOW + timedelta(days=1)])
def test_data_are_not_fetched_before_their_newest_record_or_in_the_future(tmp_path: Path, as_of: datetime) -> None:
    with pytest.raises(AdvisoryDataError, match="are said to be of"):
        imported(folder(tmp_path), as_of=as_of)


def test_records_of_the_future_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AdvisoryDataError, match="are said to be of"):
        imported(folder(tmp_path, late=record("X-1", modified="2099-01-01T00:00:00Z")))


def test_of_two_records_with_one_id_the_later_counts(tmp_path: Path) -> None:
    later = record("PYSEC-2024-1", affected(events("introduced 0", "fixed 9")), modified="2024-05-02T00:00:00Z")
    earlier = record("PYSEC-2024-1", modified="2020-05-02T00:00:00Z")
    imported(folder(tmp_path, later=later, earlier=earlier))
    with AdvisoryDatabase(tmp_path / "db" / "advisories.db") as database:
        (advisory,) = [one for one in database.named("PYSEC-2024-1") if one.id == "PYSEC-2024-1"]
        assert advisory.affected[0].ranges[0].events[-1].version == "9"


def test_packages_and_names_are_found(tmp_path: Path) -> None:
    imported(archive(tmp_path))
    with AdvisoryDatabase(tmp_path / "db" / "advisories.db") as database:
        found = database.matches(Lookup(("PyPI",), "left-pad", "1.0"))
        assert [(one.advisory.id, one.advisory.severity_from, one.judgement.fixed_in) for one in found] == [
            ("GHSA-aaaa", "GHSA-aaaa", ("2",)),
            ("PYSEC-2024-1", "GHSA-aaaa", ("2",)),
        ]
        assert database.matches(Lookup(("PyPI",), "left-pad", "2.0")) == ()
        assert database.matches(Lookup(("Debian:12", "Debian"), "openssl", "3"))[0].advisory.severity == "high"
        assert [one.id for one in database.named("CVE-2024-1")] == ["DSA-1-1", "GHSA-aaaa", "PYSEC-2024-1"]
        assert database.named("CVE-1999-1") == ()
        assert [one.id for one in database.all()] == ["DSA-1-1", "GHSA-aaaa", "PYSEC-2024-1", "PYSEC-2024-2"]
        assert database.knows(Lookup(("Debian:12", "Debian"), "", ""))
        assert not database.knows(Lookup(("Debian:11", "Debian"), "", ""))
        assert not database.knows(Lookup(("Debian:11", "Debian:12"), "", ""))  # of another release, or of none


def test_a_dry_run_says_the_same_and_writes_nothing(tmp_path: Path) -> None:
    info = imported(folder(tmp_path), is_dry_run=True)
    assert not (tmp_path / "db").exists()
    assert info == imported(folder(tmp_path))


def test_without_a_database_nothing_can_be_said(tmp_path: Path) -> None:
    with pytest.raises(AdvisoryDatabaseError, match="there is no advisory database") as caught:
        AdvisoryDatabase(tmp_path / "none.db")
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("content", [b"", b"SQLite format 3\x00 and then nothing", b"text"])
def test_a_file_that_is_no_database_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "advisories.db"
    path.write_bytes(content)
    with pytest.raises(AdvisoryDatabaseError, match="damaged, or no advisory database"):
        AdvisoryDatabase(path)


def test_a_database_of_another_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    imported(folder(tmp_path))
    monkeypatch.setattr("pratique.release.advisories.database._SCHEMA_VERSION", 2)
    with pytest.raises(AdvisoryDatabaseError, match="is of version 1, expected 2"):
        AdvisoryDatabase(tmp_path / "db" / "advisories.db")


def test_a_database_that_is_damaged_later_on_says_so(tmp_path: Path) -> None:
    imported(folder(tmp_path))
    path = tmp_path / "db" / "advisories.db"
    content = path.read_bytes()
    path.write_bytes(content.replace(b"GHSA-aaaa", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff"))
    with AdvisoryDatabase(path) as database, pytest.raises(AdvisoryDatabaseError, match="damaged"):
        list(database.all())


def test_a_database_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    source = folder(tmp_path)
    (tmp_path / "db").write_text("a file where the folder should be")
    with pytest.raises(AdvisoryDatabaseError, match="cannot be written"):
        imported(source)


def test_an_open_database_is_not_disturbed_by_a_new_one(tmp_path: Path) -> None:
    imported(folder(tmp_path))
    path = tmp_path / "db" / "advisories.db"
    with AdvisoryDatabase(path) as database:
        shutil.rmtree(tmp_path / "osv")
        (tmp_path / "osv").mkdir()
        (tmp_path / "osv" / "x.json").write_bytes(record("X-1"))
        imported(tmp_path / "osv")
        assert database.matches(Lookup(("PyPI",), "left-pad", "1.0"))


def test_a_full_disk_or_a_missing_folder_is_told(tmp_path: Path) -> None:
    info = imported(folder(tmp_path))
    with pytest.raises(AdvisoryDatabaseError, match="cannot be written"):
        write_database(tmp_path / "nowhere" / "advisories.db", info, ())
