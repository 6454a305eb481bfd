"""Words out of text, Japanese and English."""

from __future__ import annotations

import threading

import pytest

from pratique.orchestrator.retrieval._extras import ExtraMissingError, import_extra
from pratique.orchestrator.retrieval.words import Words

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def words() -> Words:
    return Words()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("マンガ", "漫画"),
        ("ﾏﾝｶﾞ", "まんが"),
        ("引越し", "引っ越し"),
        ("サーバ", "サーバー"),
        ("ねこ", "猫"),
        ("第１２巻", "第12巻"),
        ("Ｌｉｇｈｔｈｏｕｓｅ", "lighthouses"),  # noqa: RUF001 - full-width letters are what is tested
        ("PIRATES", "pirate"),
        ("Café", "cafe"),
        ("the keeper's stories", "keeper story"),
        ("the keeper\u2019s lamp", "keeper lamp"),
    ],
)
def test_variants_are_one_word(words: Words, one: str, other: str) -> None:
    assert words.of(one) == words.of(other) != []


def test_japanese_without_blanks_is_cut_into_words(words: Words) -> None:
    assert words.of("灯台守の猫が東京で絵を描く") == ["灯台", "守", "猫", "東京", "絵", "描く"]


def test_mixed_text_gives_words_of_both_kinds(words: Words) -> None:
    assert sorted(words.of("Tokyoの猫カフェ📚が3巻")) == sorted(["猫", "カフェ", "巻", "tokyo", "3"])


@pytest.mark.parametrize(
    "text",
    ["", "。、！", "📚🐈‍⬛", "これはそれですか", "Do you have one?", "it's", "\x00\u200b", "おすすめを教えてください"],  # noqa: RUF001
)
def test_what_says_nothing_has_no_words(words: Words, text: str) -> None:
    assert words.of(text) == []


def test_a_text_longer_than_the_dictionary_takes_at_once_is_read_whole(words: Words) -> None:
    assert words.of("猫" * 20_000 + "灯台")[-1] == "灯台"


def test_threads_share_it(words: Words) -> None:
    found: list[list[str]] = []
    threads = [threading.Thread(target=lambda: found.append(words.of("灯台守の猫" * 200))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [words.of("灯台守の猫" * 200)] * 4


def test_a_missing_package_is_told_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> object:
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr("importlib.import_module", missing)
    with pytest.raises(ExtraMissingError, match="'tantivy'") as raised:
        import_extra("tantivy")
    assert "pratique[retrieval]" in (raised.value.hint or "")
