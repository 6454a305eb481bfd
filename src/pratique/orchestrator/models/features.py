"""What can be seen of a question without a model: length, code, mathematics, steps, language. Pure, linear in its text.

Estimates, not tokenizers: a token is four characters of an alphabetic script, and one of kanji or kana. Every pattern
is bounded where it repeats, so that no text makes it slow.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Features", "estimate_tokens", "read_features"]

_READ_CHARACTERS: Final = 8000
"""Of the text; what comes after only counts by its length."""
_CHARACTERS_PER_TOKEN: Final = 4

_WIDE = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uff66-\uff9f]")
_KANA = re.compile(r"[\u3040-\u30ff\uff66-\uff9f]")
_CODE_LINE = re.compile(
    r"^[ \t]{0,40}(?:def |class |import |from \w+ import |function\b|const |let |var |public |private |"
    r"#include|fn |func |SELECT |INSERT |UPDATE |CREATE TABLE|"
    r"Traceback \(most recent|\$ |[\w.]+\([^()\n]{0,80}\);|[{}][ \t]{0,40}$)",
    re.MULTILINE,
)
_MATHEMATICS = re.compile(
    r"\\(?:frac|int|sum|sqrt|lim|begin)\b|\$\$|[∑∫∏√≤≥≠∂∞∀∃]|\d\s?[*^\u00d7\u00f7]\s?\d|\b\w\s?=\s?\w+\s?[-+*/^]\s?\w|"
    r"\b(?:theorem|integral|derivative|equation|probability|matrix|eigenvalue)\b|"
    r"方程式|積分|微分|確率|行列|定理|数列|関数の",
    re.IGNORECASE,
)
_INSTRUCTION = re.compile(
    r"\b(?:step[- ]by[- ]step|in detail|compare|contrast|analy[sz]e|prove|derive|design|refactor|debug|"
    r"explain (?:why|how)|pros and cons|trade-?offs?|evaluate|critique|plan)\b|"
    r"順を追って|段階的に|ステップバイステップ|詳しく|比較|分析|証明|設計|考察|なぜ|理由を|計画",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)|[\u3002\uff01\uff1f]+|\n{2,}")
_LIST_LINE = re.compile(r"^\s{0,8}(?:\d{1,3}[.)、]|[-*・]|[①-⑳])\s?\S", re.MULTILINE)
_QUESTION_END = re.compile(r"[?\uff1f]+")
_LEAST_CODE_LINES = 2


@dataclass(frozen=True, kw_only=True)
class Features:
    """Of one question."""

    num_tokens: int
    """Estimated."""
    num_history_tokens: int
    """Estimated."""
    num_sentences: int
    num_steps: int
    """Lines of a list."""
    num_questions: int
    has_code: bool
    has_mathematics: bool
    instruction: str
    """The first word that asks for thought, as it stands there; "" for none."""
    is_japanese: bool


def estimate_tokens(text: str) -> int:
    """Estimate how many tokens a text has, kanji and kana counted by the character."""
    read = text[:_READ_CHARACTERS]
    num_wide = len(_WIDE.findall(read))
    estimated = num_wide + (len(read) - num_wide) / _CHARACTERS_PER_TOKEN
    # The rest is taken to be like its beginning.
    return round(estimated * len(text) / max(1, len(read)))


def read_features(text: str, history: Iterable[str] = ()) -> Features:
    """Look at a question, and at how long what came before it is."""
    read = text[:_READ_CHARACTERS]
    instruction = _INSTRUCTION.search(read)
    return Features(
        num_tokens=estimate_tokens(text),
        num_history_tokens=sum(map(estimate_tokens, history)),
        num_sentences=max(1, len(_SENTENCE_END.findall(read))),
        num_steps=len(_LIST_LINE.findall(read)),
        num_questions=len(_QUESTION_END.findall(read)),
        has_code="```" in read or len(_CODE_LINE.findall(read)) >= _LEAST_CODE_LINES,
        has_mathematics=_MATHEMATICS.search(read) is not None,
        instruction=instruction.group() if instruction else "",
        is_japanese=_KANA.search(read) is not None,
    )
