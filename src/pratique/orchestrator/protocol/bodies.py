"""The JSON answers of the HTTP side, and the one body that is not a frame."""

from __future__ import annotations

import enum
from typing import Annotated

import msgspec

from pratique.orchestrator.protocol.events import (
    ConversationSummary,
    EventError,
    FinishReason,
    ModelReplica,
    Turn,
    Usage,
)

__all__ = [
    "Cancelled",
    "ConversationList",
    "DataErased",
    "ErrorBody",
    "ModelChoice",
    "ModelKind",
    "ModelList",
    "ModelStatus",
    "Rename",
    "Reply",
    "Session",
    "Status",
]


class _Body(msgspec.Struct, frozen=True, kw_only=True):
    """Base of the answers."""


class Session(_Body, frozen=True, kw_only=True):
    """Who asks. The cookies that come with it make a browser that principal."""

    principal_id: str
    protocol_version: int
    replica: str
    heartbeat_seconds: float


class ModelStatus(_Body, frozen=True, kw_only=True):
    """Whether a model takes traffic, as far as this replica knows."""

    ready: bool
    replicas: tuple[ModelReplica, ...]


class Status(_Body, frozen=True, kw_only=True):
    """How this replica and the models are."""

    replica: str
    draining: bool
    model: ModelStatus


class ModelKind(enum.Enum):
    """What a name stands for."""

    POOL = "pool"
    ADAPTER = "adapter"
    MODEL = "model"
    """Another name of a pool."""


class ModelChoice(_Body, frozen=True, kw_only=True):
    """A name that a message may give as its model."""

    name: str
    kind: ModelKind
    pool: str
    """Who answers to it."""
    description: str
    """Of the pool, for people."""
    is_default: bool
    ready: bool | msgspec.UnsetType = msgspec.UNSET
    """Whether a server of the pool takes traffic; left out where this replica does not know."""


class ModelList(_Body, frozen=True, kw_only=True):
    """What a message may name, the default first, and which policy chooses where it names nothing."""

    policy: str
    models: tuple[ModelChoice, ...]


class ConversationList(_Body, frozen=True, kw_only=True):
    """A page of the list, newest first; `next` is the cursor of the one after it."""

    conversations: tuple[ConversationSummary, ...]
    next: str | None


class Reply(_Body, frozen=True, kw_only=True):
    """A whole reply. `turn` is null where it failed before its first token."""

    conversation_id: str
    generation_id: str
    user_turn_id: str
    turn: Turn | None
    usage: Usage | None
    was_truncated: bool
    turns_dropped: int
    finish_reason: FinishReason | None
    error: EventError | None


class Cancelled(_Body, frozen=True, kw_only=True):
    """Answer to a cancel; `cancelled` is false where the reply had ended."""

    generation_id: str
    cancelled: bool


class DataErased(_Body, frozen=True, kw_only=True):
    """What was erased of the asker's. `complete` is false where time ran out: ask again, and it goes on."""

    conversations: int
    turns: int
    generations: int
    message_ids: int
    complete: bool


class Rename(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Another title for a conversation."""

    title: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class ErrorBody(_Body, frozen=True, kw_only=True):
    """Every refusal."""

    error: EventError
