"""What a message names: ids and order numbers, products, people, titles, dates, prices, addresses. Pure.

One pass in linear time over any text: it jumps from one character that an entity may begin with to the next, and every
pattern is tried at that place alone and looks at a bounded number of characters. Nothing is learned and no language
model is asked, so the same text always gives the same answer, in Japanese as in English.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["MAX_ENTITIES", "entities_of"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


MAX_ENTITIES: Final = 64
"""Per message; what comes after them is not read."""
_MAX_PLACES: Final = 4096
"""Where an entity may begin, per message: more than a book's chapter has, and milliseconds."""
_MAX_LOOK_BACK: Final = 64

# Every entity is found from one of these: its first character, or for some the character that gives it away.
_START: Final = re.compile(r"[A-Z0-9\uff10-\uff19#$€£¥￥@:\"“「『《ァ-ヺ第様氏さ]")
_WORD: Final = re.compile(r"[A-Za-z0-9\uff10-\uff19]+|[ァ-ヺー・]+")
_DOMAIN: Final = r"[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,4}"
_QUOTED: Final = {
    "「": re.compile(r"「[^「」\n]{1,40}」"),
    "『": re.compile(r"『[^『』\n]{1,40}』"),
    "《": re.compile(r"《[^《》\n]{1,40}》"),
    "“": re.compile(r"“[^“”\n]{2,60}”"),
    '"': re.compile(r"\"[^\"\n]{2,60}\""),
}
_ISBN: Final = re.compile(r"ISBN(?:-1[03])?[:\s]{0,2}(?:97[89][-\s]?)?(?:\d[-\s]?){9}[\dXx]")
# Words with a digit in them. No e-mail address: that is found from its @.
_ID: Final = re.compile(
    r"(?=[A-Za-z_-]{0,24}\d)(?:[A-Z0-9][A-Za-z0-9]{0,15}(?:[-_][A-Za-z0-9]{1,16}){1,5}|[A-Z]{1,8}\d{2,16}[A-Z0-9]{0,16})"
    r"(?![A-Za-z0-9@])"
)
_MONTHS: Final = _words("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec")
_DATE: Final = re.compile(r"[A-Z][a-z]{2,8}\.?\s\d{1,2}(?:st|nd|rd|th)?(?:,\s\d{4})?(?![\d:])")
_NUMBER: Final = re.compile(
    r"""
    97[89](?:[-\s]?\d){10}(?!\d)
    | \d{4}[-/.]\d{1,2}[-/.]\d{1,2}(?!\d) | \d{1,2}/\d{1,2}/\d{2,4}(?!\d)
    | \d{4}年\s?\d{1,2}月(?:\s?\d{1,2}日)? | \d{1,2}月\s?\d{1,2}日
    | \d[\d,]{0,14}(?:\.\d{1,2})?\s?(?:円|ドル|ユーロ|yen\b|dollars\b|euros\b|JPY\b|USD\b|EUR\b)
    | \d{5,20}(?![\dA-Za-z@-])
    """,
    re.VERBOSE,
)
_SIGNED: Final = re.compile(r"[$€£¥￥]\s?\d[\d,]{0,14}(?:\.\d{1,2})?|\#\d{3,16}")
_CAPITAL: Final = r"[A-Z][A-Za-z0-9À-ÿ'.&-]{0,24}"
_NAME: Final = re.compile(
    rf"[a-z]?{_CAPITAL}(?:\x20(?:(?:of|the|de|van|von|der|du|la)\x20){{0,2}}(?:{_CAPITAL}|\d{{1,4}}\b)){{0,5}}"
)
_URL: Final = re.compile(r"://[^\s\"'<>「」『』\uff08\uff09、。]{3,200}")
_VOLUME: Final = re.compile(r"第?\s?(?:\d{1,4}|[一二三四五六七八九十百]{1,4})\s?[巻章話号版]")
_KATAKANA: Final = re.compile(r"[ァ-ヺ][ァ-ヺー・]{1,29}")
_TITLE_BEFORE: Final = re.compile(r"(?:[一-鿿々ァ-ヺー]{1,16}の)?[一-鿿々ァ-ヺーA-Za-z0-9]{1,16}\s?\Z")
_LOCAL_BEFORE: Final = re.compile(r"[A-Za-z0-9._+-]{1,64}\Z")
_PERSON_BEFORE: Final = re.compile(r"[一-鿿々]{2,6}\Z")
_FOLLOWED_BY_DOMAIN: Final = re.compile(f"@{_DOMAIN}")

# Words that stand with a capital at the head of a sentence, and are no part of a name.
_HEADS: Final = _words(
    "A An And Any Are As At But By Can Could Dear Did Do Does For From Good Have Hello Here Hey Hi How "
    "However I I'd I'll I'm I've If In Is It It's Let Let's May My No Not Now Of Oh Ok OK Okay On One Or "
    "Our Please So Sorry Sure Tell Thank Thanks That That's The Then There These They This Those To Was "
    "We Well What When Where Which Who Why Will With Would Yes You You're Your Order Invoice Ticket "
    "Customer Item Product"
)
_TITLES: Final = frozenset(("Dr.", "Mr.", "Mrs.", "Ms.", "St.", "Prof."))
_INITIAL: Final = len("J.")
_MIN_KATAKANA: Final = 4  # shorter ones are mostly plain words
_GIVEN_AWAY: Final = "@:第様氏さ"
# Katakana of every shop conversation: they name nothing in particular.
_COMMON_KATAKANA: Final = _words(
    "サービス ポイント キャンペーン アカウント クーポン ログイン パスワード メール サイズ データ ページ "
    "タイトル シリーズ ジャンル カバー キャンセル オススメ ギフト コメント レビュー ストーリー "
    "キャラクター インターネット スタッフ クレジットカード カード コンビニ ダウンロード ファイル システム "
    "エラー メッセージ アドレス テーマ オンライン ショップ サイト アプリ スマホ パソコン リスト セット "
    "プレゼント ミステリー ファンタジー エッセイ コーヒー テスト チェック バージョン"
)


