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
_SAMPLE_CHARACTERS: Final = 1000
"""Of a text whose tokens are estimated; the rest is taken to be like its beginning."""
_CHARACTERS_PER_TOKEN: Final = 4

_WIDE = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uff66-\uff9f]+")
_KANA = re.compile(r"[\u3040-\u30ff\uff66-\uff9f]")
_CODE_LINE = re.compile(
    r"^[ \t]{0,40}(?:def |class |import |from \w+ import |function\b|const |let |var |public |private |"
    r"#include|fn |func |SELECT |INSERT |UPDATE |CREATE TABLE|"
    r"Traceback \(most recent|\$ |[\w.]+\([^()\n]{0,80}\);|[{}][ \t]{0,40}$)",
    re.MULTILINE,
)
_FORMULA = re.compile(r"\d\s?[*^\u00d7\u00f7]\s?\d|\b\w\s?=\s?\w{1,20}\s?[-+*/^]\s?\w")
_OPERATORS: Final = ("*", "^", "=", "\u00d7", "\u00f7")
_MATHEMATICS: Final = (
    *("\\frac", "\\int", "\\sum", "\\sqrt", "\\lim", "\\begin", "$$"),
    *"∑∫∏√≤≥≠∂∞∀∃",
    *("theorem", "integral", "derivative", "equation", "probability", "matrix", "eigenvalue"),
    *("方程式", "積分", "微分", "確率", "行列", "定理", "数列", "関数の"),
)
_INSTRUCTIONS: Final = (
    *(
        "step by step",
        "step-by-step",
        "in detail",
        "explain why",
        "explain how",
        "pros and cons",
        "trade-off",
        "tradeoff",
    ),
    *("compare", "contrast", "analyse", "analyze", "prove", "derive", "design", "refactor", "debug", "evaluate"),
    "critique",
    *(
        "順を追って",
        "段階的に",
        "ステップバイステップ",
        "詳しく",
        "比較",
        "分析",
        "証明",
        "設計",
        "考察",
        "なぜ",
        "理由を",
        "計画",
    ),
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
    """The first word that asks for thought; "" for none."""
    is_japanese: bool


def estimate_tokens(text: str) -> int:
    """Estimate how many tokens a text has, kanji and kana counted by the character."""
    if text.isascii():
        return round(len(text) / _CHARACTERS_PER_TOKEN)
    sample = text[:_SAMPLE_CHARACTERS]
    num_wide = sum(map(len, _WIDE.findall(sample)))
    estimated = num_wide + (len(sample) - num_wide) / _CHARACTERS_PER_TOKEN
    return round(estimated * len(text) / len(sample))


def read_features(text: str, history: Iterable[str] = ()) -> Features:
    """Look at a question, and at how long what came before it is."""
    read = text[:_READ_CHARACTERS]
    return Features(
        num_tokens=estimate_tokens(text),
        num_history_tokens=sum(map(estimate_tokens, history)),
        num_sentences=max(1, len(_SENTENCE_END.findall(read))),
        num_steps=len(_LIST_LINE.findall(read)),
        num_questions=len(_QUESTION_END.findall(read)),
        has_code="```" in read or len(_CODE_LINE.findall(read)) >= _LEAST_CODE_LINES,
        has_mathematics=_has_mathematics(read),
        instruction=_first_instruction(read),
        is_japanese=not read.isascii() and _KANA.search(read) is not None,
    )


def _has_mathematics(text: str) -> bool:
    lowered = text.lower()
    if any(sign in lowered for sign in _MATHEMATICS):
        return True
    return any(sign in text for sign in _OPERATORS) and _FORMULA.search(text) is not None


def _first_instruction(text: str) -> str:
    """Return the instruction that stands first; a word counts from its beginning: "plans", not "planet"."""
    lowered = text.lower()
    found = []
    # Plain searches first: a pattern of all of them takes a hundred times as long.
    for words in _INSTRUCTIONS:
        if words in lowered:
            whole = re.search(
                rf"\b{re.escape(words)}(?:e?d|s|ing)?\b" if words.isascii() else re.escape(words), lowered
            )
            if whole is not None:
                found.append((whole.start(), words))
    return min(found, default=(0, ""))[1]
