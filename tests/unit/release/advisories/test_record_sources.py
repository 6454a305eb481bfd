"""Archives and folders of records are bounded, and nothing in them is skipped."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from pratique.release.advisories import sources
from pratique.release.advisories.errors import AdvisoryDataError
from pratique.release.advisories.records import MAX_RECORD_BYTES, parse_record
from pratique.release.advisories.sources import read_source

pytestmark = pytest.mark.unit


def archive(tmp_path: Path, **files: bytes) -> Path:
    path = tmp_path / "all.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            file.writestr(name, content)
    return path


def test_only_json_is_a_record_and_the_order_is_that_of_names(tmp_path: Path) -> None:
    path = archive(tmp_path, **{"b.json": b"2", "a.json": b"1", "README.md": b"x", "sub/": b""})
    assert [(one.where.rpartition(":")[2], one.content) for one in read_source(path)] == [
        ("a.json", b"1"),
        ("b.json", b"2"),
    ]


@pytest.mark.parametrize(("limit", "most"), [("MAX_RECORDS", 1), ("MAX_BYTES", 3)])
def test_a_source_that_is_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, most: int
) -> None:
    monkeypatch.setattr(sources, limit, most)
    with pytest.raises(AdvisoryDataError, match="has more than"):
        list(read_source(archive(tmp_path, **{"a.json": b"12", "b.json": b"34"})))


def test_a_bomb_is_read_to_the_limit_of_one_record_and_refused_there(tmp_path: Path) -> None:
    path = archive(tmp_path, **{"a.json": b" " * (MAX_RECORD_BYTES * 2)})
    assert path.stat().st_size < 100_000
    (record,) = read_source(path)
    assert len(record.content) == MAX_RECORD_BYTES + 1
    with pytest.raises(AdvisoryDataError, match="at most"):
        parse_record(record.content)
