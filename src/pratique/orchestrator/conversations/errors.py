"""What a conversation store says no with.

ConversationStoreError
├── (CallerError)            the request names or means something that is not there
│   ├── ConversationNotFoundError    unknown, deleted, or another principal's: all the same to the asker
│   ├── GenerationNotFoundError      unknown, or gone with its conversation
│   ├── ClientMessageConflictError   the client message id was used for something else
│   ├── InvalidCursorError           not a cursor that a page handed out
│   └── InvalidTitleError            empty, or too long
├── (RefusedError)           understood, and against the state that is stored
│   ├── GenerationRunningError       another reply is being made in that conversation
│   ├── NothingToRetryError          the last user turn has its whole answer
│   ├── FencedError                  a newer epoch holds that generation: stop producing
│   └── GenerationFinishedError      it ended; its record says how
└── (EnvironmentFaultError)
    └── StoreUnavailableError        nothing was stored, or it cannot be known: disk, lock, damage
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pratique.core.errors import CallerError, EnvironmentFaultError, PratiqueError, RefusedError

if TYPE_CHECKING:
    from pratique.core.ids import GenerationId
    from pratique.orchestrator.conversations.interface import GenerationRecord

__all__ = [
    "ClientMessageConflictError",
    "ConversationNotFoundError",
    "ConversationStoreError",
    "FencedError",
    "GenerationFinishedError",
    "GenerationNotFoundError",
    "GenerationRunningError",
    "InvalidCursorError",
    "InvalidTitleError",
    "NothingToRetryError",
    "StoreUnavailableError",
]


class ConversationStoreError(PratiqueError):
    """Base of everything a conversation store raises on purpose."""


class ConversationNotFoundError(ConversationStoreError, CallerError):
    """No such conversation for this principal. Says nothing about whether another principal has it."""

    code = "conversation_not_found"

    def __init__(self, conversation_id: str) -> None:
        super().__init__(f"There is no conversation '{conversation_id}'.")
        self.conversation_id = conversation_id


class GenerationNotFoundError(ConversationStoreError, CallerError):
    """No such generation; where it once was, its conversation has been deleted."""

    code = "generation_not_found"

    def __init__(self, generation_id: str) -> None:
        super().__init__(f"There is no generation '{generation_id}'.")
        self.generation_id = generation_id


class ClientMessageConflictError(ConversationStoreError, CallerError):
    """The same client message id came with another text, another conversation, or another kind of request."""

    code = "client_message_conflict"

    def __init__(self, client_message_id: str) -> None:
        super().__init__(
            f"The client message id '{client_message_id}' was already used for something else.",
            hint="Send a new id with each new message, and the same id only to repeat the same one.",
        )
        self.client_message_id = client_message_id


class InvalidCursorError(ConversationStoreError, CallerError):
    """The text given as a cursor was not handed out by a page."""

    code = "invalid_request"

    def __init__(self) -> None:
        super().__init__("The cursor of the conversation list is malformed.", hint="Use `next` of the page before.")


class InvalidTitleError(ConversationStoreError, CallerError):
    """A title that cannot be shown."""

    code = "invalid_request"


class GenerationRunningError(ConversationStoreError, RefusedError):
    """One reply at a time in a conversation."""

    code = "generation_running"

    def __init__(self, conversation_id: str, running: GenerationId) -> None:
        super().__init__(
            f"In conversation '{conversation_id}' the reply '{running}' is still being made.",
            hint="Wait until it ended, or cancel it.",
        )
        self.generation_id = running


class NothingToRetryError(ConversationStoreError, RefusedError):
    """The last user turn is answered, whole."""

    code = "nothing_to_retry"

    def __init__(self, conversation_id: str) -> None:
        super().__init__(f"Conversation '{conversation_id}' has no failed or partial reply at its end to retry.")


class FencedError(ConversationStoreError, RefusedError):
    """Another producer holds this generation by a newer epoch. Whoever gets this must stop producing."""

    code = "fenced"

    def __init__(self, generation_id: str, *, epoch: int, stored_epoch: int) -> None:
        super().__init__(f"Generation '{generation_id}' is held by epoch {stored_epoch}; epoch {epoch} is too late.")
        self.generation_id = generation_id
        self.epoch = epoch
        self.stored_epoch = stored_epoch


class GenerationFinishedError(ConversationStoreError, RefusedError):
    """The generation ended; `record.outcome` is how."""

    code = "generation_finished"

    def __init__(self, record: GenerationRecord) -> None:
        super().__init__(f"Generation '{record.generation_id}' has already ended.")
        self.record = record


class StoreUnavailableError(ConversationStoreError, EnvironmentFaultError):
    """The store cannot be used now. A write that raises this was not acknowledged; repeating it is safe."""

    code = "store_unavailable"
