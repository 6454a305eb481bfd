"""Opens the retriever that the settings name."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from pratique.core.events import get_logger
from pratique.core.settings import SettingsError
from pratique.orchestrator.retrieval.guarded import GuardedRetriever
from pratique.orchestrator.retrieval.interface import RetrievalUnavailableError
from pratique.orchestrator.retrieval.passages import Cut
from pratique.orchestrator.retrieval.relevance import Cutoffs

if TYPE_CHECKING:
    from contextlib import AsyncExitStack
    from pathlib import Path

    from pratique.core.clock import Clock
    from pratique.core.metrics import Metrics
    from pratique.orchestrator.retrieval.interface import Retriever
    from pratique.orchestrator.retrieval.settings import RetrievalSettings
    from pratique.orchestrator.settings import OrchestratorSettings

__all__ = ["open_retriever"]

_logger = get_logger("retrieval")
_MAX_SOURCE_BYTES: Final = 16 * 2**20
_CHECK_SECONDS: Final = 5.0


async def open_retriever(
    settings: OrchestratorSettings, stack: AsyncExitStack, *, clock: Clock, metrics: Metrics
) -> Retriever | None:
    """Open it for as long as the stack lives; None where none is configured.

    An index that is not there yet, or a cluster that is away, is no reason not to start: replies are made without
    passages and say so, and the index is used from when it is there.

    Raises:
        SettingsError: the settings do not go together.
        ExtraMissingError: a package is not installed.
        DocumentsError, EnvironmentFaultError: an index is to be built at start, and cannot be.
    """
    table = settings.retrieval
    if table.kind == "none":
        return None
    folder = settings.path_of(table.index, "retrieval-index")
    opened = await _open_embedded(table, folder, clock) if table.kind == "embedded" else _connect(table)
    retriever = GuardedRetriever(
        opened,
        clock=clock,
        metrics=metrics,
        deadline_seconds=table.deadline_seconds,
        query_characters=table.query_characters,
    )
    stack.push_async_callback(retriever.aclose)
    try:
        async with asyncio.timeout(_CHECK_SECONDS):
            await retriever.check()
    except (RetrievalUnavailableError, TimeoutError) as error:
        _logger.warning("retrieval_not_ready", kind=table.kind, error=str(error))
    return retriever


async def _open_embedded(settings: RetrievalSettings, folder: Path | None, clock: Clock) -> Retriever:
    from pratique.orchestrator.retrieval.embedded.manifest import made_by
    from pratique.orchestrator.retrieval.embedded.retriever import EmbeddedRetriever

    made_by()
    if folder is None:
        raise SettingsError("[orchestrator.retrieval] has kind 'embedded' and no index.", hint="Name its folder.")
    if settings.source is not None:
        await asyncio.to_thread(_ensure, settings, settings.source, folder)
    return EmbeddedRetriever(folder, _cutoffs(settings), clock=clock, threads=settings.threads)


def _ensure(settings: RetrievalSettings, path: Path, folder: Path) -> None:
    from pratique.orchestrator.retrieval.documents import load_documents
    from pratique.orchestrator.retrieval.embedded.build import ensure_index

    try:
        cut = Cut(size=settings.passage_characters, overlap=settings.overlap_characters)
    except ValueError as error:
        raise SettingsError(f"[orchestrator.retrieval] is wrong: {error}") from error
    manifest, is_new = ensure_index(load_documents(path, max_bytes=_MAX_SOURCE_BYTES), folder, cut)
    if is_new:
        _logger.info("index_built", folder=str(folder), num_passages=manifest.num_passages)


def _connect(settings: RetrievalSettings) -> Retriever:
    from pratique.orchestrator.retrieval.opensearch import OpenSearchRetriever, connect, read_auth

    client = connect(
        settings.opensearch_url,
        auth=read_auth(settings.opensearch_auth_file),
        ca_file=settings.opensearch_ca_file,
        timeout_seconds=settings.deadline_seconds,
    )
    return OpenSearchRetriever(client, settings.opensearch_index, _cutoffs(settings))


def _cutoffs(settings: RetrievalSettings) -> Cutoffs:
    return Cutoffs(min_coverage=settings.min_coverage, relative_score=settings.relative_score)
