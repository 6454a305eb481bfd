"""The built-in warmup shapes, and prompts that are exact in tokens. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pratique.inference.errors import WarmupError

__all__ = ["BUILT_IN_SHAPES", "Shape", "text_of"]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One kind of request: tokens of the query, and tokens to generate."""

    name: str
    prompt_tokens: int
    output_tokens: int


BUILT_IN_SHAPES: Final = (
    Shape(name="short", prompt_tokens=10, output_tokens=4),
    Shape(name="medium", prompt_tokens=200, output_tokens=4),
    Shape(name="long", prompt_tokens=1000, output_tokens=4),
)

_WORD: Final = "tide"


def text_of(prompt_tokens: int, count: Callable[[str], int]) -> str:
    """Return a text of exactly so many tokens.

    Words are repeated until the count fits; where one more word steps over the number, letters fill up, each
    of them a token of its own in byte-level vocabularies.

    Raises:
        WarmupError: this tokenizer gives no text of that length.
    """
    words = [_WORD] * prompt_tokens
    while words and count(" ".join(words)) > prompt_tokens:
        words.pop()
    text = " ".join(words)
    while count(text) < prompt_tokens:
        text += "\n."
    if count(text) != prompt_tokens:
        raise WarmupError(f"No text of exactly {prompt_tokens} tokens was found; the nearest has {count(text)}.")
    return text
