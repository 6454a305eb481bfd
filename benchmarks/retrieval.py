"""Retrieval on the reference application's catalogue: what is found, what is rightly not given, and how fast.

Baselines in the same run: words as blanks separate them, ranked by BM25 (what a program does that knows no Japanese),
and SQLite's FTS5 with trigrams. Neither has a notion of "nothing fits", so each gives its best four.
The questions and their expected titles stand in examples/manga-assistant/questions.jsonl; the cut-offs' defaults were
chosen by looking at these very questions, so the figures show that they fit, not how they do elsewhere.
Run by `make bench ARGS=retrieval`; `--json` for the figures.
"""

from __future__ import annotations

import argparse
import json
import math
import sqlite3
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
from benchmarks._server import machine

from pratique.orchestrator.retrieval.documents import load_documents
from pratique.orchestrator.retrieval.embedded.build import build_index
from pratique.orchestrator.retrieval.embedded.reader import IndexReader
from pratique.orchestrator.retrieval.passages import Cut, split_document
from pratique.orchestrator.retrieval.relevance import Cutoffs
from pratique.orchestrator.retrieval.smalltalk import without_small_talk
from pratique.orchestrator.retrieval.words import Words

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pratique.orchestrator.retrieval.documents import Source
    from pratique.orchestrator.retrieval.passages import Piece

__all__ = ["main"]

_EXAMPLE: Final = Path(__file__).resolve().parents[1] / "examples" / "manga-assistant"
_LIMIT: Final = 4
_REPETITIONS: Final = 20
_LANGUAGES: Final = ("ja", "en", "mixed")


class _Question(msgspec.Struct, frozen=True):
    question: str
    language: str
    """"" for those that nothing in the catalogue answers."""
    expected: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Result:
    name: str
    recall: dict[str, float]
    """At 4, by language and over all."""
    mrr: float
    given_wrongly: int
    """Questions that nothing answers and that were given passages nevertheless."""
    passages_given: float
    """A question that has an answer."""
    p50_ms: float
    p99_ms: float


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", dest="as_json")
    parser.add_argument("--repetitions", type=int, default=_REPETITIONS)
    options = parser.parse_args()
    lines = (_EXAMPLE / "questions.jsonl").read_bytes().splitlines()
    questions = [msgspec.json.decode(line, type=_Question) for line in lines]
    source = load_documents(_EXAMPLE / "catalogue.jsonl")
    with tempfile.TemporaryDirectory(prefix="pratique-") as folder:
        began = time.perf_counter()
        ours = _ours(source, Path(folder))
        build_seconds = time.perf_counter() - began
        searchers = {"ours": ours, "blanks + BM25": _blanks(source), "FTS5 trigram": _trigrams(source)}
        results = [_measure(name, search, questions, options.repetitions) for name, search in searchers.items()]
    about = {
        "machine": machine(),
        "packages": {name: version(name) for name in ("tantivy", "sudachipy", "sudachidict-small")},
        "documents": len(source.documents),
        "questions": sum(bool(each.expected) for each in questions),
        "questions_without_answer": sum(not each.expected for each in questions),
        "build_seconds": round(build_seconds, 3),
    }
    if options.as_json:
        json.dump({"schema_version": 1, **about, "results": [asdict(each) for each in results]}, sys.stdout, indent=1)
        print()
        return
    print(json.dumps(about))
    print(f"{'':15} recall@4     ja     en  mixed    MRR  wrongly  given       p50       p99")
    for each in results:
        by_language = " ".join(f"{each.recall[language]:6.3f}" for language in _LANGUAGES)
        print(
            f"{each.name:15} {each.recall['all']:8.3f} {by_language} {each.mrr:6.3f} {each.given_wrongly:8d}"
            f" {each.passages_given:6.2f} {each.p50_ms:6.3f} ms {each.p99_ms:6.3f} ms"
        )


def _measure(
    name: str, search: Callable[[str], Sequence[str]], questions: list[_Question], repetitions: int
) -> _Result:
    seconds = []
    for round_number in range(repetitions + 1):
        for each in questions:
            began = time.perf_counter()
            search(each.question)
            if round_number:  # the first one warms up
                seconds.append(time.perf_counter() - began)
    found: dict[str, list[float]] = {language: [] for language in _LANGUAGES}
    given = []
    wrongly = 0
    for each in questions:
        titles = [source_id.partition("/")[0] for source_id in search(each.question)]
        if not each.expected:
            wrongly += bool(titles)
            continue
        given.append(len(titles))
        ranks = [rank for rank, title in enumerate(titles, 1) if title in each.expected]
        found[each.language].append(1 / ranks[0] if ranks else 0.0)
    every = [score for scores in found.values() for score in scores]
    quantiles = statistics.quantiles(seconds, n=100, method="inclusive")
    return _Result(
        name=name,
        recall={key: statistics.fmean(map(bool, scores)) for key, scores in {**found, "all": every}.items()},
        mrr=statistics.fmean(every),
        given_wrongly=wrongly,
        passages_given=statistics.fmean(given),
        p50_ms=quantiles[49] * 1e3,
        p99_ms=quantiles[98] * 1e3,
    )


def _pieces(source: Source) -> list[Piece]:
    return [piece for document in source.documents for piece in split_document(document, Cut())]


def _ours(source: Source, folder: Path) -> Callable[[str], Sequence[str]]:
    words = Words()
    reader = IndexReader(folder, build_index(source, folder, words=words), words)

    def search(question: str) -> Sequence[str]:
        asked = without_small_talk(question)
        found = reader.search(asked, Cutoffs(), limit=_LIMIT) if asked else ()
        return [passage.source_id for passage in found]

    return search


def _blanks(source: Source) -> Callable[[str], Sequence[str]]:
    pieces = _pieces(source)
    counts = [Counter(f"{piece.title} {piece.searched}".lower().split()) for piece in pieces]
    frequency = Counter(word for each in counts for word in each)
    average = statistics.fmean(each.total() for each in counts)

    def score(count: Counter[str], words: list[str]) -> float:
        norm = 1.2 * (0.25 + 0.75 * count.total() / average)
        weights = {
            word: math.log(1 + (len(pieces) - frequency[word] + 0.5) / (frequency[word] + 0.5)) for word in words
        }
        return sum(weight * count[word] * 2.2 / (count[word] + norm) for word, weight in weights.items())

    def search(question: str) -> Sequence[str]:
        words = question.lower().split()
        scored = sorted(((score(count, words), at) for at, count in enumerate(counts)), key=lambda each: -each[0])
        return [pieces[at].source_id for points, at in scored[:_LIMIT] if points > 0]

    return search


def _trigrams(source: Source) -> Callable[[str], Sequence[str]]:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE VIRTUAL TABLE passages USING fts5(id UNINDEXED, title, text, tokenize = 'trigram')")
    rows = ((piece.source_id, piece.title, piece.searched) for piece in _pieces(source))
    connection.executemany("INSERT INTO passages VALUES (?, ?, ?)", rows)
    statement = "SELECT id FROM passages WHERE passages MATCH ? ORDER BY bm25(passages, 0, 2, 1) LIMIT ?"

    def search(question: str) -> Sequence[str]:
        grams = {question[at : at + 3].replace('"', '""') for at in range(len(question) - 2)}
        match = " OR ".join(f'"{gram}"' for gram in grams)
        return [row[0] for row in connection.execute(statement, (match, _LIMIT))] if match else []

    return search


if __name__ == "__main__":
    main()
