"""What asks for nothing."""

from __future__ import annotations

import pytest

from pratique.orchestrator.retrieval.smalltalk import without_small_talk

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "?!",
        "📚❤️",
        "hello",
        "Hello!",
        "HI THERE",
        "Good morning, how are you today?",
        "Ｈｅｌｌｏ",  # noqa: RUF001 - full-width letters are what is tested
        "thanks a lot!",
        "What\u2019s up?",
        "こんにちは",
        "こんにちは！",  # noqa: RUF001 - as people write it
        "はじめまして。よろしくお願いします。",
        "おはようございます、元気ですか？",  # noqa: RUF001 - as people write it
        "ありがとうございました",
        "お疲れ様です。",
        "今日はいい天気ですね",
    ],
)
def test_small_talk_asks_for_nothing(text: str) -> None:
    assert without_small_talk(text) == ""


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("Hello, which manga has a lighthouse?", ", which manga has a lighthouse?"),
        ("こんにちは。灯台の漫画はありますか", "。灯台の漫画はありますか"),
        ("history of hibiscus", "history of hibiscus"),
        ("Is Nobody Home on sale", "Is Nobody Home on sale"),
        ("元気な女の子の話", "元気な女の子の話"),
        ("ありがとうの手紙という本", "ありがとうの手紙という本"),
    ],
)
def test_a_question_keeps_what_it_asks_for(text: str, rest: str) -> None:
    assert without_small_talk(text) == rest
