"""Warmup shapes, and prompts for them that are exact in tokens. Pure.

A prompt is made of common words in an order of the shape's own, so that two shapes share no beginning that a prefix
cache could spare the second one, and so that tokenizers that merge repeated words have nothing to merge. The number of
words is found by interpolation: a long prompt is tokenised a few times, not once for every step of a bisection.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, Protocol, TypeAlias

from pratique.inference.engines.interface import ChatMessage
from pratique.inference.errors import WarmupError

__all__ = ["BUILT_IN_SHAPES", "Encoder", "Measure", "Prompt", "Shape", "exact_text", "prompt_of", "words_of"]

Measure: TypeAlias = Callable[[str], int]
"""Text → its tokens: bare, or those of the whole prompt around it."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One kind of request: how long its prompt is, how many tokens to generate, and by which adapter."""

    name: str
    prompt_tokens: int
    """Tokens of the user's text; where the shape fills the context, of the whole prompt, chat template included."""
    output_tokens: int
    adapter: str | None = None
    """A LoRA adapter; None is the base model."""
    share: float | None = None
    """Which part of the traffic it stands for, 0…1; None where nobody measured."""
    fills_context: bool = False
    """The catch-all: prompt and output together are exactly what the model takes."""


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """The text of a shape, and what the whole prompt around it has to cost."""

    text: str
    text_tokens: int
    whole_tokens: int


class Encoder(Protocol):
    """What of an engine is needed to make prompts."""

    def encode(self, messages: Sequence[ChatMessage]) -> list[int]:
        """Token ids of the messages in the chat template."""

    def count(self, text: str) -> int:
        """Tokens of a bare text."""


BUILT_IN_SHAPES: Final = (
    Shape(name="short", prompt_tokens=10, output_tokens=4),
    Shape(name="medium", prompt_tokens=200, output_tokens=4),
    Shape(name="long", prompt_tokens=512, output_tokens=4),
)

# One token each, with the space before it, in every vocabulary that knows English.
_WORDS: Final = (
    "time year people way day man thing woman life child world school state family student group country problem hand "
    "part place case week company system program question work government number night point home water room mother "
    "area money story fact month lot right study book eye job word business issue side kind head house service friend "
    "father power hour game line end member law car city name president team minute idea body information back parent "
    "face level office door health person art war history party result change morning reason research girl moment air"
)
# No white space at either end of a text: chat templates strip it.
_FILLERS: Final = (" a", ".", "!", "a", "1", ",", "?", "-")
_SAMPLE_WORDS: Final = 32
_MAX_MEASURES: Final = 32
_MAX_STEPS_BACK: Final = 4


def words_of(seed: str) -> Iterator[str]:
    """Return words without end, always the same ones in the same order for one seed."""
    order = random.Random(seed)  # noqa: S311 - variety, not secrecy
    words = _WORDS.split()
    while True:
        yield from order.sample(words, len(words))


def prompt_of(shape: Shape, engine: Encoder) -> Prompt:
    """Return the shape's prompt, exact in tokens. Takes as long as tokenising it a few times.

    Raises:
        WarmupError: this tokenizer gives no text of that length.
    """

    def whole(text: str) -> int:
        return len(engine.encode((ChatMessage("user", text),)))

    text = exact_text(shape.name, shape.prompt_tokens, whole if shape.fills_context else engine.count)
    return Prompt(text=text, text_tokens=engine.count(text), whole_tokens=whole(text))


def exact_text(seed: str, num_tokens: int, measure: Measure) -> str:
    """Return a text for which `measure` is exactly `num_tokens`.

    Raises:
        WarmupError: there is none that these words and fillers could make; the message has the nearest.
    """
    search = _Search(seed, num_tokens, measure)
    num_words = search.most_words()
    nearest = -1
    for steps_back in range(min(_MAX_STEPS_BACK, num_words) + 1):
        text = search.filled(num_words - steps_back)
        found = search.measure(text)
        if found == num_tokens and text:
            return text
        nearest = max(nearest, found)
    raise WarmupError(
        f"No text of exactly {num_tokens} tokens was found for the shape '{seed}'; the nearest has {nearest}.",
        hint="Give the shape one token more or less, or leave it out of the warmup manifest.",
    )


class _Search:
    """Looks for the most words that cost no more than the wanted tokens, then for what fills the rest."""

    def __init__(self, seed: str, num_tokens: int, measure: Measure) -> None:
        self._stream = words_of(seed)
        self._words: list[str] = []
        self._wanted = num_tokens
        self._measure = measure
        self._known: dict[int, int] = {}

    def measure(self, text: str) -> int:
        return self._measure(text)

    def most_words(self) -> int:
        """Return n for which n words fit and n + 1 do not, asking for as few counts of long texts as will do."""
        low, high = 0, None
        guess = self._first_guess()
        for step in range(_MAX_MEASURES):
            tokens = self._tokens(guess)
            if tokens == self._wanted:
                return guess
            if tokens < self._wanted:
                low = max(low, guess)
            else:
                high = guess if high is None else min(high, guess)
            if high is not None and high - low <= 1:
                break
            guess = self._next_guess(low, high, is_bisecting=step % 4 == 3)  # noqa: PLR2004 - every fourth step
        return low

    def filled(self, num_words: int) -> str:
        """Add to so many words what is missing, one token at a time."""
        text = self._text(num_words)
        tokens = self._tokens(num_words)
        fillers = list(_FILLERS)
        while tokens < self._wanted:
            filler = next((end for end in fillers if self._measure((text + end).lstrip()) == tokens + 1), None)
            if filler is None:
                break
            text, tokens = (text + filler).lstrip(), tokens + 1
            # What served once most often serves again.
            fillers.sort(key=lambda end: end != filler)
        return text

    def _first_guess(self) -> int:
        sample = min(_SAMPLE_WORDS, self._wanted)
        per_word = (self._tokens(sample) - self._tokens(0)) / sample
        return max(1, round((self._wanted - self._tokens(0)) / max(per_word, 0.01)))

    def _next_guess(self, low: int, high: int | None, *, is_bisecting: bool) -> int:
        """Follow the line between the two known ends; every few steps halve, in case the line is none."""
        below = self._tokens(low)
        if high is None:
            rate = max((below - self._tokens(0)) / max(low, 1), 0.01)
            return low + max(1, round((self._wanted - below) / rate))
        if is_bisecting:
            return (low + high) // 2
        rate = (self._tokens(high) - below) / (high - low)
        return min(max(low + int((self._wanted - below) / rate), low + 1), high - 1)

    def _text(self, num_words: int) -> str:
        if len(self._words) < num_words:
            self._words.extend(islice(self._stream, num_words - len(self._words)))
        return " ".join(self._words[:num_words])

    def _tokens(self, num_words: int) -> int:
        if num_words not in self._known:
            self._known[num_words] = self._measure(self._text(num_words))
        return self._known[num_words]
