"""What finds passages for a question, whichever index it is: values, errors, and the protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from pratique.core.errors import EnvironmentFaultError

__all__ = ["Passage", "RetrievalUnavailableError", "Retriever"]


class RetrievalUnavailableError(EnvironmentFaultError):
    """The index cannot be asked, or did not answer in time. The reply goes on without passages, and says so."""

    code = "retrieval_unavailable"


@dataclass(frozen=True, kw_only=True)
class Passage:
    """One piece of text from the index, as it is given to the model."""

    source_id: str
    title: str
    text: str
    score: float
    """Comparable only within one search; higher is better."""
    url: str | None = None


class Retriever(Protocol):
    """An index of passages."""

    async def search(self, query: str, *, limit: int) -> tuple[Passage, ...]:
        """Return up to `limit` passages, best first; () where nothing fits.

        Raises:
            RetrievalUnavailableError.
        """
        ...

    async def check(self) -> None:
        """Return if the index can be asked; raise RetrievalUnavailableError if not."""
        ...

    async def aclose(self) -> None: ...
