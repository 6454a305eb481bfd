"""The chat protocol, version 1, as this client speaks it: frames out, events in, and the JSON bodies of the HTTP API.

The types are the client's own, because the parts meet over HTTP and not by import; a test proves that they say the
same as the server's published ones. Reading is tolerant where a later server may say more: unknown fields are ignored
and an event of an unknown type is `None`. Writing is exact.
"""

from __future__ import annotations

import enum
from typing import Final, TypeAlias

import msgspec

__all__ = [
    "PROTOCOL_VERSION",
    "Accepted",
    "Cancel",
    "Cancelled",
    "Continued",
    "Conversation",
    "ConversationPage",
    "ConversationSummary",
    "Ended",
    "ErrorBody",
    "ErrorEvent",
    "EventError",
    "FinishReason",
    "Frame",
    "GoingAway",
    "Heartbeat",
    "Hello",
    "Message",
    "ModelReplica",
    "ModelState",
    "ModelStatus",
    "NotResumable",
    "NumberedEvent",
    "Pong",
    "Reconnected",
    "ReplyDetails",
    "Resume",
    "Retry",
    "Role",
    "Route",
    "ServerEvent",
    "ServerStatus",
    "Session",
    "Source",
    "Started",
    "Token",
    "Turn",
    "TurnStatus",
    "Usage",
    "decode_event",
    "encode_body",
    "encode_frame",
    "encode_title",
]

PROTOCOL_VERSION: Final = 1


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


