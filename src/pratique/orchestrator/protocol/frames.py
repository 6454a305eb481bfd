"""What a client sends. Over WebSocket each frame is one JSON text message, told apart by `type`.

Over HTTP the same bodies are posted without `type`: `POST /api/chat` takes a `Message`, `POST /api/retry` a `Retry`,
`POST /api/cancel` a `Cancel`; `GET /api/conversations/{id}/events` is a `Resume`.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

import msgspec

__all__ = [
    "MAX_TEXT_CHARACTERS",
    "PROTOCOL_VERSION",
    "Cancel",
    "ClientFrame",
    "ClientMessageId",
    "Message",
    "ModelName",
    "Ping",
    "Resume",
    "Retry",
]

PROTOCOL_VERSION: Final = 1
MAX_TEXT_CHARACTERS: Final = 32_768

ClientMessageId: TypeAlias = Annotated[
    str,
    msgspec.Meta(
        min_length=8,
        max_length=64,
        pattern="^[A-Za-z0-9_-]+$",
        description="Chosen by the client, new for each message it means; a retry sends the same one again.",
    ),
]
ModelName: TypeAlias = Annotated[
    str, msgspec.Meta(min_length=1, max_length=128, pattern="^[A-Za-z0-9][A-Za-z0-9._:/@-]*$")
]
_Id: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern="^[a-z]+_[0-9a-z]+$")]
_Text: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TEXT_CHARACTERS)]


class _Frame(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type"):
    """Base of every client frame."""


class Message(_Frame, frozen=True, kw_only=True, tag="message"):
    """Say something. Without a conversation a new one is begun; `accepted` names it."""

    client_message_id: ClientMessageId
    text: _Text
    conversation_id: _Id | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1, le=4096)] | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    model: ModelName | None = None
    """A pool, or an adapter by its name. Without one the routing policy chooses."""


class Retry(_Frame, frozen=True, kw_only=True, tag="retry"):
    """Answer the last user turn again, where its reply failed, was cut short, or was cancelled."""

    conversation_id: _Id
    client_message_id: ClientMessageId


class Resume(_Frame, frozen=True, kw_only=True, tag="resume"):
    """Go on after a lost connection: the events after `last_seq` of that generation, then the live stream.

    Without a generation the conversation's running one is followed from its beginning, where there is one.
    """

    conversation_id: _Id
    generation_id: _Id | None = None
    last_seq: Annotated[int, msgspec.Meta(ge=0, le=2**53)] = 0


class Cancel(_Frame, frozen=True, kw_only=True, tag="cancel"):
    """Stop a reply, all the way into the engine. What was said so far is kept, marked partial."""

    generation_id: _Id


class Ping(_Frame, frozen=True, kw_only=True, tag="ping"):
    """Ask for a `pong` with the same nonce."""

    nonce: Annotated[str, msgspec.Meta(max_length=64)] = ""


ClientFrame: TypeAlias = Message | Retry | Resume | Cancel | Ping
