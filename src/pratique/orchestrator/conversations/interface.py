"""What a conversation store does, whichever it is: values, and the protocol with its invariants.

- A user turn is on disk before `begin_turn` returns, and so is the generation that will answer it.
- One (owner, client message id) is stored once and answered once; asking again returns what it began.
- At most one generation runs in a conversation. A generation has at most one assistant turn, ever.
- Producers are fenced: an epoch lower than the stored one can neither claim nor finish.
- A finished generation never changes. A retried reply is hidden from snapshots, not erased.
- A conversation's `version` grows by one with every change of what a snapshot shows.

It does not decide who may read: `load_conversation` and `load_generation` hand out the owner, and callers compare.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

import msgspec

from pratique.core.ids import ConversationId, GenerationId, PrincipalId, TurnId
from pratique.orchestrator.protocol.events import (  # structs read their field types when they are decoded
    Conversation,
    ConversationSummary,
    EventError,
    FinishReason,
    ReplyDetails,
    Turn,
    Usage,
)

__all__ = [
    "BegunTurn",
    "ConversationStore",
    "Erased",
    "ExportedConversation",
    "ExportedTurn",
    "FinishedGeneration",
    "GenerationOptions",
    "GenerationRecord",
    "GenerationStatus",
    "Outcome",
    "Page",
    "StoredConversation",
]


class _Value(msgspec.Struct, frozen=True, kw_only=True):
    """Base of the values here."""


class GenerationStatus(enum.Enum):
    """Whether a generation has ended."""

    RUNNING = "running"
    FINISHED = "finished"


class GenerationOptions(_Value, frozen=True, kw_only=True):
    """What the client asked of the reply; kept, so that another replica can go on with it."""

    max_tokens: int | None = None
    temperature: float | None = None
    model: str | None = None
    """A pool or an adapter; None: the routing policy chooses."""


class Outcome(_Value, frozen=True, kw_only=True):
    """How a generation ended. `text` is the whole reply."""

    text: str
    finish_reason: FinishReason
    usage: Usage | None = None
    error: EventError | None = None
    was_truncated: bool = False
    turns_dropped: int = 0
    model: str = ""
    details: ReplyDetails | None = None


class GenerationRecord(_Value, frozen=True, kw_only=True):
    """One generation as stored."""

    generation_id: GenerationId
    conversation_id: ConversationId
    owner: PrincipalId
    user_turn_id: TurnId
    options: GenerationOptions
    status: GenerationStatus
    epoch: int
    """0 until the first claim."""
    created_at: float
    """Seconds since 1970 UTC."""
    outcome: Outcome | None = None
    """Set exactly when it is finished."""
    turn_id: TurnId | None = None
    """The assistant turn; None while it runs, and where there was nothing to store."""


class StoredConversation(_Value, frozen=True, kw_only=True):
    """A snapshot with its owner. Compare the owner on every read before showing anything."""

    owner: PrincipalId
    conversation: Conversation

    @property
    def conversation_id(self) -> ConversationId:
        return ConversationId(self.conversation.conversation_id)

    @property
    def version(self) -> int:
        return self.conversation.version


class BegunTurn(_Value, frozen=True, kw_only=True):
    """A stored user turn and the generation that answers it. `duplicate`: both were there already."""

    generation: GenerationRecord
    conversation: StoredConversation
    duplicate: bool = False

    @property
    def conversation_id(self) -> ConversationId:
        return self.generation.conversation_id

    @property
    def user_turn_id(self) -> TurnId:
        return self.generation.user_turn_id

    @property
    def generation_id(self) -> GenerationId:
        return self.generation.generation_id


class FinishedGeneration(_Value, frozen=True, kw_only=True):
    """The end of a generation as stored. `already`: it had ended before, and this is how."""

    generation: GenerationRecord
    conversation: StoredConversation
    already: bool = False

    @property
    def turn_id(self) -> TurnId | None:
        return self.generation.turn_id


class Page(_Value, frozen=True, kw_only=True):
    """A part of the conversation list, newest first."""

    conversations: tuple[ConversationSummary, ...]
    next: str | None = None
    """Opaque; None at the end."""


class ExportedTurn(_Value, frozen=True, kw_only=True):
    """A turn, also one that snapshots no longer show."""

    turn: Turn
    superseded_by: GenerationId | None = None
    """The generation of the retry that hid this reply."""


class ExportedConversation(_Value, frozen=True, kw_only=True):
    """All that is kept of one conversation."""

    conversation_id: ConversationId
    title: str
    created_at: float
    updated_at: float
    turns: tuple[ExportedTurn, ...]
    """In the order they were said; a hidden reply stands before the one that replaced it."""
    generations: tuple[GenerationRecord, ...]
    """Oldest first. The text of an outcome is left out: it is that of its turn."""


class Erased(_Value, frozen=True, kw_only=True):
    """What one step of `erase` removed."""

    conversation_ids: tuple[ConversationId, ...] = ()
    running: tuple[GenerationRecord, ...] = ()
    """Generations that ran in them, for the caller to cancel."""
    num_turns: int = 0
    num_generations: int = 0
    num_messages: int = 0
    """Client message ids that are no longer known."""
    complete: bool = False
    """Nothing of that owner is left."""


class ConversationStore(Protocol):
    """Where conversations live. Every method may raise `StoreUnavailableError`; nothing is half done then."""

    async def begin_turn(
        self,
        *,
        owner: PrincipalId,
        conversation_id: ConversationId | None,
        client_message_id: str,
        text: str,
        options: GenerationOptions,
    ) -> BegunTurn:
        """Store a user turn and a running generation durably; without a conversation, begin one titled by the text.

        Raises:
            ConversationNotFoundError: unknown, deleted, or not the owner's.
            GenerationRunningError: another generation runs in it.
            ClientMessageConflictError: the id was used with another text, conversation or kind of request.
        """
        ...

    async def begin_retry(
        self, *, owner: PrincipalId, conversation_id: ConversationId, client_message_id: str
    ) -> BegunTurn:
        """Begin a new generation for the last user turn, with the options of the one before, and hide its old reply.

        Raises:
            ConversationNotFoundError, GenerationRunningError, ClientMessageConflictError: as in `begin_turn`.
            NothingToRetryError: the last user turn has a complete answer.
        """
        ...

    async def claim(self, generation_id: GenerationId, *, epoch: int, holder: str = "") -> GenerationRecord:
        """Raise the stored epoch, so that whoever produced under a lower one is fenced from now on.

        Repeating the claim that holds (same epoch, same holder) changes nothing and succeeds.

        Raises:
            GenerationNotFoundError: unknown, or gone with its conversation.
            FencedError: the stored epoch is higher, or equal and another holder's.
            GenerationFinishedError: it has ended.
        """
        ...

    async def finish(self, generation_id: GenerationId, *, epoch: int, outcome: Outcome) -> FinishedGeneration:
        """Store the end and the assistant turn in one durable transaction.

        A reply without text that neither stopped nor reached its length stores no assistant turn; the user turn then
        carries the finish reason and the error. A generation that already ended is returned as it is (`already`).

        Raises:
            GenerationNotFoundError: unknown, or gone with its conversation.
            FencedError: the stored epoch is higher.
        """
        ...

    async def load_conversation(self, conversation_id: ConversationId) -> StoredConversation:
        """Return the snapshot, or raise `ConversationNotFoundError`. The caller compares the owner."""
        ...

    async def load_generation(self, generation_id: GenerationId) -> GenerationRecord:
        """Return the record, or raise `GenerationNotFoundError`. The caller compares the owner."""
        ...

    async def list_conversations(self, *, owner: PrincipalId, limit: int, before: str | None = None) -> Page:
        """Return up to `limit` (1…200) of the owner's conversations, newest first, after the cursor `before`.

        Paging shows each conversation that does not change meanwhile exactly once. A store that many machines share
        may show a change here a moment later than in `load_conversation`.

        Raises:
            InvalidCursorError: `before` was not handed out by a page.
        """
        ...

    async def rename(self, *, owner: PrincipalId, conversation_id: ConversationId, title: str) -> StoredConversation:
        """Give it another title (1…200 characters); its place in the list stays.

        Raises:
            ConversationNotFoundError: unknown, deleted, or not the owner's.
            InvalidTitleError: empty or too long.
        """
        ...

    async def delete(
        self,
        *,
        owner: PrincipalId,
        conversation_id: ConversationId,
        on_gone: Callable[[], Awaitable[None]] | None = None,
    ) -> GenerationId | None:
        """Delete it with all its turns; return the generation that was running in it, for the caller to cancel.

        `on_gone` is called as soon as it is durably gone for everybody who asks, before what may take longer: it tells
        the caches. Its client message ids stay known: repeating one later is `ConversationNotFoundError`, not a new
        conversation.

        Raises:
            ConversationNotFoundError: unknown, deleted already, or not the owner's.
        """
        ...

    async def running_generations(self, *, older_than_seconds: float) -> list[GenerationRecord]:
        """Return up to 1,000 unfinished generations begun or last claimed at least that long ago, oldest first."""
        ...

    def export(self, *, owner: PrincipalId) -> AsyncIterator[ExportedConversation]:
        """Yield everything that is kept of the owner's conversations, one at a time.

        A conversation that exists during the whole export is in it exactly once.
        """
        ...

    async def erase(self, *, owner: PrincipalId, limit: int = 100) -> Erased:
        """Remove up to `limit` of the owner's conversations for good, and at last the owner's client message ids.

        Call it until `complete`. Every step is durable; a repetition after an interruption goes on where it was. A
        step that fails in its middle returns what it has done, so that the caller can tell who else has to know.
        """
        ...

    async def purge(self, *, unchanged_since: float, limit: int = 100) -> tuple[ConversationId, ...]:
        """Remove up to `limit` conversations last changed before then (epoch seconds), with their client message ids.

        One in which a generation runs stays, whatever its age. Fewer than `limit` returned: there are no more.
        """
        ...

    async def check(self) -> None:
        """Return if the store can be used, raise `StoreUnavailableError` if not. Cheap enough for a readiness probe."""
        ...

    async def aclose(self) -> None:
        """Finish what is under way and release everything; what comes after is `StoreUnavailableError`."""
        ...
