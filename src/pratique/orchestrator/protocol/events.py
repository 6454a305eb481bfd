"""What a client receives. Over WebSocket each event is one JSON text message, told apart by `type`.

Over SSE `event:` is the same `type` and `data:` the same JSON; the numbered events carry `id: <generation_id>:<seq>`,
so that a browser's `Last-Event-ID` is the cursor.

Numbered events (`started`, `continued`, `token`, `ended`) belong to one generation and count from 1 without a gap: what
a client has seen is (generation id, last seq). All others belong to the connection and are not replayed.
"""

from __future__ import annotations

import enum
from typing import TypeAlias

import msgspec

from pratique.orchestrator.protocol.frames import PROTOCOL_VERSION

__all__ = [
    "Accepted",
    "Continued",
    "Conversation",
    "ConversationSummary",
    "Ended",
    "ErrorEvent",
    "EventError",
    "FinishReason",
    "GenerationEvent",
    "GoingAway",
    "Heartbeat",
    "Hello",
    "ModelReplica",
    "ModelState",
    "NotResumable",
    "Pong",
    "Reconnected",
    "ReplyDetails",
    "Role",
    "Route",
    "ServerEvent",
    "Source",
    "Started",
    "Token",
    "Turn",
    "TurnStatus",
    "Usage",
]


class Role(enum.Enum):
    """Who speaks in a turn."""

    USER = "user"
    ASSISTANT = "assistant"


class TurnStatus(enum.Enum):
    """Whether a stored turn is the whole of what was meant."""

    COMPLETE = "complete"
    PARTIAL = "partial"


class FinishReason(enum.Enum):
    """Why a reply ended. All but STOP and LENGTH leave a partial turn."""

    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"
    ERROR = "error"


