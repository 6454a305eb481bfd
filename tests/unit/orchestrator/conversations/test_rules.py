"""What all stores decide alike."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pratique.orchestrator.conversations import InvalidCursorError, rules

pytestmark = pytest.mark.unit

FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
FLAG = "\U0001f1eb\U0001f1f7"
THUMB = "\U0001f44d\U0001f3fd"
ACCENTED = "e\u0301"
HANGUL = "\u1112\u1161\u11ab"


class TestTitles:
    @pytest.mark.parametrize(
        ("text", "title"),
        [
            ("Hello", "Hello"),
            ("  many\n\n  spaces\tand\u2028lines ", "many spaces and lines"),
            ("\x00\x1b[31mred\x07", "[31mred"),
            ("", "New conversation"),
            ("\n \x00", "New conversation"),
            ("x" * 60, "x" * 60),
            ("x" * 61, "x" * 59 + "…"),
            ("word " * 20, "word " * 11 + "word…"),
            ("words " * 20, "words " * 9 + "words…"),
            ("short " + "x" * 80, "short " + "x" * 53 + "…"),
            ("日本語" * 30, ("日本語" * 30)[:59] + "…"),
        ],
    )
    def test_a_title_is_one_line_cut_between_words(self, text: str, title: str) -> None:
        assert rules.title_from(text) == title

    @pytest.mark.parametrize("cluster", [FAMILY, FLAG, THUMB, ACCENTED, HANGUL])
    @pytest.mark.parametrize("shift", range(8))
    def test_a_cut_leaves_graphemes_whole(self, cluster: str, shift: int) -> None:
        title = rules.title_from("a" * shift + cluster * 40)
        body = title.removesuffix("…").removeprefix("a" * shift)
        assert body == cluster * (len(body) // len(cluster))
        assert len(title) <= rules.TITLE_CHARACTERS

    def test_one_endless_grapheme_is_cut_all_the_same(self) -> None:
        assert len(rules.title_from("e" + "\u0301" * 500)) == rules.TITLE_CHARACTERS

    @given(st.text(max_size=300))
    def test_any_text_has_a_title_within_bounds(self, text: str) -> None:
        title = rules.title_from(text)
        assert 1 <= len(title) <= rules.TITLE_CHARACTERS
        assert title == title.strip()
        assert title.isprintable() or not text.isprintable()


class TestCursors:
    @given(st.floats(0, 4e9), st.from_regex(r"conv_[0-9a-z]{26}", fullmatch=True))
    def test_a_cursor_comes_back_as_it_was(self, updated_at: float, name: str) -> None:
        assert rules.decode_cursor(rules.encode_cursor(updated_at, name)) == (updated_at, name)

    @given(st.text(max_size=100))
    def test_any_other_text_is_refused_or_read(self, text: str) -> None:
        try:
            updated_at, _ = rules.decode_cursor(text)
        except InvalidCursorError:
            return
        assert math.isfinite(updated_at)


@given(st.text(st.characters(codec="utf-8"), max_size=50))
def test_storable_text_is_kept(text: str) -> None:
    assert rules.storable(text) == text


@given(st.text(st.characters(), max_size=50))
def test_any_text_becomes_storable(text: str) -> None:
    rules.storable(text).encode()


@pytest.mark.parametrize(("given_limit", "used"), [(-5, 1), (0, 1), (1, 1), (200, 200), (10**9, 200)])
def test_page_sizes_are_bounded(given_limit: int, used: int) -> None:
    assert rules.clamp_limit(given_limit) == used
