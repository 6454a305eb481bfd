"""OpenAI chat requests and the context budget: a request's body → what is wanted; what fitted → the body again. Pure.

Lossless: fields but `messages` stay byte for byte as they were sent, and so does each message that was kept. Only
markers, and a user message that a marker was written into, are new.

What cannot be counted (an image, another template) cannot be fitted. It is not an error here: the engine's own API
says what it takes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from pratique.inference.context.parts import Turn, Wanted
from pratique.inference.engines.interface import ChatMessage, Role

__all__ = ["ChatRequest", "Uncountable", "parse_chat"]

_ROLES: Final[dict[str, Role]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}
_OTHER_PROMPT: Final = ("chat_template", "chat_template_kwargs", "documents")
"""Fields that change what the template makes of the messages."""
_REASON: Final = re.compile(r"[a-z_]{1,32}")


@dataclass(frozen=True, kw_only=True)
class Uncountable:
    """A request that is left as it is; the reason is one word for a header."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class ChatRequest:
    """A chat request, understood as far as the budget needs it."""

    head: tuple[ChatMessage, ...]
    """System and developer messages at the beginning."""
    history: tuple[ChatMessage, ...]
    tail: tuple[ChatMessage, ...]
    """The last user message and what follows it."""
    tools: str
    """As JSON; "" for none."""
    max_tokens: int | None
    _fields: dict[str, msgspec.Raw] = field(repr=False)
    _sent: dict[int, msgspec.Raw] = field(repr=False)
    """How each message was sent, by the identity of what was made of it."""

    @property
    def system_prompt(self) -> str:
        """The text of the head, in one."""
        return "\n\n".join(message.content for message in self.head if message.content)

    def wanted(self, *, reserve_tokens: int) -> Wanted:
        """Return what the budget is asked; `reserve_tokens` are for the reply where the request does not say."""
        return Wanted(
            tail=self.tail,
            system_prompt=self.system_prompt,
            history=tuple(map(Turn, self.history)),
            max_tokens=reserve_tokens if self.max_tokens is None else self.max_tokens,
        )

    def rebuilt(self, fitted: Sequence[ChatMessage], *, max_tokens: int | None = None) -> bytes:
        """Return the body with the messages that fitted.

        Args:
            fitted: the budget's messages; where there is a system prompt, the first is made of the head.
            max_tokens: where given, how long the reply may get.
        """
        rest = fitted[1:] if self.system_prompt else fitted
        messages = [self._sent[id(message)] for message in self.head]
        messages += [self._sent.get(id(message)) or _new(message) for message in rest]
        fields = {**self._fields, "messages": msgspec.Raw(msgspec.json.encode(messages))}
        if max_tokens is not None:
            fields["max_completion_tokens"] = msgspec.Raw(b"%d" % max_tokens)
        return msgspec.json.encode(fields)


class _UncountableError(Exception):
    """Ends the reading of a request; its text is the reason."""


def parse_chat(body: bytes) -> ChatRequest | Uncountable:
    """Read the body of a POST to /v1/chat/completions."""
    try:
        return _parse(body)
    except _UncountableError as error:
        return Uncountable(reason=str(error))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Uncountable(reason="not_a_chat_request")


def _parse(body: bytes) -> ChatRequest:
    fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    for name in _OTHER_PROMPT:
        if _is_given(fields, name):
            raise _UncountableError(name)
    raws = msgspec.json.decode(fields.get("messages", b""), type=list[msgspec.Raw])
    messages = [_message(raw) for raw in raws]
    num_head = next((place for place, one in enumerate(messages) if one.role != "system"), len(messages))
    query = next((place for place in range(len(messages) - 1, -1, -1) if messages[place].role == "user"), None)
    if query is None:
        raise _UncountableError("no_user_message")
    return ChatRequest(
        head=tuple(messages[:num_head]),
        history=tuple(messages[num_head:query]),
        tail=tuple(messages[query:]),
        tools=_tools(fields),
        max_tokens=_max_tokens(fields),
        _fields=fields,
        _sent={id(message): raw for message, raw in zip(messages, raws, strict=True)},
    )


def _message(raw: msgspec.Raw) -> ChatMessage:
    fields = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    name = msgspec.json.decode(fields.pop("role", b""), type=str)
    if name not in _ROLES:
        raise _UncountableError("role")
    content = _text(msgspec.json.decode(fields.pop("content", b"null")))
    extra = msgspec.json.encode(fields).decode() if fields else ""
    return ChatMessage(_ROLES[name], content, extra)


def _text(content: object) -> str:
    """Join the parts of a content, as vLLM does for templates that take text."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise _UncountableError("content")
    return "\n".join(map(_text_of_part, content))


def _text_of_part(part: object) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        raise _UncountableError("content")
    kind, text = part.get("type"), part.get("text")
    if kind == "text" and isinstance(text, str):
        return text
    is_word = isinstance(kind, str) and kind != "text" and _REASON.fullmatch(kind)
    raise _UncountableError(str(kind) if is_word else "content")


def _tools(fields: dict[str, msgspec.Raw]) -> str:
    tools = msgspec.json.decode(fields.get("tools", b"null"), type=list[msgspec.Raw] | None)
    return msgspec.json.encode(tools).decode() if tools else ""


def _max_tokens(fields: dict[str, msgspec.Raw]) -> int | None:
    """Return what the request says; of two that are given the engine takes the newer one's."""
    for name in ("max_completion_tokens", "max_tokens"):
        if _is_given(fields, name):
            tokens = msgspec.json.decode(fields[name])
            if type(tokens) is not int or tokens < 1:
                raise _UncountableError(name)
            return tokens
    return None


def _is_given(fields: dict[str, msgspec.Raw], name: str) -> bool:
    return bytes(fields.get(name, b"null")).strip() not in {b"null", b"{}", b"[]"}


def _new(message: ChatMessage) -> msgspec.Raw:
    extra = msgspec.json.decode(message.extra, type=dict[str, msgspec.Raw]) if message.extra else {}
    return msgspec.Raw(msgspec.json.encode({"role": message.role, "content": message.content, **extra}))
