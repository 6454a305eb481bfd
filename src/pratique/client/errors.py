"""What can go wrong when talking to a chat service.

ClientError
├── on CallerError             change the request (exit 2)
│   ├── InvalidRequestError            invalid_request, and a URL that is none
│   ├── GenerationNotFoundError        generation_not_found
│   ├── TooLargeError                  too_large
│   ├── ContextLengthExceededError     context_length_exceeded
│   ├── ConversationNotFoundError      conversation_not_found: it does not exist, or belongs to somebody else
│   ├── UnknownModelError              unknown_model
│   ├── ClientMessageConflictError     client_message_conflict
│   └── NothingToRetryError            nothing_to_retry
├── on RefusedError            not now, or not you (exit 1)
│   ├── UnauthenticatedError           unauthenticated
│   ├── ForbiddenError                 forbidden
│   ├── OriginRefusedError             origin_refused
│   ├── GenerationRunningError         generation_running
│   ├── OverloadedError                overloaded, rate_limited, draining
│   └── ModelUnavailableError          model_unavailable
└── on EnvironmentFaultError   something outside failed (exit 3)
    ├── ConnectionLostError            no connection within the time given
    ├── ReplyTimeoutError              timeout, first_token_timeout, inter_token_timeout
    ├── StoreUnavailableError          store_unavailable, log_unavailable
    ├── ReplyInterruptedError          interrupted, engine_error
    ├── ReplyLostError                 the server no longer knows the reply that was being followed
    ├── ProtocolMismatchError          the other side does not speak this protocol; not_found, method_not_allowed
    └── ServerFaultError               internal, keys_unavailable, limits_unavailable, any code that is not known here

`wire_code` is the code exactly as the server sent it; `code` is the class's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pratique.core.errors import CallerError, EnvironmentFaultError, PratiqueError, RefusedError

if TYPE_CHECKING:
    from pratique.client._reply import Reply
    from pratique.client._wire import EventError

__all__ = [
    "TRANSIENT_CODES",
    "WIRE_ERRORS",
    "ClientError",
    "ClientMessageConflictError",
    "ConnectionLostError",
    "ContextLengthExceededError",
    "ConversationNotFoundError",
    "ForbiddenError",
    "GenerationNotFoundError",
    "GenerationRunningError",
    "InvalidRequestError",
    "ModelUnavailableError",
    "NothingToRetryError",
    "OriginRefusedError",
    "OverloadedError",
    "ProtocolMismatchError",
    "ReplyInterruptedError",
    "ReplyLostError",
    "ReplyTimeoutError",
    "ServerFaultError",
    "StoreUnavailableError",
    "TooLargeError",
    "UnauthenticatedError",
    "UnknownModelError",
    "from_wire",
]


class ClientError(PratiqueError):
    """Base of every error of this client."""

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        wire_code: str | None = None,
        retry_after_seconds: float | None = None,
        reply: Reply | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.wire_code = wire_code or self.code
        self.retry_after_seconds = retry_after_seconds
        self.reply = reply
        """What had been said when the reply failed, where one had begun."""


class InvalidRequestError(ClientError, CallerError):
    """The request is wrong; the same one will fail again."""

    code = "invalid_request"


class TooLargeError(ClientError, CallerError):
    """The message is longer than the server takes."""

    code = "too_large"


class ContextLengthExceededError(ClientError, CallerError):
    """The message alone does not fit into the model's context."""

    code = "context_length_exceeded"


class ConversationNotFoundError(ClientError, CallerError):
    """No such conversation of ours."""

    code = "conversation_not_found"


class GenerationNotFoundError(ClientError, CallerError):
    """No such reply of ours."""

    code = "generation_not_found"


class ClientMessageConflictError(ClientError, CallerError):
    """The same client message id was used for another text."""

    code = "client_message_conflict"


class UnknownModelError(ClientError, CallerError):
    """The service has no pool or adapter of that name; the hint names what it has."""

    code = "unknown_model"


