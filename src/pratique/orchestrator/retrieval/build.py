"""Opens the retriever that the settings name."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from pratique.core.metrics import Metrics
    from pratique.orchestrator.retrieval.interface import Retriever
    from pratique.orchestrator.retrieval.settings import RetrievalSettings

__all__ = ["open_retriever"]


async def open_retriever(settings: RetrievalSettings, stack: AsyncExitStack, *, metrics: Metrics) -> Retriever | None:
    """Open it for as long as the stack lives; None where none is configured."""
    del settings, stack, metrics
    return None
