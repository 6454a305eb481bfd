"""Cutting documents into passages."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pratique.orchestrator.retrieval.documents import Document
from pratique.orchestrator.retrieval.passages import Cut, split_document, split_text

pytestmark = pytest.mark.unit


TEXTS = st.text(alphabet="ab 。！\n.、漢", max_size=300)  # noqa: RUF001 - full-width marks end sentences


@given(text=TEXTS, size=st.integers(1, 60))
@settings(max_examples=50, deadline=None)
def test_every_passage_is_short_enough_and_nothing_is_left_out(text: str, size: int) -> None:
    passages = split_text(text, Cut(size=size, overlap=0))
    assert all(0 < len(passage) <= size for passage in passages)
    assert "".join("".join(passages).split()) == "".join(text.split())


@given(text=TEXTS, size=st.integers(2, 60))
@settings(max_examples=50, deadline=None)
def test_with_an_overlap_passages_still_stand_in_the_text_up_to_its_end(text: str, size: int) -> None:
    passages = split_text(text, Cut(size=size, overlap=size // 2))
    assert all(0 < len(passage) <= size and passage in text for passage in passages)
    assert bool(passages) == bool(text.strip())
    assert not passages or text.rstrip().endswith(passages[-1])


def test_a_passage_ends_where_a_sentence_ends() -> None:
    text = "港には船が着く。灯台は明るい。猫は眠る。"
    assert split_text(text, Cut(size=16, overlap=0)) == ("港には船が着く。灯台は明るい。", "猫は眠る。")
    english = "Ships come in. The lamp is lit. Cats sleep."
    assert split_text(english, Cut(size=32, overlap=0)) == ("Ships come in. The lamp is lit.", "Cats sleep.")


def test_a_paragraph_goes_before_a_sentence_and_a_word_before_anything() -> None:
    assert split_text("One. Two.\n\nThree four. Five", Cut(size=20, overlap=0)) == ("One. Two.", "Three four. Five")
    assert split_text("alpha beta gamma delta", Cut(size=18, overlap=0)) == ("alpha beta gamma", "delta")
    assert split_text("x" * 25, Cut(size=10, overlap=0)) == ("x" * 10, "x" * 10, "x" * 5)


def test_an_overlap_begins_with_a_sentence() -> None:
    first, second = split_text("一つ目の文です。二つ目です。三つ目の文です。", Cut(size=15, overlap=7))
    assert first.endswith("二つ目です。")
    assert second == "二つ目です。三つ目の文です。"


@pytest.mark.parametrize("overlap", [-1, 51])
def test_an_overlap_that_would_never_end_is_refused(overlap: int) -> None:
    with pytest.raises(ValueError, match="overlap"):
        Cut(size=100, overlap=overlap)


def test_a_document_gives_passages_with_title_facts_and_tags() -> None:
    document = Document(
        id="a", title="Title", text="Some text.", url="https://x.example/", tags=("sea",), facts={"Author": "Mori"}
    )
    (piece,) = split_document(document, Cut())
    assert piece.given == "Title\nAuthor: Mori.\nSome text."
    assert piece.searched == "Author: Mori.\nSome text.\nsea"
    assert (piece.source_id, piece.title, piece.url) == ("a", "Title", "https://x.example/")


def test_a_document_without_text_is_found_by_its_title() -> None:
    (piece,) = split_document(Document(id="a", title="Title", text=" "), Cut())
    assert piece.given == "Title"