class NothingToRetryError(ClientError, CallerError):
    """The conversation has no user turn that could be answered again."""

    code = "nothing_to_retry"


class UnauthenticatedError(ClientError, RefusedError):
    """The server does not know who we are: the API key is missing or wrong."""

    code = "unauthenticated"


class ForbiddenError(ClientError, RefusedError):
    """The server knows who we are, and this is not ours to do."""

    code = "forbidden"


class OriginRefusedError(ClientError, RefusedError):
    """The server takes no requests from this origin."""

    code = "origin_refused"


class GenerationRunningError(ClientError, RefusedError):
    """A reply is being given in that conversation; wait for it or cancel it."""

    code = "generation_running"


class OverloadedError(ClientError, RefusedError):
    """The server sheds load; `retry_after_seconds` says when to come back."""

    code = "overloaded"


class ModelUnavailableError(ClientError, RefusedError):
    """No model server takes traffic."""

    code = "model_unavailable"


class ConnectionLostError(ClientError, EnvironmentFaultError):
    """No connection could be made or kept within the time given."""

    code = "connection_lost"


class ReplyTimeoutError(ClientError, EnvironmentFaultError):
    """The reply, or its next token, did not come in time."""

    code = "timeout"


class StoreUnavailableError(ClientError, EnvironmentFaultError):
    """The server cannot store; nothing was accepted."""

    code = "store_unavailable"


class ReplyInterruptedError(ClientError, EnvironmentFaultError):
    """The reply broke off on the server's side; what was said until then is stored as partial."""

    code = "interrupted"


class ReplyLostError(ClientError, EnvironmentFaultError):
    """The server no longer knows the reply that was being followed."""

    code = "reply_lost"


class ProtocolMismatchError(ClientError, EnvironmentFaultError):
    """The other side answered with something that is not this protocol."""

    code = "protocol_mismatch"


class ServerFaultError(ClientError, EnvironmentFaultError):
    """The server failed with a code that this version does not know; see `wire_code`."""

    code = "server_fault"


WIRE_ERRORS: Final[dict[str, type[ClientError]]] = {
    "invalid_request": InvalidRequestError,
    "too_large": TooLargeError,
    "context_length_exceeded": ContextLengthExceededError,
    "conversation_not_found": ConversationNotFoundError,
    "unknown_model": UnknownModelError,
    "client_message_conflict": ClientMessageConflictError,
    "nothing_to_retry": NothingToRetryError,
    "generation_not_found": GenerationNotFoundError,
    "forbidden": ForbiddenError,
    "unauthenticated": UnauthenticatedError,
    "origin_refused": OriginRefusedError,
    "generation_running": GenerationRunningError,
    "overloaded": OverloadedError,
    "rate_limited": OverloadedError,
    "draining": OverloadedError,
    "model_unavailable": ModelUnavailableError,
    "timeout": ReplyTimeoutError,
    "first_token_timeout": ReplyTimeoutError,
    "inter_token_timeout": ReplyTimeoutError,
    "store_unavailable": StoreUnavailableError,
    "interrupted": ReplyInterruptedError,
    "engine_error": ReplyInterruptedError,
    "log_unavailable": StoreUnavailableError,
    "not_found": ProtocolMismatchError,
    "method_not_allowed": ProtocolMismatchError,
    "internal": ServerFaultError,
    "keys_unavailable": ServerFaultError,
    "limits_unavailable": ServerFaultError,
}
# The server said "not now" and stored nothing: the same frame may be sent again.
TRANSIENT_CODES: Final = frozenset(
    {
        "overloaded",
        "rate_limited",
        "draining",
        "store_unavailable",
        "log_unavailable",
        "keys_unavailable",
        "limits_unavailable",
    }
)


def from_wire(error: EventError, *, reply: Reply | None = None) -> ClientError:
    """Make the error that a wire error means."""
    return WIRE_ERRORS.get(error.code, ServerFaultError)(
        error.message,
        hint=error.hint,
        wire_code=error.code,
        retry_after_seconds=error.retry_after_seconds,
        reply=reply,
    )
