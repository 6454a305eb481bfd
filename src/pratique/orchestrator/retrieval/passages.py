"""Cuts documents into passages: what is found, and what the model is given. Pure.

Invariants: a passage's text has at most `size` characters; nothing of the document is left out; passages end at the end
of a paragraph, else of a sentence (also a Japanese one), else of a word, else anywhere. Each but the first begins with
up to `overlap` characters of the one before it, from where a sentence begins: what belongs together is found together.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pratique.orchestrator.retrieval.documents import Document

__all__ = ["Cut", "Piece", "split_document", "split_text"]

_ENDS: Final = (
    re.compile(r"\n\s*\n"),
    re.compile(r"(?<=[。．！？])[」』）]?|(?<=[.!?])\s+|\n"),  # noqa: RUF001 - full-width marks end Japanese sentences
    re.compile(r"\s+|(?<=[、，,;])"),  # noqa: RUF001 - likewise
)


@dataclass(frozen=True, kw_only=True)
class Cut:
    """How long passages are, in characters."""

    size: int = 800
    overlap: int = 100

    def __post_init__(self) -> None:
        """Check the bounds: an overlap of a whole passage would never come to an end."""
        if not 0 <= self.overlap <= self.size // 2:
            raise ValueError(f"Expected an overlap from 0 to half the size ({self.size // 2}); found {self.overlap}.")


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One passage of a document, before it is in an index."""

    source_id: str
    title: str
    url: str | None
    searched: str
    """What is looked through besides the title."""
    given: str
    """What the model is given: the title, then the passage."""


def split_document(document: Document, cut: Cut) -> tuple[Piece, ...]:
    """Return the passages of a document, in order; at least one."""
    facts = " ".join(f"{name}: {value}." for name, value in document.facts.items())
    texts = split_text("\n".join(part for part in (facts, document.text.strip()) if part), cut)
    tags = "\n".join(("", *document.tags))
    return tuple(
        Piece(
            source_id=document.id,
            title=document.title,
            url=document.url,
            searched=text + tags,
            given=f"{document.title}\n{text}".strip(),
        )
        for text in texts or ("",)
    )


def split_text(text: str, cut: Cut) -> tuple[str, ...]:
    """Return the passages of a text; () for one that is blank."""
    passages = []
    begin = 0
    while begin < len(text):
        end = _end_of(text, begin, cut)
        if passage := text[begin:end].strip():
            passages.append(passage)
        if end >= len(text):
            break
        begin = _begin_of_next(text, begin, end, cut.overlap)
    return tuple(passages)


def _end_of(text: str, begin: int, cut: Cut) -> int:
    limit = begin + cut.size
    if limit >= len(text):
        return len(text)
    # Not in the first half: a passage of a word or two says nothing; and the next one must begin further on.
    earliest = begin + cut.size // 2 + 1
    for pattern in _ENDS:
        ends = [match.end() for match in pattern.finditer(text, begin, limit) if match.end() >= earliest]
        if ends:
            return ends[-1]
    return limit


def _begin_of_next(text: str, begin: int, end: int, overlap: int) -> int:
    earliest = max(begin + 1, end - overlap)
    starts = [match.end() for match in _ENDS[1].finditer(text, earliest, end)]
    return next((start for start in starts if start < end), end)
