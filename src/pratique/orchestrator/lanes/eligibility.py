"""Which requests may leave the baseline lane: new, stateless work. Pure.

A closed list of paths that keep nothing between two calls; what is not on it stays. A request that names a
conversation, a session or an earlier response stays as well, and so does one that cannot be read: its refusal is the
baseline's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from pratique.orchestrator.forward.interface import ForwardRequest

__all__ = ["is_stateless"]

_PATHS: Final = frozenset(
    {
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/rerank",
        "/v1/score",
        "/v1/classify",
        "/v1/pooling",
    }
)
# Of what the relay passes on: cookies and x-pratique-conversation choose no server on /v1, they end there.
_AFFINITY_HEADERS: Final = frozenset({"x-conversation-id", "x-pratique-session", "x-session-affinity", "x-session-id"})


class _Names(msgspec.Struct, frozen=True, gc=False):
    """The fields by which a body belongs to something kept; all others are passed over."""

    conversation: Any = None
    conversation_id: Any = None
    previous_response_id: Any = None
    session_id: Any = None
    thread_id: Any = None


_decoder = msgspec.json.Decoder(_Names)


def is_stateless(request: ForwardRequest, *, max_body_bytes: int) -> bool:
    """Whether a request may run anywhere: it is on the list, names nothing that is kept, and is not too long."""
    return (
        request.method == "POST"
        and request.path.partition("?")[0] in _PATHS
        and len(request.body) <= max_body_bytes
        and not any(name.lower() in _AFFINITY_HEADERS for name, _ in request.headers)
        and _names_nothing(request.body)
    )


def _names_nothing(body: bytes) -> bool:
    try:
        names = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return names == _Names()
