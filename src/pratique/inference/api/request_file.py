"""A request that lies in a file: a body of /invocations or of the OpenAI API, or a line of a log. Pure."""

from __future__ import annotations

import msgspec

from pratique.inference.api.wire import parse_invocation
from pratique.inference.context.continuation import Continuation
from pratique.inference.context.conversation import ConversationError, parse_conversation, to_conversation
from pratique.inference.context.explain import Asked
from pratique.inference.context.messages import Uncountable, parse_chat

__all__ = ["parse_request"]


def parse_request(raw: bytes, *, default_max_tokens: int) -> Asked:
    """Return what the budget would be asked for this body.

    One with a `query` is a body of /invocations, one with `system` or `context` a line of a conversation log, any other
    a request of the OpenAI API.

    Raises:
        InvalidInvocationError, ConversationError: it is neither.
    """
    kind = _kind(raw)
    if kind.query is None:
        return _log_entry(raw, default_max_tokens) if kind.is_log_entry else _chat(raw, default_max_tokens)
    invocation = parse_invocation(raw)
    fields: dict[str, object] = {
        "system": invocation.system_prompt,
        "context": invocation.context,
        "messages": [*msgspec.to_builtins(invocation.history), {"role": "user", "content": invocation.query}],
    }
    wanted = to_conversation(fields).wanted(max_tokens=invocation.max_tokens)
    return Asked(wanted=wanted, prefix=Continuation(invocation.prefix).opening)


def _log_entry(raw: bytes, default_max_tokens: int) -> Asked:
    conversation = parse_conversation(raw)
    return Asked(wanted=conversation.wanted(max_tokens=default_max_tokens), tools=conversation.tools)


def _chat(raw: bytes, default_max_tokens: int) -> Asked:
    request = parse_chat(raw)
    if isinstance(request, Uncountable):
        raise ConversationError(
            f"This is no chat request that can be counted: {request.reason}. The server leaves such a one as it is.",
            hint='Expected an object like {"messages": [{"role": "user", "content": "…"}]}.',
        )
    return Asked(wanted=request.wanted(reserve_tokens=default_max_tokens), tools=request.tools)


class _Kind(msgspec.Struct, frozen=True):
    query: object = None
    system: object = None
    context: object = None

    @property
    def is_log_entry(self) -> bool:
        return self.system is not None or self.context is not None


def _kind(raw: bytes) -> _Kind:
    try:
        return msgspec.json.decode(raw, type=_Kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConversationError(
            f"This is not a request: {error}.",
            hint="Expected one JSON object, a body of /invocations or of OpenAI's API.",
        ) from error
