"""What the fields of frames, events and bodies mean, and what a client does about each error code.

One place for the published schemas and the reference. A note below a field in its class goes first; tests see to it
that no field lacks both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["RETRY_ADVICE", "meaning_of_field"]

_FIELDS: Final[Mapping[str, str]] = {
    "client_message_id": "Chosen by the client, new for each message it means; the same one again is the same message.",
    "conversation_id": "The conversation.",
    "generation_id": "The reply: one attempt at answering a user turn.",
    "user_turn_id": "The user turn as stored.",
    "turn_id": "The turn as stored.",
    "seq": "The event's number in its reply, from 1 without a gap: the cursor.",
    "principal_id": "Who the service takes the client for; conversations belong to it.",
    "protocol_version": "The version that this connection speaks.",
    "heartbeat_seconds": "How often `heartbeat` comes at least.",
    "replica": "The replica's name, for support and logs.",
    "replicas": "Every model server that this replica asks.",
    "ready": "Whether at least one model server takes traffic.",
    "title": "Made of the first message, or given by `PATCH`.",
    "created_at": "Seconds since 1970 UTC.",
    "updated_at": "Seconds since 1970 UTC.",
    "turns": "In their order, without those that a retry replaced.",
    "was_truncated": "The prompt did not fit: something of the conversation was left out of it.",
    "turns_dropped": "How many earlier turns were left out.",
    "usage": "Tokens, where the engine told them.",
    "error": "What went wrong; null where nothing did.",
    "finish_reason": "Why the reply ended; null while it runs, and for user turns that were answered.",
    "model": "The model that answers, as its server calls it.",
    "name": "As configured.",
    "nonce": "Given back unchanged.",
    "code": "For programs; it does not change.",
    "message": "For people.",
    "hint": "For people: what to do next.",
    "retry_after_seconds": "When trying again makes sense; null where waiting does not help.",
    "prompt_tokens": "Of the prompt, the conversation's history included.",
    "completion_tokens": "Of the reply.",
    "text": "The text.",
    "details": "How the reply came about; null where there is nothing to say.",
}
_FIELDS_OF: Final[Mapping[str, str]] = {
    "Message.text": "What the person says.",
    "Message.conversation_id": "Where to say it; without one a new conversation is begun.",
    "Message.max_tokens": "At most so many in the reply; without it the service's own limit.",
    "Message.temperature": "Of sampling; without it the service's own.",
    "Retry.client_message_id": "New for each retry that is meant, as for a message.",
    "Resume.generation_id": "Without it, the conversation's running reply.",
    "Resume.last_seq": "The last number that was seen; 0 for all.",
    "Accepted.duplicate": "The message was stored by an earlier attempt.",
    "Reconnected.generation_id": "Null: nothing is running in the conversation.",
    "Reconnected.last_seq": "What follows has greater numbers.",
    "NotResumable.conversation": "As stored.",
    "Continued.reason": "`model_server_lost` or `orchestrator_lost`.",
    "Token.text": "Append it to what came before.",
    "Turn.role": "Who speaks.",
    "Turn.status": "Whether it is the whole of what was meant.",
    "Turn.text": "All of it.",
    "GoingAway.reconnect_after_seconds": "Before connecting again.",
    "ErrorEvent.client_message_id": "Of the frame that is refused, where it has one.",
    "ErrorEvent.generation_id": "Of the frame or the reply that it is about, where there is one.",
    "ReplyDetails.route": "Which model answers, and why.",
    "ReplyDetails.sources": "What was given to the model with the question.",
    "Conversation.active_generation_id": "The reply that is being made now; null where none is.",
    "ModelReplica.eta_seconds": "Until it takes traffic, where it is known.",
    "Source.source_id": "The passage, as the retriever calls it.",
    "Source.title": "Of the document.",
    "Source.url": "Where to read it, where it can be.",
    "Route.pool": "The pool of model servers.",
    "Reply.turn": "The assistant turn as stored; null where the reply failed before its first word.",
}

_WAIT: Final = "the same again, after `retry_after_seconds`"
_RETRY: Final = "`retry`: the user turn is stored"

RETRY_ADVICE: Final[Mapping[str, str]] = {
    "overloaded": _WAIT,
    "rate_limited": _WAIT,
    "draining": _WAIT,
    "store_unavailable": _WAIT,
    "log_unavailable": _WAIT,
    "keys_unavailable": _WAIT,
    "limits_unavailable": _WAIT,
    "model_unavailable": _RETRY,
    "first_token_timeout": _RETRY,
    "inter_token_timeout": _RETRY,
    "interrupted": _RETRY,
    "engine_error": _RETRY,
    "generation_running": "once the running reply has ended",
    "timeout": "the same again",
    "internal": "the same again",
}
"""By error code, whether trying again may help, and how. The others: no, the same will be refused again."""


def meaning_of_field(kind: str, field: str) -> str:
    """Return what a field of a type means; "" where that stands below the field in its class."""
    return _FIELDS_OF.get(f"{kind}.{field}") or _FIELDS.get(field, "")
