"""Words that questions are made of and that say nothing about what is asked for.

English ones as they are written, Japanese ones as Sudachi normalises them.
"""

from __future__ import annotations

from typing import Final

__all__ = ["ENGLISH", "JAPANESE"]

ENGLISH: Final = frozenset(
    """
    a about all also am an and any anything are as at be been but by can could did do does doing for from get give had
    has have he her here him his how i i'd i'll i'm i've if in into is it it's its just know let let's like look looking
    many may me might more most much my need not of on one or our out please read recommend s she should show so some
    someone something suggest t tell than that that's the their them then there there's these they this those to too us
    very want was we were what what's when where which who who's whose why will with would you your
    """.split()  # noqa: SIM905 - words read better as text
)
JAPANESE: Final = frozenset(
    """
    為る 有る 居る 成る 無い 言う 下さる 呉れる 頂く 貰う 御座る 願う 御願い 教える 事 物 者 所 為 様 時 方 訳 筈
    良い 出来る 何 幾つ 知る 思う 見る 来る 行く 欲しい 探す 読む 有無 さん 達 的 人 すすめ すすめる 勧め 勧める お薦め
    """.split()  # noqa: SIM905 - words read better as text
)
