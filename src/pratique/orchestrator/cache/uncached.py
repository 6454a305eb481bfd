"""A reader without any cache: every read asks the store. For tests, and to rule caches out when looking for a fault."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

    from pratique.core.ids import ConversationId
    from pratique.orchestrator.cache.interface import SnapshotSource
    from pratique.orchestrator.conversations.interface import StoredConversation

__all__ = ["UncachedReader"]


class UncachedReader:
    """A `ConversationReader` that remembers nothing."""

    def __init__(self, source: SnapshotSource) -> None:
        self._source = source

    async def get(self, conversation_id: ConversationId) -> StoredConversation:
        return await self._source.load_conversation(conversation_id)

    async def refresh(self, conversation_id: ConversationId) -> StoredConversation:
        return await self._source.load_conversation(conversation_id)

    async def written(self, conversation: StoredConversation) -> None:
        """Do nothing: there is no copy that could be old."""

    async def deleted(self, conversation_id: ConversationId) -> None:
        """Do nothing: there is no copy that could be old."""

    def distrust(self, conversation_id: ConversationId) -> None:
        """Do nothing: there is no copy that could be old."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Do nothing: there is nothing to end."""
