"""How dropped turns come back into a prompt: as a summary, or those of them that are near to the query."""

from __future__ import annotations

from typing import Protocol

from pratique.inference.engines.interface import ChatMessage

__all__ = ["Recall"]


class Recall(Protocol):
    """One way of bringing something back. Called from threads, on the way of a request: it must be quick."""

    def text_for(self, dropped: tuple[ChatMessage, ...], query: str) -> str:
        """Return what of the dropped messages helps with the query, "" for nothing."""
