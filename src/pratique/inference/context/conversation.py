"""Conversations as files hold them: logs of chats, requests of the OpenAI API. Pure: bytes in, values out.

Two shapes are understood, told apart by what is there; what else stands in an object is not read:

- `{"system": "…", "context": ["…"], "messages": [{"role": "user", "content": "…"}, …], "reply": "…"}`
- an OpenAI request or log entry: `{"messages": [{"role": "system", …}, …], "tools": […], "max_tokens": …,
  "usage": {"completion_tokens": …}, "choices": [{"message": …}]}`

The last user message is the query, what stands before it the history. What an assistant says after it is the reply,
unless it calls a tool: then the results, and the reply to them, are still to come.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from pratique.core.errors import CallerError
from pratique.inference.context.parts import Turn, Wanted
from pratique.inference.engines.interface import ChatMessage, Role

__all__ = ["Conversation", "ConversationError", "parse_conversation", "to_conversation"]


class ConversationError(CallerError):
    """A file does not hold a conversation; the message says where it differs."""

    code = "invalid_conversation"


class _Part(msgspec.Struct, frozen=True):
    type: str
    text: str = ""


class _Message(msgspec.Struct, frozen=True):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | tuple[_Part, ...] | None = None
    name: str | None = None
    tool_calls: tuple[Any, ...] | None = None
    tool_call_id: str | None = None
    is_pinned: bool = False


class _Usage(msgspec.Struct, frozen=True):
    completion_tokens: int | None = None


class _Choice(msgspec.Struct, frozen=True):
    message: _Message | None = None


class _Entry(msgspec.Struct, frozen=True):
    messages: tuple[_Message, ...]
    system: str | None = None
    context: tuple[str, ...] | None = None
    reply: str | None = None
    choices: tuple[_Choice, ...] = ()
    usage: _Usage | None = None
    tools: tuple[Any, ...] | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None


_DECODER = msgspec.json.Decoder(_Entry)


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """One request, and what came of it where a log says so."""

    system: str
    passages: tuple[str, ...]
    history: tuple[Turn, ...]
    tail: tuple[ChatMessage, ...]
    """The query and what follows it, the reply left out."""
    reply: str = ""
    reply_tokens: int | None = None
    """As the log counted them."""
    tools: str = ""
    """As JSON."""
    max_tokens: int | None = None

    def wanted(self, *, max_tokens: int) -> Wanted:
        """What the context budget is asked; `max_tokens` where the conversation does not say them."""
        return Wanted(
            tail=self.tail,
            system_prompt=self.system,
            passages=self.passages,
            history=self.history,
            max_tokens=max_tokens if self.max_tokens is None else self.max_tokens,
        )


def parse_conversation(raw: bytes) -> Conversation:
    """Read one JSON object.

    Raises:
        ConversationError: it is none, or not a conversation; says which field is wrong.
    """
    try:
        return _conversation(_DECODER.decode(raw))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _not_one(error) from error


def to_conversation(fields: dict[str, object]) -> Conversation:
    """Return the conversation of an object that is decoded already. Raises ConversationError as above."""
    try:
        return _conversation(msgspec.convert(fields, _Entry))
    except msgspec.ValidationError as error:
        raise _not_one(error) from error


def _not_one(error: Exception) -> ConversationError:
    return ConversationError(
        f"This is not a conversation: {error}.",
        hint='Expected an object like {"messages": [{"role": "user", "content": "…"}]}.',
    )


def _conversation(entry: _Entry) -> Conversation:
    messages = list(entry.messages)
    num_head = next((place for place, one in enumerate(messages) if one.role not in _HEADS), len(messages))
    head = [text for text in (entry.system, *map(_text, messages[:num_head])) if text]
    rest = messages[num_head:]
    query = max((place for place, one in enumerate(rest) if one.role == "user"), default=None)
    if query is None:
        raise ConversationError(
            "This conversation has no user message, so nothing is asked.",
            hint="'messages' needs one with role 'user'.",
        )
    tail, reply = _without_reply(rest[query:])
    answer = next((choice.message for choice in entry.choices if choice.message is not None), None)
    replies = [text for text in (reply, entry.reply, _text(answer) if answer else "") if text]
    return Conversation(
        system="\n\n".join(head),
        passages=entry.context or (),
        history=tuple(Turn(_message(one), is_pinned=one.is_pinned) for one in rest[:query]),
        tail=tuple(map(_message, tail)),
        reply=replies[0] if replies else "",
        reply_tokens=entry.usage.completion_tokens if entry.usage else None,
        tools=msgspec.json.encode(entry.tools).decode() if entry.tools else "",
        max_tokens=_first(entry.max_completion_tokens, entry.max_tokens),
    )


_HEADS = frozenset({"system", "developer"})
_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}


def _without_reply(messages: list[_Message]) -> tuple[list[_Message], str]:
    last = messages[-1]
    if last.role != "assistant" or last.tool_calls:
        return messages, ""
    return messages[:-1], _text(last)


def _message(message: _Message) -> ChatMessage:
    extra = {
        name: value
        for name in ("tool_calls", "tool_call_id", "name")
        if (value := getattr(message, name)) not in (None, "", ())
    }
    return ChatMessage(_ROLES[message.role], _text(message), msgspec.json.encode(extra).decode() if extra else "")


def _text(message: _Message) -> str:
    if isinstance(message.content, tuple):
        return "\n".join(part.text for part in message.content if part.type in {"text", "input_text", "output_text"})
    return message.content or ""


def _first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)