def entities_of(text: str, *, at_most: int = MAX_ENTITIES) -> tuple[str, ...]:
    """Return what the text names, each once, in order of first mention. The fewer are asked for, the less is read."""
    found: dict[str, None] = {}
    place = done = 0
    for _ in range(_MAX_PLACES):
        start = _START.search(text, place)
        if start is None or len(found) == at_most:
            break
        entity, place = _at(text, start.start(), done)
        if entity:
            found[" ".join(entity.split())] = None
            done = place
    return tuple(found)


def _at(text: str, place: int, done: int) -> tuple[str, int]:
    """Return the entity found from this character, "" for none, and where to go on. What is before `done` is taken."""
    character = text[place]
    if "A" <= character <= "Z" or character.isdigit():
        return _word(text, place, done)
    if "ァ" <= character <= "ヺ":
        return _katakana(text, place)
    if character in _GIVEN_AWAY:
        return _given_away(text, place, done)
    found = _QUOTED.get(character, _SIGNED).match(text, place)
    return (found[0], found.end()) if found is not None else ("", place + 1)


def _word(text: str, place: int, done: int) -> tuple[str, int]:
    """Ids, numbers, dates and names in Latin letters."""
    before = text[place - 1] if place > done else " "
    if before.isascii() and before.isalnum():
        return _camel(text, place, done)
    is_digit = text[place].isdigit()
    found = _NUMBER.match(text, place) if is_digit else None
    found = found or _ID.match(text, place)
    if found is None and is_digit and (found := _VOLUME.match(text, place)) is not None:
        return _behind(text, place, done, _TITLE_BEFORE) + found[0], found.end()
    if found is None and text.startswith("ISBN", place):
        found = _ISBN.match(text, place)
    if found is None and text[place : place + 3] in _MONTHS:
        found = _DATE.match(text, place)
    if found is not None:
        return found[0], found.end()
    return ("", _past(text, place)) if is_digit else _named(text, place)


def _given_away(text: str, place: int, done: int) -> tuple[str, int]:
    """Entities that are known by a character in or after them."""
    character = text[place]
    if character == "@" and (domain := _FOLLOWED_BY_DOMAIN.match(text, place)) is not None:
        local = _behind(text, place, done, _LOCAL_BEFORE)
        return (local + domain[0] if local else ""), domain.end()
    if character == ":" and (url := _URL.match(text, place)) is not None:
        scheme = next((name for name in ("https", "http") if text.endswith(name, done, place)), "")
        return (scheme + url[0].rstrip(".,;:!?)") if scheme else ""), url.end()
    if character == "第" and (volume := _VOLUME.match(text, place)) is not None:
        return _behind(text, place, done, _TITLE_BEFORE) + volume[0], volume.end()
    suffix = "さん" if text.startswith("さん", place) else character if character in "様氏" else ""
    person = _behind(text, place, done, _PERSON_BEFORE) if suffix else ""
    return (person + suffix if person else ""), place + 1


def _behind(text: str, place: int, done: int, pattern: re.Pattern[str]) -> str:
    found = pattern.search(text[max(done, place - _MAX_LOOK_BACK) : place])
    return found[0] if found is not None else ""


def _katakana(text: str, place: int) -> tuple[str, int]:
    run = _KATAKANA.match(text, place)
    if run is None:
        return "", _past(text, place)
    word = run[0].strip("・")
    if (volume := _VOLUME.match(text, run.end())) is not None:
        return word + volume[0], volume.end()
    is_name = ("・" in word or len(word) >= _MIN_KATAKANA) and word not in _COMMON_KATAKANA
    return (word if is_name else ""), _past(text, place)


def _camel(text: str, place: int, done: int) -> tuple[str, int]:
    """Names like iPhone 15: one small letter before the capital."""
    begin = place - 1
    is_inside = begin > done and text[begin - 1].isascii() and text[begin - 1].isalnum()
    name = _NAME.match(text, begin) if text[begin].islower() and text[place].isalpha() and not is_inside else None
    return (name[0].rstrip(".'-&"), name.end()) if name is not None else ("", _past(text, place))


def _named(text: str, place: int) -> tuple[str, int]:
    """Two capitalised words or more; a first word that only begins a sentence is left out."""
    first = _past(text, place)
    if text[place:first].capitalize() in _HEADS:
        return "", first
    name = _NAME.match(text, place)
    words = name[0].split(" ") if name is not None else []
    num_words = next(
        (number for number in range(1, len(words)) if _is_over(words[number - 1], words[number])), len(words)
    )
    named = " ".join(words[:num_words])
    return (named.rstrip(".'-&") if num_words > 1 else ""), place + len(named)


def _is_over(word: str, following: str) -> bool:
    """Whether a name ends between two words: at the end of a sentence, or before "I"."""
    return following[:2] in {"I", "I'"} or (word.endswith(".") and len(word) > _INITIAL and word not in _TITLES)


def _past(text: str, place: int) -> int:
    """Where the run of letters that stands here ends."""
    word = _WORD.match(text, place)
    return word.end() if word is not None else place + 1
