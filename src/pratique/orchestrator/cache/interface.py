"""What the rest of the orchestrator sees of the read path, and what a shared cache (L2) does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, Self

from pratique.core.errors import EnvironmentFaultError

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from pratique.core.ids import ConversationId
    from pratique.orchestrator.conversations.interface import StoredConversation

__all__ = [
    "DELETED",
    "Change",
    "ConversationReader",
    "Listener",
    "SharedCache",
    "SharedCacheError",
    "SnapshotSource",
    "Tombstone",
]

DELETED: Final = 2**53 - 1
"""The version that is newer than every other: the conversation was deleted. (The largest that Lua compares exactly.)"""


class SharedCacheError(EnvironmentFaultError):
    """L2 could not be asked, did not answer in time, or refused."""

    code = "shared_cache_unavailable"


@dataclass(frozen=True)
class Tombstone:
    """The answer of L2 for a conversation that was deleted."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """Somebody wrote this version; `origin` is the writer's name for itself."""

    conversation_id: ConversationId
    version: int
    origin: str


class SnapshotSource(Protocol):
    """The source of truth (L3): the one method of a `ConversationStore` that reading needs."""

    async def load_conversation(self, conversation_id: ConversationId) -> StoredConversation: ...


class Listener(Protocol):
    """A live subscription to changes."""

    async def next(self) -> Change:
        """Return the next change; raise `SharedCacheError` once any may have been missed."""
        ...


class SharedCache(Protocol):
    """L2. An older version never replaces a newer one, whoever comes last.

    Every call raises `SharedCacheError`; calls that shared a round trip raise the same object.
    """

    async def load(self, conversation_id: ConversationId) -> StoredConversation | Tombstone | None:
        """Return the entry; None where there is none, or none that can be read."""
        ...

    async def fill(self, conversation: StoredConversation) -> None:
        """Keep what a reader found, unless what is there is newer. Tells nobody."""
        ...

    async def write(self, conversation: StoredConversation) -> None:
        """Keep what was just stored, unless what is there is newer, and tell every listener."""
        ...

    async def outdate(self, conversation_id: ConversationId, version: int) -> None:
        """Forget what is older than `version` and tell every listener; `DELETED` leaves a tombstone."""
        ...

    async def purge(self) -> None:
        """Forget every conversation."""
        ...

    def listen(self) -> AbstractAsyncContextManager[Listener]:
        """Subscribe to changes; inside the context every change from then on is heard."""
        ...

    async def aclose(self) -> None: ...


class ConversationReader(Protocol):
    """Reads snapshots, and is told of every write. Use it inside `async with`, which owns its background tasks.

    Callers compare the owner of what they get on every read: a cache knows no principals.
    """

    async def get(self, conversation_id: ConversationId) -> StoredConversation:
        """Return a snapshot that is at least as new as the last write told here or pushed by another replica.

        Raises:
            ConversationNotFoundError: unknown or deleted.
            StoreUnavailableError: not cached, and the store cannot be read.
        """
        ...

    async def refresh(self, conversation_id: ConversationId) -> StoredConversation:
        """Return what the store has now and bring every layer to it: for whoever takes over from one that died.

        Raises:
            ConversationNotFoundError, StoreUnavailableError: as in `get`.
        """
        ...

    async def written(self, conversation: StoredConversation) -> None:
        """Tell every layer and every replica of a snapshot just stored. Never raises for an unreachable L2."""
        ...

    async def deleted(self, conversation_id: ConversationId) -> None:
        """Tell every layer and every replica that it is gone. Never raises for an unreachable L2."""
        ...

    def distrust(self, conversation_id: ConversationId) -> None:
        """Have the next `get` ask the store: a newer version was heard of by another way than the caches' own."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