class _Value(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    """Base of the values inside events."""


class EventError(_Value, frozen=True, kw_only=True):
    """A stable code for programs; a message and a hint for people."""

    code: str
    message: str
    hint: str | None = None
    retry_after_seconds: float | None = None
    fallback: str | None = None
    """What a person may be shown in place of the reply that could not be made."""


class Usage(_Value, frozen=True, kw_only=True):
    """Tokens of one reply, as the engine counted them."""

    prompt_tokens: int
    completion_tokens: int


class Route(_Value, frozen=True, kw_only=True):
    """Which model answers, and why."""

    pool: str
    model: str
    """The adapter that answers; "" for the pool's own model."""
    policy: str
    """Which rule decided: "named" where the message named a model, else the policy's name."""
    reason: str
    """For people: "simple question (1 of 2): long"."""


class Source(_Value, frozen=True, kw_only=True):
    """A passage that was given to the model with the question."""

    source_id: str
    title: str
    url: str | None = None


class ReplyDetails(_Value, frozen=True, kw_only=True):
    """How a reply came about: kept with its turn, shown with it."""

    route: Route | None = None
    sources: tuple[Source, ...] = ()
    notice: str | None = None
    """What the model server tells the reader of the prompt: what was left out of it."""
    degraded: tuple[str, ...] = ()
    """What the reply had to do without: "retrieval", "reduced_context", "routing"."""


class Turn(_Value, frozen=True, kw_only=True):
    """One stored turn of a conversation."""

    turn_id: str
    role: Role
    text: str
    status: TurnStatus
    created_at: float
    """Seconds since 1970 UTC."""
    finish_reason: FinishReason | None = None
    generation_id: str | None = None
    """For a user turn the generation that answers it, for an assistant turn the one that made it."""
    error: EventError | None = None
    was_truncated: bool = False
    turns_dropped: int = 0
    details: ReplyDetails | None = None
    """Of an assistant turn, where there is something to say."""


class Conversation(_Value, frozen=True, kw_only=True):
    """A conversation as stored, with the generation that is running in it, if any."""

    conversation_id: str
    title: str
    created_at: float
    updated_at: float
    version: int
    """Grows by one with every change."""
    turns: tuple[Turn, ...]
    active_generation_id: str | None = None


class ConversationSummary(_Value, frozen=True, kw_only=True):
    """One line of the conversation list."""

    conversation_id: str
    title: str
    created_at: float
    updated_at: float


class ModelReplica(_Value, frozen=True, kw_only=True):
    """What one model server said of itself when last asked."""

    name: str
    state: str
    """The lifecycle state's name, or "unreachable"."""
    detail: str = ""
    """For people: "loading weights"."""
    progress: float | None = None
    """0…1 within the state, where it is known."""
    eta_seconds: float | None = None

    @property
    def takes_traffic(self) -> bool:
        return self.state == "traffic_ready"


class _Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """Base of every server event."""


class Hello(_Event, frozen=True, kw_only=True, tag="hello"):
    """First on every connection."""

    replica: str
    principal_id: str
    heartbeat_seconds: float
    protocol_version: int = PROTOCOL_VERSION


class Heartbeat(_Event, frozen=True, kw_only=True, tag="heartbeat"):
    """The connection lives. Nothing at all for two of these periods means that it does not."""


class ModelState(_Event, frozen=True, kw_only=True, tag="model_state"):
    """Whether a model takes traffic; sent after `hello` and on every change."""

    ready: bool
    replicas: tuple[ModelReplica, ...]


class Accepted(_Event, frozen=True, kw_only=True, tag="accepted"):
    """The user turn is stored durably and this generation answers it. `duplicate`: it already was."""

    client_message_id: str
    conversation_id: str
    user_turn_id: str
    generation_id: str
    duplicate: bool = False


class Reconnected(_Event, frozen=True, kw_only=True, tag="reconnected"):
    """Answer to `resume`: the events after `last_seq` follow. No generation: none is running, see the conversation."""

    conversation_id: str
    generation_id: str | None
    last_seq: int


class NotResumable(_Event, frozen=True, kw_only=True, tag="not_resumable"):
    """The log of that generation is gone; here is the conversation as stored."""

    conversation_id: str
    generation_id: str | None
    conversation: Conversation


class Started(_Event, frozen=True, kw_only=True, tag="started"):
    """The engine took the prompt. Says what did not fit into it."""

    conversation_id: str
    generation_id: str
    seq: int
    model: str
    prompt_tokens: int
    was_truncated: bool = False
    turns_dropped: int = 0
    details: ReplyDetails | None = None


class Continued(_Event, frozen=True, kw_only=True, tag="continued"):
    """Another server goes on with this reply, after what was already sent."""

    conversation_id: str
    generation_id: str
    seq: int
    reason: str


class Token(_Event, frozen=True, kw_only=True, tag="token"):
    """The next piece of the reply's text, at least one token of it."""

    conversation_id: str
    generation_id: str
    seq: int
    text: str


class Ended(_Event, frozen=True, kw_only=True, tag="ended"):
    """Last of a generation, sent after the assistant turn is stored. The turn's text is exactly the tokens' text."""

    conversation_id: str
    generation_id: str
    seq: int
    finish_reason: FinishReason
    turn_id: str | None
    """None where there was nothing to store: the reply failed before its first token."""
    usage: Usage | None = None
    error: EventError | None = None


class Pong(_Event, frozen=True, kw_only=True, tag="pong"):
    """Answer to `ping`."""

    nonce: str = ""


class GoingAway(_Event, frozen=True, kw_only=True, tag="going_away"):
    """This replica drains: reconnect (the edge picks another one) and resume."""

    reconnect_after_seconds: float


class ErrorEvent(_Event, frozen=True, kw_only=True, tag="error"):
    """A frame was refused. The connection lives on unless it is closed right after."""

    error: EventError
    client_message_id: str | None = None
    generation_id: str | None = None


GenerationEvent: TypeAlias = Started | Continued | Token | Ended
ServerEvent: TypeAlias = (
    Hello
    | Heartbeat
    | ModelState
    | Accepted
    | Reconnected
    | NotResumable
    | Started
    | Continued
    | Token
    | Ended
    | Pong
    | GoingAway
    | ErrorEvent
)
