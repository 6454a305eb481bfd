"""Conversations, stored: the source of truth for who said what and which reply is being made.

`interface` says what a store does; `memory`, `sqlite` and `dynamodb` are stores; `rules` decides what they have in
common.
"""

from pratique.orchestrator.conversations.errors import (
    ClientMessageConflictError,
    ConversationNotFoundError,
    ConversationStoreError,
    FencedError,
    GenerationFinishedError,
    GenerationNotFoundError,
    GenerationRunningError,
    InvalidCursorError,
    InvalidTitleError,
    NothingToRetryError,
    StoreUnavailableError,
)
from pratique.orchestrator.conversations.interface import (
    BegunTurn,
    ConversationStore,
    Erased,
    ExportedConversation,
    ExportedTurn,
    FinishedGeneration,
    GenerationOptions,
    GenerationRecord,
    GenerationStatus,
    Outcome,
    Page,
    StoredConversation,
)

__all__ = [
    "BegunTurn",
    "ClientMessageConflictError",
    "ConversationNotFoundError",
    "ConversationStore",
    "ConversationStoreError",
    "Erased",
    "ExportedConversation",
    "ExportedTurn",
    "FencedError",
    "FinishedGeneration",
    "GenerationFinishedError",
    "GenerationNotFoundError",
    "GenerationOptions",
    "GenerationRecord",
    "GenerationRunningError",
    "GenerationStatus",
    "InvalidCursorError",
    "InvalidTitleError",
    "NothingToRetryError",
    "Outcome",
    "Page",
    "StoreUnavailableError",
    "StoredConversation",
]
