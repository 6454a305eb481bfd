"""Reads one generation of an index. Blocking; used from threads.

Nothing is ever written into an index that is read: tantivy makes its lock files where it opens an index, so it is
given a private folder of links to the files. So an index may lie on a read-only disk, and be shared by any number of
replicas. Once open, the files stay readable when the generation is removed.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from pratique.orchestrator.retrieval._extras import import_extra
from pratique.orchestrator.retrieval.embedded._engine import BODY, TEXT, TITLE, register_words
from pratique.orchestrator.retrieval.embedded.manifest import IndexDamagedError, verify_version
from pratique.orchestrator.retrieval.interface import Passage
from pratique.orchestrator.retrieval.relevance import Candidate, Cutoffs, coverage, select, weight

if TYPE_CHECKING:
    import tantivy

    from pratique.orchestrator.retrieval.embedded.manifest import Manifest
    from pratique.orchestrator.retrieval.words import Words

__all__ = ["MAX_WORDS", "IndexReader"]

MAX_WORDS: Final = 64
"""Different words of a question that are looked for; the rest is cut."""
_TITLE_BOOST: Final = 2.0
_MORE: Final = 16
"""Candidates that are looked at besides those wanted."""


class _Body(msgspec.Struct, frozen=True):
    source_id: str
    title: str
    url: str | None
    text: str


class IndexReader:
    """One open generation."""

    def __init__(self, folder: Path, manifest: Manifest, words: Words) -> None:
        """Open the generation that the manifest names.

        Raises:
            IndexVersionError, IndexDamagedError: it cannot be read, or not by this version.
        """
        verify_version(manifest, folder)
        self.manifest = manifest
        self._words = words
        self._index = _open(folder / manifest.generation, manifest)
        self._searcher = self._index.searcher()
        self._schema = self._index.schema
        if self._searcher.num_docs != manifest.num_passages:
            raise IndexDamagedError(
                f"Expected {manifest.num_passages} passages in the index in {folder}; found {self._searcher.num_docs}."
            )

    def search(self, query: str, cutoffs: Cutoffs, *, limit: int) -> tuple[Passage, ...]:
        """Return the passages that hold enough of the question, best first."""
        words = list(dict.fromkeys(self._words.of(query)))[:MAX_WORDS]
        if not words:
            return ()
        weights = {word: self._weight(word) for word in words}
        hits = self._searcher.search(self._query(words), limit + _MORE, count=False).hits
        candidates = []
        for score, address in hits:
            document = self._searcher.doc(address)
            held = set(document[TITLE][0].split()) | set(document[TEXT][0].split())
            candidates.append(Candidate(value=document, score=score, coverage=coverage(weights, held)))
        return tuple(_passage(each) for each in select(candidates, cutoffs, limit=limit))

    def _weight(self, word: str) -> float:
        frequency = max(self._searcher.doc_freq(field, word) for field in (TITLE, TEXT))
        return weight(self._searcher.num_docs, frequency)

    def _query(self, words: list[str]) -> tantivy.Query:
        # Built of terms, never parsed: nothing that is written in a question is a command.
        engine = import_extra("tantivy")
        query = engine.Query
        terms = []
        for word in words:
            in_title = query.boost_query(query.term_query(self._schema, TITLE, word, "freq"), _TITLE_BOOST)
            terms.append((engine.Occur.Should, in_title))
            terms.append((engine.Occur.Should, query.term_query(self._schema, TEXT, word, "freq")))
        found: tantivy.Query = query.boolean_query(terms)
        return found


def _open(place: Path, manifest: Manifest) -> tantivy.Index:
    engine = import_extra("tantivy")
    view = Path(tempfile.mkdtemp(prefix="pratique-index-"))
    try:
        for name, expected in manifest.files.items():
            found = (place / name).stat().st_size
            if found != expected.bytes:
                raise IndexDamagedError(f"Expected {expected.bytes} bytes in {place / name}; found {found}.")
            (view / name).symlink_to((place / name).absolute())
        index: tantivy.Index = engine.Index.open(str(view))
        # No thread that watches the files: a generation does not change.
        index.config_reader("manual", 0)
        index.reload()
        register_words(index)
    except (OSError, ValueError) as error:
        raise IndexDamagedError(f"The index in {place} cannot be opened: {error}.") from error
    else:
        return index
    finally:
        shutil.rmtree(view, ignore_errors=True)


def _passage(candidate: Candidate[tantivy.Document]) -> Passage:
    body = msgspec.json.decode(candidate.value[BODY][0], type=_Body)
    return Passage(
        source_id=body.source_id, title=body.title, text=body.text, url=body.url, score=round(candidate.score, 4)
    )
