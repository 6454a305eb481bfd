"""What a text names, in English and Japanese; and from how many names on an exchange is worth remembering."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pratique.inference.context import counts, selection
from pratique.inference.context.counts import RICH_ENTITIES, Known
from pratique.inference.context.entities import MAX_ENTITIES, entities_of
from pratique.inference.context.marker import entity_block
from pratique.inference.context.selection import is_rich

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("My order ORD-2024-00123, phone 090-1234-5678.", ("ORD-2024-00123", "090-1234-5678")),
        ("Order AB-1234: #12345 and AB-1234 again, B08N5WRWNW", ("AB-1234", "#12345", "B08N5WRWNW")),
        ("注文番号１２３４５６７の件", ("１２３４５６７",)),  # noqa: RUF001 - full-width digits are the case
        ("ISBN 978-4-06-274949-7 or ISBN 0-306-40615-2, 9784062749497", (
            "ISBN 978-4-06-274949-7", "ISBN 0-306-40615-2", "9784062749497",
        )),
        ("mail user12345@qq.com or taro.y+x@example.co.jp", ("user12345@qq.com", "taro.y+x@example.co.jp")),
        ("see (https://x.jp/AB-12/?q=1). or http://a.b/c", ("https://x.jp/AB-12/?q=1", "http://a.b/c")),
        ("March 3, 2024 or 2024-05-01 or 3/4/2024 at 10:30", ("March 3, 2024", "2024-05-01", "3/4/2024")),
        ("2024年5月1日、5月 2日", ("2024年5月1日", "5月 2日")),
        ("$12.50 or 30 dollars or 1,200円", ("$12.50", "30 dollars", "1,200円")),
        ("an iPhone 15 Pro, a Galaxy S24, GPT-4", ("iPhone 15 Pro", "Galaxy S24", "GPT-4")),
        ("The Lord of the Rings by J. R. R. Tolkien and Dr. Watson", (
            "Lord of the Rings", "J. R. R. Tolkien", "Dr. Watson",
        )),
        ("by Haruki Murakami. Thanks", ("Haruki Murakami",)),
        ('the book "Norwegian wood", “Kokoro”', ('"Norwegian wood"', "“Kokoro”")),
        ("「海辺のカフカ」と『こころ』と《本》", ("「海辺のカフカ」", "『こころ』", "《本》")),
        ("ハリー・ポッターのサイズ、ワンピース", ("ハリー・ポッター", "ワンピース")),
        ("進撃の巨人 第34巻、鬼滅の刃5巻、第三巻", ("進撃の巨人 第34巻", "鬼滅の刃5巻", "第三巻")),
        ("ナルト3巻", ("ナルト3巻",)),
        ("田中様、村上春樹さん、お客様、皆さん、鈴木氏", ("田中様", "村上春樹さん", "鈴木氏")),
        ("Hello, How are you? I'm fine. OK? Tell me. It is 5 or 10:30 @home a:b #1 $x ?", ()),
        ('「」""『\n』 第 様 さん 氏 ISBN, March, :// @ # I THE END ア', ()),
        ("", ()),
    ],
)  # fmt: skip
def test_what_is_named(text: str, expected: tuple[str, ...]) -> None:
    assert entities_of(text) == expected
    assert entities_of(text, at_most=2) == expected[:2]


@given(st.text(max_size=200) | st.text(alphabet="Aa1-@:/.「」第3巻様 \"'", max_size=200))
def test_any_text_gives_few_short_entities_of_its_own(text: str) -> None:
    found = entities_of(text)
    assert found == entities_of(text)
    assert len(set(found)) == len(found) <= MAX_ENTITIES
    flat = " ".join(text.split())
    assert all(entity in flat and 0 < len(entity) <= 260 for entity in found)


@pytest.mark.parametrize(
    "piece",
    [
        "「",
        '"',
        "A",
        "a@",
        "A1-",
        "1,",
        "A ",
        "A of the ",
        "第1",
        "漢様",
        "http://",
        "ISBN ",
        "97",
        "Ab Cd ",
        "ア",
        "a.a@a.",
        "x",
    ],
)
def test_a_megabyte_of_anything_takes_bounded_time(piece: str) -> None:
    text = piece * (1_000_000 // len(piece))
    began = time.process_time()
    assert len(entities_of(text)) <= MAX_ENTITIES
    assert time.process_time() - began < 2  # about 20 ms; a pattern that backtracks takes minutes


def test_a_message_names_so_much_and_no_more() -> None:
    assert entities_of(" ".join(f"AB-{number}" for number in range(1000, 2000)))[-1] == f"AB-{1000 + MAX_ENTITIES - 1}"


def test_the_block_holds_each_name_once_the_first_first() -> None:
    names = ["AB-1", "『こころ』", "AB-1", "Haruki Murakami"]
    assert entity_block(names, max_tokens=99, count=len) == "Context from earlier: AB-1; 『こころ』; Haruki Murakami"
    assert entity_block(names, max_tokens=35, count=len) == "Context from earlier: AB-1; 『こころ』"
    assert entity_block(names, max_tokens=25, count=len) == ""
    assert entity_block(names, max_tokens=0, count=len) == ""
    assert entity_block([], max_tokens=99, count=len) == ""


# Exchanges of a bookshop's assistant: what one would be sorry to see forgotten, and what nobody would miss.
REMEMBER = [
    ("My order AB-10234 was for 『海辺のカフカ』, delivered on 2024-05-01.", "I see order AB-10234, thank you."),
    ("Please send it to taro@example.jp, my name is Taro Yamada, phone 090-1234-5678.", "Noted."),
    ("I bought Kafka on the Shore and Norwegian Wood by Haruki Murakami, 2,400円.", "Both are in stock."),
    ("Which is newer?", "The Name of the Wind is from 2007, The Wise Man's Fear from March 1, 2011; order BK-5521."),
    ("『ワンピース』第3巻と『ナルト』を予約しました。注文番号は88231745です。", "承りました。"),
    ("進撃の巨人 第34巻の返品を。田中様名義、1,200円です。", "手続きします。"),
    ("Compare the Kindle Paperwhite 11 and the Kobo Clara HD, both under $150.", "The Kobo Clara HD is lighter."),
    ("ISBN 978-4-06-274949-7 and ISBN 0-306-40615-2, to invoice INV-2024-0031 please.", "Added."),
    ("村上春樹さんの「1Q84」と川上弘美さんの「センセイの鞄」はありますか。", "どちらもございます。"),
    ("The tracking number is JP1234567890, sent from New York on May 3.", "It passed Narita Airport."),
    ("My address changed: Jane Doe, 12 Baker Street, flat B-204.", "The address for Jane Doe is saved."),
    ("ハリー・ポッターの新装版とロード・オブ・ザ・リングを5月1日までに。", "5月1日に届きます。"),
]
FORGET = [
    ("Hello!", "Hi, how can I help you today?"),
    ("Thanks, that is great.", "You are welcome! Anything else?"),
    ("Do you have something funny?", "Of course. Do you like short stories or novels?"),
    ("こんにちは。おすすめの本はありますか。", "どんなジャンルがお好きですか。"),
    ("ありがとうございます。助かりました。", "どういたしまして。またどうぞ。"),
    ("I like crime novels, but not too long.", "Then I would look at the classics."),
    ("How long does delivery take?", "Usually 2 or 3 days, and Sunday is free."),
    ("ポイントは使えますか。", "はい、クーポンとポイントがご利用いただけます。"),
    ("I am in Tokyo, does it matter?", "No, it takes as long."),
    ("What do you think of Dickens?", "A great writer. Great Expectations is a good start."),
    ("それはちょっと高いですね。", "では、文庫版はいかがでしょうか。880円です。"),
    ("Is the shop open on May 3?", "Yes, on May 3 and May 4, until six."),
    ("送料は2,000円から無料ですか。", "はい、それより少ないと350円です。"),
    ("Could you repeat that, please?", "Sure: I asked whether you want it wrapped."),
]


def mistakes(threshold: int, monkeypatch: pytest.MonkeyPatch) -> int:
    for module in (counts, selection):
        monkeypatch.setattr(module, "RICH_ENTITIES", threshold)
    judged = [[is_rich([Known(1, text) for text in exchange]) for exchange in part] for part in (REMEMBER, FORGET)]
    return judged[0].count(False) + judged[1].count(True)


def test_the_threshold_is_the_one_that_errs_least(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = {threshold: mistakes(threshold, monkeypatch) for threshold in (1, 2, 3, 4, 5)}
    assert min(errors, key=lambda threshold: errors[threshold]) == RICH_ENTITIES, errors
    assert errors[RICH_ENTITIES] <= 2
