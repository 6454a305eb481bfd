"""The bodies of /invocations: what is accepted, and the events and answers that go back."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec

from pratique.core.errors import PratiqueError
from pratique.inference.errors import InvalidInvocationError

__all__ = ["HistoryTurn", "Invocation", "error_body", "parse_invocation", "sse"]

_Tokens: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=131_072)]


class HistoryTurn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One earlier turn."""

    role: Literal["user", "assistant"]
    content: str


class Invocation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a POST to /invocations."""

    query: Annotated[str, msgspec.Meta(min_length=1)]
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


def error_body(error: PratiqueError) -> dict[str, str]:
    """What an error says on the wire."""
    body = {"code": error.code, "message": error.message}
    return body | {"hint": error.hint} if error.hint else body


def sse(event: str, data: object) -> bytes:
    """Encode one server-sent event."""
    return b"event: %s\ndata: %s\n\n" % (event.encode(), msgspec.json.encode(data))
