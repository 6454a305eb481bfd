"""What producers work with, and the values that hold for every reply of a replica."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pratique.orchestrator.sessions.attempts import AttemptLimits
from pratique.orchestrator.sessions.windows import Windows
from pratique.orchestrator.sessions.writer import WriterSettings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pratique.core.clock import Clock
    from pratique.core.ids import ConversationId, IdSource
    from pratique.orchestrator.conversations.interface import ConversationStore, StoredConversation
    from pratique.orchestrator.retrieval.interface import Retriever
    from pratique.orchestrator.sessions.instruments import Instruments
    from pratique.orchestrator.sessions.log.interface import GenerationLog
    from pratique.orchestrator.upstream.interface import Upstream

__all__ = ["ReplySettings", "Workshop"]


@dataclass(frozen=True, kw_only=True)
class ReplySettings:
    """What holds for every reply."""

    system_prompt: str = ""
    max_tokens: int = 512
    temperature: float = 0.0
    history_turns_limit: int = 100
    passages_limit: int = 4
    """Of what retrieval finds for a question."""
    reply_timeout_seconds: float = 600.0
    max_bytes: int = 4 * 2**20
    """Of the reply's log; what outgrows it ends there."""
    limits: AttemptLimits = field(default_factory=AttemptLimits)
    writer: WriterSettings = field(default_factory=WriterSettings)


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """What producers work with, the same for all of a replica's."""

    holder: str
    """This process, and no other: also not the one before it of the same name."""
    store: ConversationStore
    log: GenerationLog
    upstream: Upstream
    written: Callable[[StoredConversation], Awaitable[None]]
    """Tells the cache of a new version; does not raise."""
    distrust: Callable[[ConversationId], None]
    """Tells the cache that there is a newer version than it may know."""
    clock: Clock
    ids: IdSource
    instruments: Instruments
    recall: Callable[[ConversationId], Awaitable[StoredConversation]] | None = None
    """Reads a conversation through the caches; None: from the store."""
    retriever: Retriever | None = None
    """Finds passages for a question; None: replies are made without."""
    settings: ReplySettings = field(default_factory=ReplySettings)
    windows: Windows = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "windows", Windows(self.settings.writer.window_seconds))
