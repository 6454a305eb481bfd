"""An index in memory, for tests: the same words, BM25 and cut-offs as the embedded one, without files and threads."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pratique.orchestrator.retrieval.interface import Passage, RetrievalUnavailableError
from pratique.orchestrator.retrieval.passages import Cut, split_document
from pratique.orchestrator.retrieval.relevance import Candidate, Cutoffs, coverage, select, weight
from pratique.orchestrator.retrieval.words import Words

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pratique.orchestrator.retrieval.documents import Document
    from pratique.orchestrator.retrieval.passages import Piece

__all__ = ["MemoryRetriever"]

_K1: Final = 1.2
_B: Final = 0.75
_TITLE_BOOST: Final = 2.0


@dataclass(frozen=True)
class _Field:
    counts: Counter[str]
    length: int


@dataclass(frozen=True)
class _Entry:
    piece: Piece
    fields: tuple[_Field, _Field]
    """Title, text."""


class MemoryRetriever:
    """Searches documents given at once (Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework")."""

    def __init__(
        self, documents: Iterable[Document], cutoffs: Cutoffs | None = None, *, cut: Cut | None = None
    ) -> None:
        self._words = Words()
        self._cutoffs = cutoffs or Cutoffs()
        self._entries = [
            _Entry(piece, (self._field(piece.title), self._field(piece.searched)))
            for document in documents
            for piece in split_document(document, cut or Cut())
        ]
        self._average = [
            max(1.0, sum(entry.fields[at].length for entry in self._entries) / max(1, len(self._entries)))
            for at in (0, 1)
        ]
        self._frequency = [
            Counter(word for entry in self._entries for word in entry.fields[at].counts) for at in (0, 1)
        ]
        self._is_closed = False

    async def search(self, query: str, *, limit: int) -> tuple[Passage, ...]:
        await self.check()
        words = list(dict.fromkeys(self._words.of(query)))
        weights = {word: min(self._weight(at, word) for at in (0, 1)) for word in words}
        found = [
            Candidate(
                value=entry.piece,
                score=self._score(entry, words),
                coverage=coverage(weights, entry.fields[0].counts.keys() | entry.fields[1].counts.keys()),
            )
            for entry in self._entries
        ]
        chosen = select((each for each in found if each.score > 0), self._cutoffs, limit=limit)
        return tuple(
            Passage(
                source_id=each.value.source_id,
                title=each.value.title,
                text=each.value.given,
                url=each.value.url,
                score=each.score,
            )
            for each in chosen
        )

    async def check(self) -> None:
        if self._is_closed:
            raise RetrievalUnavailableError("The index is closed.")

    async def aclose(self) -> None:
        self._is_closed = True

    def _field(self, text: str) -> _Field:
        words = self._words.of(text)
        return _Field(Counter(words), len(words))

    def _weight(self, at: int, word: str) -> float:
        return weight(len(self._entries), self._frequency[at][word])

    def _score(self, entry: _Entry, words: Iterable[str]) -> float:
        total = 0.0
        for at, boost in ((0, _TITLE_BOOST), (1, 1.0)):
            field = entry.fields[at]
            norm = _K1 * (1 - _B + _B * field.length / self._average[at])
            for word in words:
                count = field.counts[word]
                total += boost * self._weight(at, word) * count * (_K1 + 1) / (count + norm)
        return total
