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
    Shape(name="long", prompt_tokens=512, output_tokens=4),
)

_WORD: Final = " tide"
_FILLERS: Final = (" a", ".", "!", "\n", "a", "1")


def text_of(shape: Shape, count: Callable[[str], int]) -> str:
    """Return a query of exactly the shape's tokens.

    It begins with the shape's name: with a common beginning the prefix cache would spare a shape what the one before
    it has computed. Words are repeated, and what is missing then is filled up by tokens one at a time.

    Raises:
        WarmupError: this tokenizer gives no text of that length.
    """
    low, high = 0, shape.prompt_tokens
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if count(shape.name + _WORD * middle) <= shape.prompt_tokens else (low, middle - 1)
    text = shape.name + _WORD * low
    while count(text) < shape.prompt_tokens:
        longer = next((text + filler for filler in _FILLERS if count(text + filler) == count(text) + 1), None)
        if longer is None:
            break
        text = longer
    if count(text) != shape.prompt_tokens:
        raise WarmupError(f"No text of exactly {shape.prompt_tokens} tokens was found; the nearest has {count(text)}.")
    return text