class _Frame(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type"):
    pass


class Message(_Frame, frozen=True, kw_only=True, omit_defaults=True, tag="message"):
    """Say something; without a conversation a new one is begun."""

    client_message_id: str
    text: str
    conversation_id: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    model: str | None = None


class Retry(_Frame, frozen=True, kw_only=True, omit_defaults=True, tag="retry"):
    """Answer the last user turn of a conversation again."""

    conversation_id: str
    client_message_id: str


class Resume(_Frame, frozen=True, kw_only=True, omit_defaults=True, tag="resume"):
    """Follow a reply from the event after `last_seq`; without a generation, the running one from its beginning."""

    conversation_id: str
    generation_id: str | None = None
    last_seq: int = 0


class Cancel(_Frame, frozen=True, kw_only=True, omit_defaults=True, tag="cancel"):
    """Stop a reply, all the way into the engine."""

    generation_id: str


Frame: TypeAlias = Message | Retry | Resume


class _Value(msgspec.Struct, frozen=True, kw_only=True):
    pass


class EventError(_Value, frozen=True, kw_only=True):
    """A stable code for programs; a message and a hint for people."""

    code: str
    message: str
    hint: str | None = None
    retry_after_seconds: float | None = None
    fallback: str | None = None


class Usage(_Value, frozen=True, kw_only=True):
    """Tokens of one reply, as the engine counted them."""

    prompt_tokens: int
    completion_tokens: int


class Route(_Value, frozen=True, kw_only=True):
    """Which model answers, and why: `policy` is the rule, `reason` its words for people."""

    pool: str
    model: str
    policy: str
    reason: str


class Source(_Value, frozen=True, kw_only=True):
    """A passage that was given to the model with the question."""

    source_id: str
    title: str
    url: str | None = None


class ReplyDetails(_Value, frozen=True, kw_only=True):
    """How a reply came about.

    `notice` is what the model server tells of what it left out, `degraded` what the reply had to do without
    ("retrieval", "reduced_context", "routing").
    """

    route: Route | None = None
    sources: tuple[Source, ...] = ()
    notice: str | None = None
    degraded: tuple[str, ...] = ()


class Turn(_Value, frozen=True, kw_only=True):
    """One stored turn. `created_at` is in seconds since 1970 UTC."""

    turn_id: str
    role: Role
    text: str
    status: TurnStatus
    created_at: float
    finish_reason: FinishReason | None = None
    generation_id: str | None = None
    error: EventError | None = None
    was_truncated: bool = False
    turns_dropped: int = 0
    details: ReplyDetails | None = None


class Conversation(_Value, frozen=True, kw_only=True):
    """A conversation as stored, with the generation that is running in it, if any."""

    conversation_id: str
    title: str
    created_at: float
    updated_at: float
    version: int
    turns: tuple[Turn, ...]
    active_generation_id: str | None = None


class ConversationSummary(_Value, frozen=True, kw_only=True):
    """One line of the conversation list."""

    conversation_id: str
    title: str
    created_at: float
    updated_at: float


class ConversationPage(_Value, frozen=True, kw_only=True):
    """Conversations, newest first; `next` is the cursor of the following page."""

    conversations: tuple[ConversationSummary, ...]
    next: str | None = None


class ModelReplica(_Value, frozen=True, kw_only=True):
    """What one model server said of itself when last asked; `progress` is 0…1 within its state."""

    name: str
    state: str
    detail: str = ""
    progress: float | None = None
    eta_seconds: float | None = None


class ModelStatus(_Value, frozen=True, kw_only=True):
    """Whether any model server takes traffic."""

    ready: bool
    replicas: tuple[ModelReplica, ...] = ()


class ServerStatus(_Value, frozen=True, kw_only=True):
    """What the chat service says of itself."""

    replica: str
    draining: bool
    model: ModelStatus


class Session(_Value, frozen=True, kw_only=True):
    """Who we are to the server."""

    principal_id: str
    protocol_version: int
    replica: str
    heartbeat_seconds: float


class Cancelled(_Value, frozen=True, kw_only=True):
    """Answer to a cancel; `cancelled` is false where the reply had already ended."""

    generation_id: str
    cancelled: bool


class ErrorBody(_Value, frozen=True, kw_only=True):
    """The body of an HTTP error."""

    error: EventError


class _Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    pass


class Hello(_Event, frozen=True, kw_only=True, tag="hello"):
    """First on every WebSocket."""

    replica: str
    principal_id: str
    heartbeat_seconds: float
    protocol_version: int = PROTOCOL_VERSION


class Heartbeat(_Event, frozen=True, kw_only=True, tag="heartbeat"):
    """The connection lives."""


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
    """Answer to `resume`: the events after `last_seq` follow. No generation: none is running."""

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
    """The next piece of the reply's text."""

    conversation_id: str
    generation_id: str
    seq: int
    text: str


class Ended(_Event, frozen=True, kw_only=True, tag="ended"):
    """Last of a reply, sent after its turn is stored. `turn_id` is None where there was nothing to store."""

    conversation_id: str
    generation_id: str
    seq: int
    finish_reason: FinishReason
    turn_id: str | None
    usage: Usage | None = None
    error: EventError | None = None


class Pong(_Event, frozen=True, kw_only=True, tag="pong"):
    """Answer to a ping."""

    nonce: str = ""


class GoingAway(_Event, frozen=True, kw_only=True, tag="going_away"):
    """This replica drains: reconnect and resume."""

    reconnect_after_seconds: float


class ErrorEvent(_Event, frozen=True, kw_only=True, tag="error"):
    """A frame was refused."""

    error: EventError
    client_message_id: str | None = None
    generation_id: str | None = None


NumberedEvent: TypeAlias = Started | Continued | Token | Ended
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


class _Tagged(msgspec.Struct):
    type: str


_KNOWN_TYPES: Final = frozenset(
    str(kind.__struct_config__.tag)
    for kind in (
        Hello,
        Heartbeat,
        ModelState,
        Accepted,
        Reconnected,
        NotResumable,
        Started,
        Continued,
        Token,
        Ended,
        Pong,
        GoingAway,
        ErrorEvent,
    )
)
_event_decoder = msgspec.json.Decoder(ServerEvent)
_encoder = msgspec.json.Encoder()


def decode_event(data: bytes | str) -> ServerEvent | None:
    """Read one event; None for a type that this client does not know.

    Raises:
        msgspec.DecodeError: the data is not JSON, or an event of a known type lacks what it must have.
    """
    try:
        event: ServerEvent = _event_decoder.decode(data)
    except msgspec.ValidationError:
        if msgspec.json.decode(data, type=_Tagged).type not in _KNOWN_TYPES:
            return None
        raise
    return event


def encode_frame(frame: Frame | Cancel) -> bytes:
    """Write a frame as a WebSocket sends it, with its `type`."""
    return _encoder.encode(frame)


def encode_body(frame: Frame | Cancel) -> bytes:
    """Write a frame as HTTP posts it: the path says which it is."""
    fields: dict[str, object] = msgspec.to_builtins(frame)
    del fields["type"]
    return _encoder.encode(fields)


def encode_title(title: str) -> bytes:
    """Write the body that renames a conversation."""
    return _encoder.encode({"title": title})
