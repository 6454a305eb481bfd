"""What the rest of the orchestrator sees of the read path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from types import TracebackType

    from pratique.core.ids import ConversationId
    from pratique.orchestrator.conversations.interface import StoredConversation

__all__ = ["ConversationReader", "SnapshotSource"]


class SnapshotSource(Protocol):
    """The source of truth (L3): the one method of a `ConversationStore` that reading needs."""

    async def load_conversation(self, conversation_id: ConversationId) -> StoredConversation: ...


class ConversationReader(Protocol):
    """Reads snapshots, and is told of every write. Use it inside `async with`, which owns its background task.

    Callers compare the owner of what they get on every read: a cache knows no principals.
    """

    async def get(self, conversation_id: ConversationId) -> StoredConversation:
        """Return a snapshot that is at least as new as the last write told here or pushed by another replica.

        Raises:
            ConversationNotFoundError: unknown or deleted.
            StoreUnavailableError: not cached, and the store cannot be read.
        """
        ...

    async def written(self, conversation: StoredConversation) -> None:
        """Tell every layer and every replica of a snapshot just stored. Never raises for an unreachable L2."""
        ...

    async def deleted(self, conversation_id: ConversationId) -> None:
        """Tell every layer and every replica that it is gone. Never raises for an unreachable L2."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
