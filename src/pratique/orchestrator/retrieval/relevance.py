"""Which of the passages that an index found are worth giving to the model. Pure.

BM25 ranks, but its scores mean nothing by themselves: something always scores best. What decides is how much of the
question a passage holds: each word of the question weighs as its inverse document frequency (Robertson and Sparck
Jones, in the form of BM25). A word that the index does not know weighs half as much as the rarest: it may be another
subject, or only another way to ask. A passage that holds less than `min_coverage` of the question's weight answers
another question. Of the others, those far below the best score are left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

__all__ = ["Candidate", "Cutoffs", "coverage", "select", "weight"]

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Cutoffs:
    """What is too little, both from 0 (anything goes) to 1."""

    min_coverage: float = 0.35
    relative_score: float = 0.4
    """Of the best passage's score."""


@dataclass(frozen=True, kw_only=True)
class Candidate(Generic[T]):
    """A passage as ranked: what it is, its score, and how much of the question it holds (0…1)."""

    value: T
    score: float
    coverage: float = 1.0


def weight(num_documents: int, document_frequency: int) -> float:
    """Return what a word weighs, above 0: its inverse document frequency, or half the highest where nobody has it."""
    if document_frequency == 0:
        return weight(max(1, num_documents), 1) / 2
    return math.log(1 + (num_documents - document_frequency + 0.5) / (document_frequency + 0.5))


def coverage(weights: Mapping[str, float], held: Collection[str]) -> float:
    """Return the share of the question's weight that a passage with these words holds."""
    total = sum(weights.values())
    return sum(value for word, value in weights.items() if word in held) / total if total else 0.0


def select(candidates: Iterable[Candidate[T]], cutoffs: Cutoffs, *, limit: int) -> tuple[Candidate[T], ...]:
    """Return the best candidates that are good enough, best first."""
    fitting = [each for each in candidates if each.coverage >= cutoffs.min_coverage]
    ranked = sorted(fitting, key=lambda each: -each.score)
    if not ranked:
        return ()
    least = ranked[0].score * cutoffs.relative_score
    return tuple(each for each in ranked[:limit] if each.score >= least)
