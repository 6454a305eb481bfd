from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pratique.client._sse import SseParser

pytestmark = pytest.mark.unit


def parse(*chunks: bytes, limit: int = 1000) -> list[str]:
    parser = SseParser(max_event_bytes=limit)
    return [data for chunk in chunks for data in parser.feed(chunk)]


def test_events_comments_and_several_lines_of_data() -> None:
    raw = b"\xef\xbb\xbf: hello\n\nevent: token\nid: gen_1:2\ndata: one\ndata:two\n\nretry: 3\n\ndata\n\ndata: open"
    assert parse(raw) == ["one\ntwo"]


@given(
    texts=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), min_size=1), max_size=5),
    newline=st.sampled_from([b"\n", b"\r\n", b"\r"]),
    size=st.integers(1, 7),
)
def test_any_cutting_into_pieces_gives_the_same_events(texts: list[str], newline: bytes, size: int) -> None:
    raw = b"".join(b"data: " + text.encode() + newline + newline for text in texts)
    assert parse(*(raw[at : at + size] for at in range(0, len(raw), size))) == texts


@pytest.mark.parametrize("raw", [b"data: " + b"x" * 2000, b"data: " + b"x" * 2000 + b"\n", b"data: \xff\n\n"])
def test_what_is_too_large_or_not_text_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"at most|utf-8"):
        parse(raw)
