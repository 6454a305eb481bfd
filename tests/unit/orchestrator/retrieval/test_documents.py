"""Documents, read strictly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pratique.core.errors import EnvironmentFaultError
from pratique.orchestrator.retrieval.documents import (
    MAX_LINE_BYTES,
    DocumentsError,
    load_documents,
    parse_documents,
)

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.unit

GOOD = b'{"id":"a","title":"T","text":"x"}'


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"not json", "line 2 is no document"),
        (b"[]", "line 2 is no document"),
        (b'{"id":"b","title":"T"}', "missing required field `text`"),
        (b'{"id":"","title":"T","text":"x"}', r"\$\.id"),
        (b'{"id":"b","title":"T","text":"x","txt":"y"}', "unknown field `txt`"),
        (b'{"id":"b","title":"T","text":"x","url":"javascript:alert(1)"}', r"\$\.url"),
        (b'{"id":"b","title":"T","text":3}', r"\$\.text"),
        (b'{"id":"b","title":"T","text":"\xff"}', "line 2 is no document"),
        (GOOD, "the id 'a' is that of line 1"),
        (b'{"id":"b","title":"T","text":"' + b"x" * MAX_LINE_BYTES + b'"}', "line 2: expected at most"),
    ],
)
def test_a_bad_line_is_named_with_what_is_wrong(line: bytes, said: str) -> None:
    with pytest.raises(DocumentsError, match=said):
        parse_documents([GOOD, line], name="some.jsonl")


def test_empty_lines_are_left_out_and_a_file_without_documents_is_refused() -> None:
    assert [each.id for each in parse_documents([b"", GOOD, b"  \r"], name="some.jsonl")] == ["a"]
    with pytest.raises(DocumentsError, match="holds no document"):
        parse_documents([b"", b"\n"], name="some.jsonl")


def test_a_file_gives_its_documents_and_its_digest(tmp_path: Path) -> None:
    file = tmp_path / "some.jsonl"
    file.write_bytes(GOOD + b"\n")
    loaded = load_documents(file)
    assert [each.title for each in loaded.documents] == ["T"]
    assert len(loaded.digest) == 64
    file.write_bytes(GOOD + b"\n\n")
    assert load_documents(file).digest != loaded.digest


def test_a_file_that_is_missing_or_too_large_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFaultError, match="cannot be read"):
        load_documents(tmp_path / "none.jsonl")
    file = tmp_path / "some.jsonl"
    file.write_bytes(GOOD)
    with pytest.raises(DocumentsError, match="at most 10 bytes"):
        load_documents(file, max_bytes=10)
