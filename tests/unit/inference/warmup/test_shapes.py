"""Prompts exact in tokens, for tokenizers of every kind."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pratique.inference.engines.interface import ChatMessage
from pratique.inference.errors import WarmupError
from pratique.inference.warmup.shapes import BUILT_IN_SHAPES, Measure, Shape, exact_text, prompt_of, words_of

pytestmark = pytest.mark.unit

TEMPLATE_TOKENS = 7


def bpe(characters_per_token: int) -> Measure:
    """A word, with the space before it, costs a token for so many characters; punctuation stands alone."""
    return lambda text: sum(
        math.ceil(len(word) / characters_per_token) for word in re.findall(r" ?[^ .!,?]+|[.!,?]", text)
    )


def sentencepiece(text: str) -> int:
    """A dummy space begins the text, and what a word costs depends on it in no simple way."""
    words = re.findall("▁[^▁]*", "▁" + text.replace(" ", "▁")) if text else []
    return sum(1 + sum(map(ord, word)) % 3 * (len(word) > 4) for word in words)


def merges_repeats(text: str) -> int:
    words = text.split(" ")
    return sum(word != before for before, word in zip(["", *words], words, strict=False))


TOKENIZERS: dict[str, Measure] = {
    "one token a word": bpe(99),
    "pieces of three": bpe(3),
    "characters": bpe(1),
    "bytes": lambda text: len(text.encode()),
    "sentencepiece": sentencepiece,
    "merges repeats": merges_repeats,
    "merges words": lambda text: math.ceil(len(text.split()) / 2) + sum(text.count(sign) for sign in ".!,?-1"),
}


class Encoder:
    """A chat template that strips the message, as many do, and how often it was asked."""

    def __init__(self, measure: Measure) -> None:
        self.measure = measure
        self.characters = 0

    def count(self, text: str) -> int:
        self.characters += len(text)
        return self.measure(text)

    def encode(self, messages: Sequence[ChatMessage]) -> list[int]:
        return [0] * (TEMPLATE_TOKENS + self.count(messages[0].content.strip()))


@pytest.mark.parametrize("measure", TOKENIZERS.values(), ids=TOKENIZERS.keys())
@given(tokens=st.integers(1, 600))
@settings(max_examples=20, deadline=None)
def test_a_prompt_is_exact_in_tokens(measure: Measure, tokens: int) -> None:
    prompt = prompt_of(Shape(name="abc", prompt_tokens=tokens, output_tokens=1), Encoder(measure))
    assert (measure(prompt.text), prompt.text_tokens) == (tokens, tokens)
    assert prompt.whole_tokens == tokens + TEMPLATE_TOKENS


@pytest.mark.parametrize("measure", TOKENIZERS.values(), ids=TOKENIZERS.keys())
@pytest.mark.parametrize("size", [20, 100, 2044])
def test_the_catch_all_fills_the_context_with_its_template(measure: Measure, size: int) -> None:
    shape = Shape(name="catch-all", prompt_tokens=size, output_tokens=4, fills_context=True)
    encoder = Encoder(measure)
    prompt = prompt_of(shape, encoder)
    assert prompt.whole_tokens == size
    assert len(encoder.encode((ChatMessage("user", prompt.text),))) == size


@pytest.mark.parametrize("measure", TOKENIZERS.values(), ids=TOKENIZERS.keys())
def test_a_long_prompt_is_tokenised_a_few_times_only(measure: Measure) -> None:
    encoder = Encoder(measure)
    prompt = prompt_of(Shape(name="huge", prompt_tokens=8000, output_tokens=1), encoder)
    assert encoder.characters <= 20 * len(prompt.text)


def test_with_the_usual_vocabulary_it_is_four_times() -> None:
    encoder = Encoder(bpe(99))
    prompt = prompt_of(Shape(name="huge", prompt_tokens=8000, output_tokens=1), encoder)
    assert encoder.characters <= 4.1 * len(prompt.text)


def test_a_tokenizer_that_only_knows_even_lengths_is_an_error_with_the_nearest() -> None:
    with pytest.raises(WarmupError, match=r"exactly 9 tokens .* 'odd'; the nearest has 8") as caught:
        exact_text("odd", 9, lambda text: 2 * len(text.split()))
    assert "one token more or less" in (caught.value.hint or "")


def test_a_tokenizer_that_counts_nothing_is_an_error_and_not_an_endless_search() -> None:
    with pytest.raises(WarmupError, match="the nearest has 0"):
        exact_text("none", 5, lambda _: 0)


def test_a_tokenizer_whose_lengths_jump_is_still_met() -> None:
    # A word costs 1, but every hundredth word costs 50: interpolation is wrong there, bisection is not.
    def jumps(text: str) -> int:
        words = len(re.findall(r"[a-z]+", text))
        return words + 49 * (words // 100) + sum(text.count(sign) for sign in ".!?,")

    assert jumps(exact_text("abc", 1000, jumps)) == 1000


def test_a_vocabulary_that_gets_denser_is_followed_upwards() -> None:
    def denser(text: str) -> int:
        return math.isqrt(100 * len(text.split(" "))) + text.count(".") if text else 0

    assert denser(exact_text("abc", 300, denser)) == 300


def test_a_whole_prompt_shorter_than_its_template_is_an_error() -> None:
    shape = Shape(name="tiny", prompt_tokens=5, output_tokens=1, fills_context=True)
    with pytest.raises(WarmupError, match="exactly 5 tokens"):
        prompt_of(shape, Encoder(bpe(99)))


def test_words_are_the_same_for_a_seed_and_others_for_another() -> None:
    first = list(islice(words_of("short"), 500))
    assert first == list(islice(words_of("short"), 500))
    assert len({tuple(islice(words_of(seed), 3)) for seed in ("short", "medium", "long", "catch-all", "a", "b")}) == 6


def test_no_text_ends_in_white_space_which_templates_strip() -> None:
    texts = [exact_text("abc", tokens, measure) for measure in TOKENIZERS.values() for tokens in (1, 5, 50)]
    assert texts == [text.strip() for text in texts]


def test_the_built_in_shapes_are_those_of_the_specification() -> None:
    assert [(shape.name, shape.prompt_tokens) for shape in BUILT_IN_SHAPES] == [
        ("short", 10),
        ("medium", 200),
        ("long", 512),
    ]
