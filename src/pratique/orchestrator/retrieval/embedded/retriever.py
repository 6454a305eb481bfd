"""The embedded index as a retriever: searches in threads, and opens a new generation when there is one.

The manifest is looked at when a search comes and the last look is some time ago; so an index that was missing at start
is found once it is built. A new generation that cannot be opened leaves the old one in use, with a warning.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, TypeVar

from pratique.core.errors import EnvironmentFaultError
from pratique.core.events import get_logger
from pratique.orchestrator.retrieval.embedded.manifest import load_manifest
from pratique.orchestrator.retrieval.embedded.reader import IndexReader
from pratique.orchestrator.retrieval.interface import RetrievalUnavailableError
from pratique.orchestrator.retrieval.relevance import Cutoffs
from pratique.orchestrator.retrieval.words import Words

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pratique.core.clock import Clock
    from pratique.orchestrator.retrieval.interface import Passage

__all__ = ["EmbeddedRetriever"]

_logger = get_logger("retrieval")
_LOOK_SECONDS: Final = 1.0
T = TypeVar("T")


class EmbeddedRetriever:
    """Searches the index in a folder. The folder may be empty at first; it is only read."""

    def __init__(self, folder: Path, cutoffs: Cutoffs | None = None, *, clock: Clock, threads: int = 2) -> None:
        self._folder = folder
        self._cutoffs = cutoffs or Cutoffs()
        self._clock = clock
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="retrieval")
        self._lock = threading.Lock()
        self._reader: IndexReader | None = None
        self._words: Words | None = None
        self._looked: float | None = None
        self._refused = ""
        """The generation that could not be opened; told once."""
        self._is_closed = False

    async def search(self, query: str, *, limit: int) -> tuple[Passage, ...]:
        return await self._in_thread(lambda: self._current().search(query, self._cutoffs, limit=limit))

    async def check(self) -> None:
        await self._in_thread(self._current)

    async def aclose(self) -> None:
        self._is_closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        if self._is_closed:
            raise RetrievalUnavailableError("The index is closed.")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, _contained, work)
        except (OSError, ValueError) as error:  # what tantivy raises for files that it cannot read
            raise RetrievalUnavailableError(f"The index in {self._folder} cannot be searched: {error}.") from error

    def _current(self) -> IndexReader:
        with self._lock:
            now = self._clock.monotonic()
            if self._reader is None or self._looked is None or now - self._looked >= _LOOK_SECONDS:
                self._look()
                self._looked = now
            if self._reader is None:
                raise RetrievalUnavailableError(f"No index is open in {self._folder}.")
            return self._reader

    def _look(self) -> None:
        """Open the generation that the manifest names, unless it is open."""
        generation = ""
        try:
            manifest = load_manifest(self._folder)
            generation = manifest.generation
            if self._reader is not None and self._reader.manifest.generation == generation:
                return
            self._words = self._words or Words()
            replaced, self._reader = self._reader, IndexReader(self._folder, manifest, self._words)
        except EnvironmentFaultError as error:
            if self._reader is None:
                raise RetrievalUnavailableError(error.message, hint=error.hint) from error
            if generation != self._refused:
                _logger.warning("new_index_not_opened", error=error.message, hint=error.hint)
            self._refused = generation
            return
        if replaced is not None:
            _logger.info("index_replaced", generation=generation, num_passages=manifest.num_passages)


def _contained(work: Callable[[], T]) -> T:
    try:
        return work()
    except Exception:
        raise
    except BaseException as error:
        # A panic in tantivy or Sudachi: pyo3's PanicException is no Exception, and would end the whole replica.
        _logger.exception("index_panicked")
        raise RetrievalUnavailableError(f"The index failed inside: {type(error).__name__}: {error}.") from error
