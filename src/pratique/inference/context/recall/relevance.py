"""Recall by relevance: what was said nearest to the query comes back as quoted lines. Pure.

Exchanges (a question and what followed it) are ranked by BM25 (Robertson & Zaragoza, "The Probabilistic Relevance
Framework: BM25 and Beyond", 2009) over the terms of `_words`. From the best exchanges down, a whole exchange is quoted
where it fits, else its nearest sentences. The lines stand in the order in which they were said, and are at most so many
tokens together. Nothing that shares no term with the query is quoted; the most common words are no terms.

Linear in the text, and bounded: the newest `max_characters` are looked at, and of the query its first and last ones.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from pratique.inference.context.recall._words import is_common, pieces_of, terms_of
from pratique.inference.engines.interface import ChatMessage

__all__ = ["Bm25", "RelevanceRecall"]

_K1: Final = 1.2
_B: Final = 0.75
_MAX_CHARACTERS: Final = 400_000
_MAX_QUERY_CHARACTERS: Final = 2_000
_MAX_PIECE: Final = 200
_MAX_PIECES: Final = 400
_MAX_EXCHANGES: Final = 16
_MAX_COUNTS: Final = 64
_MAX_CHARACTERS_A_TOKEN: Final = 32
"""A text with more is not even counted: it would be one of spaces or dashes."""
_SPEAKER: Final = {"user": "User", "assistant": "Assistant", "tool": "Tool", "system": "System"}


@dataclass(frozen=True, kw_only=True)
class _Line:
    """A quoted text and where it was said."""

    place: tuple[int, int]
    """Index of the message, and of the sentence in it."""
    text: str


class RelevanceRecall:
    """Implements `Recall` over counts of bare texts; holds nothing between calls."""

    def __init__(self, count: Callable[[str], int], *, max_tokens: int, max_characters: int = _MAX_CHARACTERS) -> None:
        self._count = count
        self._max_tokens = max_tokens
        self._max_characters = max_characters

    async def start(self) -> None:
        """Do nothing: there is no work in the background."""

    async def aclose(self) -> None:
        """Do nothing."""

    def text_for(self, dropped: tuple[ChatMessage, ...], query: str) -> str:
        """Return the lines to quote, joined; "" where nothing is near."""
        if not self._max_tokens:
            return ""
        wanted = tuple(dict.fromkeys(term for term in terms_of(_ends(query)) if not is_common(term)))
        exchanges = _exchanges(dropped, self._max_characters)
        texts = [" ".join(dropped[index].content for index in exchange) for exchange in exchanges]
        return self._fill(_candidates(dropped, exchanges, Bm25(texts, wanted)))

    def _fill(self, candidates: Iterable[Sequence[_Line]]) -> str:
        """Take the candidates that fit, best first, each whole or not at all; what is said twice only once."""
        taken: dict[str, _Line] = {}
        used, num_counted = 0, 0
        for lines in candidates:
            fresh = {line.text: line for line in lines if line.text not in taken}
            text = _joined(fresh.values()) + "\n"
            if not fresh or len(text) > _MAX_CHARACTERS_A_TOKEN * (self._max_tokens - used):
                continue
            cost, num_counted = self._count(text), num_counted + 1
            if used + cost <= self._max_tokens:
                taken |= fresh
                used += cost
            if num_counted == _MAX_COUNTS or used == self._max_tokens:
                break
        return self._checked(list(taken.values()))

    def _checked(self, lines: list[_Line]) -> str:
        """Leave out the least near line as long as all together are more tokens than each by itself came to."""
        while lines and self._count(_joined(lines)) > self._max_tokens:
            lines.pop()
        return _joined(lines)


class Bm25:
    """Scores of texts for one set of terms."""

    def __init__(self, texts: Sequence[str], wanted: Sequence[str]) -> None:
        terms = frozenset(wanted)
        lengths, found = [], []
        for text in texts:
            bag = Counter(terms_of(text))
            lengths.append(bag.total())
            found.append({term: bag[term] for term in terms & bag.keys()})
        self._mean_length = max(sum(lengths) / max(len(lengths), 1), 1.0)
        holding = Counter(term for bag in found for term in bag)
        self._wanted = wanted
        # The variant that stays positive for a term of most texts.
        self._weights = {
            term: math.log(1 + (len(texts) - holding[term] + 0.5) / (holding[term] + 0.5)) for term in wanted
        }
        self.scores = [self._score(bag, length) for bag, length in zip(found, lengths, strict=True)]
        """One for each of the texts; 0 for one without any of the terms."""

    def score(self, text: str) -> float:
        """Return the score of another text, by the weights of these."""
        bag = Counter(terms_of(text))
        return self._score(bag, bag.total())

    def _score(self, bag: dict[str, int], length: int) -> float:
        norm = _K1 * (1 - _B + _B * length / self._mean_length)
        # In the order of the query: sums of floats depend on it, and a set's order on the process.
        return sum(
            self._weights[term] * bag[term] * (_K1 + 1) / (bag[term] + norm) for term in self._wanted if term in bag
        )


def _exchanges(dropped: Sequence[ChatMessage], max_characters: int) -> list[range]:
    """Return the newest exchanges, oldest first, as ranges of messages; a user's message begins one."""
    found: list[range] = []
    end, characters = len(dropped), 0
    for index in range(len(dropped) - 1, -1, -1):
        characters += len(dropped[index].content)
        if characters > max_characters:
            break
        if dropped[index].role == "user" or index == 0:
            found.append(range(index, end))
            end = index
    return found[::-1]


def _candidates(
    dropped: Sequence[ChatMessage], exchanges: Sequence[range], ranking: Bm25
) -> Iterator[tuple[_Line, ...]]:
    """Yield what could be quoted, best first: each near exchange whole, and after it its near sentences."""
    near = [(score, exchange) for score, exchange in zip(ranking.scores, exchanges, strict=True) if score > 0]
    for _, exchange in sorted(near, key=lambda pair: (-pair[0], -pair[1].start))[:_MAX_EXCHANGES]:
        lines = [line for index in exchange for line in _lines(index, dropped[index])]
        yield tuple(lines)
        scored = [(ranking.score(line.text), line) for line in lines[:_MAX_PIECES]]
        for score, line in sorted(scored, key=lambda pair: (-pair[0], pair[1].place)):
            if score > 0:
                yield (line,)


def _lines(index: int, message: ChatMessage) -> Iterator[_Line]:
    for number, piece in enumerate(pieces_of(message.content, max_characters=_MAX_PIECE)):
        yield _Line(place=(index, number), text=f"{_SPEAKER[message.role]}: “{piece}”")


def _joined(lines: Iterable[_Line]) -> str:
    return "\n".join(line.text for line in sorted(lines, key=lambda line: line.place))


def _ends(query: str) -> str:
    if len(query) <= 2 * _MAX_QUERY_CHARACTERS:
        return query
    return f"{query[:_MAX_QUERY_CHARACTERS]} {query[-_MAX_QUERY_CHARACTERS:]}"
