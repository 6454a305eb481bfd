"""Makes words of text, the same for documents and questions: what is equal here is found.

Text is brought to NFKC and lower case, then cut where the script changes. Japanese goes through SudachiPy's shortest
units (mode A), of which the normalised form counts: マンガ and 漫画, 引越し and 引っ越し are one word. Particles,
auxiliaries, pronouns, interjections and marks are left out by their part of speech. Everything else is split into
words, stripped of accents and stemmed as English. Stop words are left out. Emoji and punctuation are no words.

Needs the extra [retrieval]. The dictionary is a file of the package `sudachidict-small`: nothing is downloaded.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from typing import TYPE_CHECKING, Final

from pratique.orchestrator.retrieval import stopwords
from pratique.orchestrator.retrieval._extras import import_extra

if TYPE_CHECKING:
    import sudachipy  # type: ignore[import-untyped]  # its package has no py.typed
    import tantivy

__all__ = ["WORDS_VERSION", "Words"]

WORDS_VERSION: Final = 1
"""Counts the changes of this module that make other words of the same text."""

_JAPANESE: Final = "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_RUNS: Final = re.compile(rf"(?P<japanese>[{_JAPANESE}]+)|(?P<other>(?:(?![{_JAPANESE}])[^\W_])+(?:'[^\W_]+)?)")
_CHUNK: Final = 8_000
"""Characters that Sudachi is given at a time; it refuses more than 49,149 bytes."""
_KINDS: Final = frozenset({"名詞", "動詞", "形容詞", "形状詞", "接尾辞", "記号"})


class Words:
    """The analyzer. May be used from several threads; loading the dictionary takes some 0.2 seconds."""

    def __init__(self) -> None:
        sudachi, engine = import_extra("sudachipy"), import_extra("tantivy")
        import_extra("sudachidict_small")
        self._dictionary: sudachipy.Dictionary = sudachi.Dictionary(dict="small")
        self._mode: sudachipy.SplitMode = sudachi.SplitMode.A
        builder = engine.TextAnalyzerBuilder(engine.Tokenizer.whitespace())
        filters = (engine.Filter.ascii_fold(), engine.Filter.stemmer("english"))
        for each in filters:
            builder = builder.filter(each)
        self._english: tantivy.TextAnalyzer = builder.build()
        self._local = threading.local()

    def of(self, text: str) -> list[str]:
        """Return the words of a text; the order is not the text's."""
        text = unicodedata.normalize("NFKC", text).lower().replace("\u2019", "'")
        japanese: list[str] = []
        other = []
        for match in _RUNS.finditer(text):
            if match["japanese"]:
                japanese += self._japanese_words(match["japanese"])
            elif match["other"] not in stopwords.ENGLISH:
                other.append(match["other"].partition("'")[0])
        stemmed = (
            self._english.analyze(" ".join(each for each in other if each not in stopwords.ENGLISH)) if other else []
        )
        return japanese + stemmed

    def _japanese_words(self, run: str) -> list[str]:
        tokenizer = self._tokenizer()
        chunks = (run[begin : begin + _CHUNK] for begin in range(0, len(run), _CHUNK))
        return [
            morpheme.normalized_form()
            for chunk in chunks
            for morpheme in tokenizer.tokenize(chunk)
            if morpheme.part_of_speech()[0] in _KINDS and morpheme.normalized_form() not in stopwords.JAPANESE
        ]

    def _tokenizer(self) -> sudachipy.Tokenizer:
        # One for each thread: it holds the lattice of the text at hand.
        found: sudachipy.Tokenizer | None = getattr(self._local, "tokenizer", None)
        if found is None:
            found = self._local.tokenizer = self._dictionary.tokenizer(mode=self._mode)
        return found
