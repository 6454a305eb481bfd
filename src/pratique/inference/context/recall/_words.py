"""Texts as the recall sees them: terms to compare, sentences to quote, and places where a text may be cut. Pure.

Scripts with spaces between words give words; Chinese, Japanese, Korean and the scripts of South-East Asia give pairs of
characters, which find a word at any place in a run without a dictionary. Mixed text gives both.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterator
from typing import Final

__all__ = ["clip", "is_common", "pieces_of", "terms_of"]

# Han, Kana, Hangul, Thai, Lao, Myanmar, Khmer: no spaces between words, or endings that are written onto them.
_DENSE: Final = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3041-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003ffff"
)
_RUN: Final = re.compile(f"[{_DENSE}]+|[^\\W{_DENSE}]+")
_IS_DENSE: Final = re.compile(f"[{_DENSE}]")
_SENTENCE_END: Final = re.compile("(?<=[.!?…])\\s+|(?<=[。！？｡])(?![。！？｡」』）)])\\s*|\\n+")  # noqa: RUF001 - Japanese
# Letters of which each is one character on the screen: no mark, jamo or variation that belongs to a neighbour.
_WHOLE: Final = re.compile("[\u3005-\u3007\u3041-\u3096\u30a1-\u30fe\u3400-\u4dbf\u4e00-\u9fff\u3001\u3002]")
_MAX_WORD: Final = 64
_SLICE: Final = 512


# What holds sentences together says nothing of what they are about.
_COMMON_TERMS: Final = (
    "a about again also an and any are as at be been but by can could did do does for from had has have he her "
    "his how i if in is it its just me my no not of on one or our please she so some that the their them then "
    "there they this to up was we were what when where which who why will with would yes you your "
    "です ます した して った って ない たい ある いる から ので けど でも この その あの "
    "これ それ あれ こと もの さい くだ ださ おね ねが がい 願い いし しま した まし せん "
    "すか ます ょう しょ でし には では とは にも まで より なに なん とい いう うこ てい "
    "いま りま ませ んか のは のか は何 何で うで どう"
)
_COMMON: Final = frozenset(_COMMON_TERMS.split())


def is_common(term: str) -> bool:
    """Whether a term stands in texts about anything."""
    return term in _COMMON


def terms_of(text: str) -> Iterator[str]:
    """Yield the terms of a text, in their order: words, folded, and pairs of characters where words have no spaces."""
    for match in _RUN.finditer(_folded(text)):
        run = match.group()
        if not _IS_DENSE.match(run):
            yield run[:_MAX_WORD]
        elif len(run) == 1:
            yield run
        else:
            yield from map("".join, itertools.pairwise(run))


def _folded(text: str) -> str:
    # In slices: normalising takes time by the square of a run of marks (16 s for 100,000 of them).
    slices = (text[start : start + _SLICE] for start in range(0, len(text), _SLICE))
    return "".join(unicodedata.normalize("NFKC", part) for part in slices).casefold()


def pieces_of(text: str, *, max_characters: int) -> Iterator[str]:
    """Yield the sentences of a text; a longer one in parts, cut where a person may cut.

    What cannot be cut (no space, no letter that stands alone) is left out up to the next space where it is longer.
    """
    for sentence in _SENTENCE_END.split(text):
        line, at = " ".join(sentence.split()), 0
        while at < len(line):
            piece = clip(line[at : at + max_characters + 1], max_characters)
            at = _start(line, at + len(piece) if piece else line.find(" ", at + 1))
            if piece:
                yield piece


def _start(line: str, at: int) -> int:
    """Return where the next piece begins: past a space and what sits on it; at the end where there is none (-1)."""
    if at < 0:
        return len(line)
    while at < len(line) and (line[at] == " " or _joins(line[at])):
        at += 1
    return at


def clip(text: str, max_characters: int) -> str:
    """Return the longest beginning of so many characters that ends between two words or two whole letters.

    Empty where there is no such place: a grapheme cluster is never cut.
    """
    if len(text) <= max_characters:
        return text
    for end in range(max_characters, 0, -1):
        if _may_end(text, end):
            return text[:end].rstrip()
    return ""


def _may_end(text: str, end: int) -> bool:
    before, following = text[end - 1], text[end]
    if following.isspace():
        # A mark after the space would sit on it.
        return not before.isspace() and not _joins(text[end + 1 : end + 2])
    if before.isspace():
        return not _joins(following)
    return bool(_WHOLE.match(before) and _WHOLE.match(following))


def _joins(character: str) -> bool:
    """Whether a character belongs to the one before it: a mark, a joiner, a selector; "" does not."""
    return bool(character) and (unicodedata.category(character)[0] == "M" or unicodedata.category(character) == "Cf")
