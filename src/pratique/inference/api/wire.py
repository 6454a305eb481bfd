"""The bodies of /invocations: what is accepted, and the events and answers that go back."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec

from pratique.core.errors import PratiqueError
from pratique.inference.errors import InvalidInvocationError

__all__ = ["HistoryTurn", "Invocation", "error_body", "parse_invocation", "sse"]

_Tokens: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=131_072)]


class HistoryTurn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One earlier message."""

    role: Literal["user", "assistant", "tool"]
    content: str
    is_pinned: bool = False
    """Keep it as long as anything of the history is kept."""
    tool_calls: tuple[dict[str, object], ...] = ()
    """What an assistant's message called, as in the OpenAI API; kept or dropped together with the results."""
    tool_call_id: Annotated[str, msgspec.Meta(max_length=256)] = ""
    """Which call a tool's message is the result of."""


class Invocation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a POST to /invocations."""

    query: Annotated[str, msgspec.Meta(min_length=1)]
    model: Annotated[str, msgspec.Meta(max_length=128)] | None = None
    """One of several models of the server, or an adapter's name; the first model without it."""
    adapter: Annotated[str, msgspec.Meta(max_length=128)] | None = None
    """A LoRA adapter of the model."""
    system_prompt: str = ""
    context: tuple[str, ...] = ()
    """Retrieved passages, most relevant first."""
    history: tuple[HistoryTurn, ...] = ()
    """Oldest first."""
    prefix: str = ""
    """What of the reply was already said: generation goes on right after it, and only what is new comes back."""
    max_tokens: _Tokens = 512
    """Of what is new."""
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] = 0.0
    stop: Annotated[tuple[Annotated[str, msgspec.Meta(min_length=1)], ...], msgspec.Meta(max_length=8)] = ()
    seed: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)] | None = None
    stream: bool = False
    request_id: Annotated[str, msgspec.Meta(max_length=128)] | None = None
    conversation_id: Annotated[str, msgspec.Meta(max_length=128)] | None = None


_DECODER = msgspec.json.Decoder(Invocation)


def parse_invocation(body: bytes) -> Invocation:
    """Read a body.

    Raises:
        InvalidInvocationError: naming the field that is wrong and what was expected.
    """
    try:
        return _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInvocationError(
            f"The body of /invocations is wrong: {error}.",
            hint=f"Expected a JSON object with 'query' and any of: {', '.join(Invocation.__struct_fields__)}.",
        ) from error


def error_body(error: PratiqueError, *, fallback: str | None = None) -> dict[str, str]:
    """What an error says on the wire; `fallback` is what a person may be shown in place of the reply."""
    body = {"code": error.code, "message": error.message}
    optional = {"hint": error.hint, "fallback": fallback}
    return body | {name: text for name, text in optional.items() if text}


def sse(event: str, data: object) -> bytes:
    """Encode one server-sent event."""
    return b"event: %s\ndata: %s\n\n" % (event.encode(), msgspec.json.encode(data))
