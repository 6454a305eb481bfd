from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pratique.inference.errors import WarmupError
from pratique.inference.warmup.shapes import BUILT_IN_SHAPES, Shape, text_of

pytestmark = pytest.mark.unit


@given(st.integers(3, 1200), st.integers(1, 7))
def test_prompts_are_exact_in_tokens(prompt_tokens: int, characters_per_token: int) -> None:
    def count(text: str) -> int:
        # A word costs a token per so many characters, as in byte-pair vocabularies; what is single costs one.
        words = text.replace("\n", " \n ").replace(".", " . ").split(" ")
        return sum(math.ceil(len(word) / characters_per_token) for word in words)

    shape = Shape(name="abc", prompt_tokens=prompt_tokens, output_tokens=1)
    text = text_of(shape, count)
    assert count(text) == prompt_tokens
    assert text.startswith("abc")


def test_a_tokenizer_that_cannot_give_the_length_is_an_error() -> None:
    with pytest.raises(WarmupError, match="exactly 9 tokens"):
        text_of(Shape(name="odd", prompt_tokens=9, output_tokens=1), lambda text: 2 * len(text.split()))


def test_no_two_shapes_begin_alike() -> None:
    assert len({shape.name[0] for shape in BUILT_IN_SHAPES}) == len(BUILT_IN_SHAPES)
    assert [(shape.name, shape.prompt_tokens) for shape in BUILT_IN_SHAPES] == [
        ("short", 10),
        ("medium", 200),
        ("long", 512),
    ]
