"""What the orchestrator asks of a model server, and what comes back.

UpstreamError
├── UpstreamUnavailableError    nothing took the request: not ready, draining, nobody there. Nothing was generated.
│   └── RetryRefusedError       nobody was asked: too many requests of late were repeats already
├── UpstreamInterruptedError    a server took it and was lost, or failed in a way that another one may not
│   └── UpstreamGarbledError    what it sent is not the contract's
├── UpstreamTimeoutError        it took too long; `phase` says for what
└── UpstreamRefusedError        it said no, and any other server would: the request itself is wrong
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self, TypeAlias

from pratique.core.errors import CallerError, EnvironmentFaultError
from pratique.core.ids import ConversationId
from pratique.orchestrator.protocol.events import Route

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

__all__ = [
    "HistoryTurn",
    "RetryRefusedError",
    "TimeoutPhase",
    "Upstream",
    "UpstreamEnd",
    "UpstreamEvent",
    "UpstreamGarbledError",
    "UpstreamInterruptedError",
    "UpstreamRefusedError",
    "UpstreamRequest",
    "UpstreamStart",
    "UpstreamStream",
    "UpstreamTimeoutError",
    "UpstreamToken",
    "UpstreamUnavailableError",
]


class TimeoutPhase(enum.Enum):
    """What was waited for too long."""

    FIRST_TOKEN = "first_token"  # noqa: S105 - a phase, not a password
    INTER_TOKEN = "inter_token"  # noqa: S105 - a phase, not a password
    REPLY = "reply"


class UpstreamUnavailableError(EnvironmentFaultError):
    """Nothing took the request; nothing was generated."""

    code = "model_unavailable"

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        fallback: str | None = None,
        retry_after_seconds: float | None = None,
        is_serving: bool = False,
    ) -> None:
        super().__init__(message, hint=hint)
        self.fallback = fallback
        """What a person may be shown in place of the reply."""
        self.retry_after_seconds = retry_after_seconds
        """When it is worth asking again, where that was said (RFC 9110 10.2.3); earlier is not."""
        self.is_serving = is_serving
        """Servers are there, with no room or with failures: this is no wait for one that still loads."""


class RetryRefusedError(UpstreamUnavailableError):
    """Nobody was asked: this would be one repeat too many, on top of what the servers have to do."""


class UpstreamInterruptedError(EnvironmentFaultError):
    """A server took the request and was lost, or failed in a way that another one may not."""

    code = "engine_error"


class UpstreamGarbledError(UpstreamInterruptedError):
    """What the server sent is not what the contract says."""


class UpstreamTimeoutError(EnvironmentFaultError):
    """The server took too long."""

    code = "timeout"

    def __init__(self, message: str, *, phase: TimeoutPhase) -> None:
        super().__init__(message)
        self.phase = phase


class UpstreamRefusedError(CallerError):
    """The request itself is wrong; `refused_code` is the model server's word for it."""

    code = "engine_error"

    def __init__(
        self, message: str, *, refused_code: str, hint: str | None = None, fallback: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.refused_code = refused_code
        self.fallback = fallback
        """What a person may be shown in place of the reply."""


@dataclass(frozen=True)
class HistoryTurn:
    """One earlier turn, as the model sees it."""

    role: str
    content: str


@dataclass(frozen=True, kw_only=True)
class UpstreamRequest:
    """One attempt at a reply."""

    request_id: str
    conversation_id: ConversationId
    query: str
    system_prompt: str = ""
    history: tuple[HistoryTurn, ...] = ()
    passages: tuple[str, ...] = ()
    """What retrieval found, best first; the server fits what has room."""
    model: str = ""
    """A pool or an adapter, as the message named it; "" for the policy's choice."""
    adapter: str = ""
    """What the model server is to load for this request; set by whoever chose the pool."""
    prefix: str = ""
    """What was already sent of this reply: the server goes on right after it."""
    max_tokens: int = 512
    temperature: float = 0.0
    timeout_seconds: float = 600.0
    """Past this the caller does not want the reply any more."""
    first_text_seconds: float | None = None
    """What is left of the deadline of the reply's first text; None where it was seen or none is set."""
    is_retry: bool = False
    """A server took an earlier attempt, in vain: this one is work on top, and counts against the retry budget."""
    affinity: str = ""
    """Requests of one value prefer one server; "" for the conversation's."""
    route: Route | None = None
    """Of an earlier attempt that a server took: this one goes the same way."""


@dataclass(frozen=True, kw_only=True)
class UpstreamStart:
    """The server took the prompt."""

    model: str
    prompt_tokens: int
    was_truncated: bool = False
    turns_dropped: int = 0
    notice: str | None = None
    """What the reader may be told of what was left out."""
    is_reduced: bool = False
    """Less context than asked for was allowed, because memory is short."""
    route: Route | None = None
    """Who was asked, and why; set by whoever chose the pool."""
    degraded: tuple[str, ...] = ()
    """What the choice had to do without: "routing"."""


class UpstreamToken(NamedTuple):
    """The next piece of text."""

    text: str


@dataclass(frozen=True, kw_only=True)
class UpstreamEnd:
    """The reply is complete."""

    finish_reason: str
    """stop or length."""
    prompt_tokens: int
    completion_tokens: int


UpstreamEvent: TypeAlias = UpstreamStart | UpstreamToken | UpstreamEnd


class UpstreamStream(Protocol):
    """The events of one attempt, as an async iterator: a start, tokens, an end. Leaving it aborts the reply."""

    def __aiter__(self) -> UpstreamStream: ...

    def __anext__(self) -> Awaitable[UpstreamEvent]:
        """Return the next event; StopAsyncIteration only after the end. Raises the errors above."""
        ...

    def hand_on(self, take: Callable[[str], bool]) -> None:
        """From now on call `take` with text as it comes, where a stream can: no task is woken for it.

        For who has got text and before it asks for the next event. What `take` does not take (it returns False), and
        all that is no text, is the next event as ever; then this is over until it is called again. `take` must not
        raise or wait. Nothing overtakes anything.
        """
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Upstream(Protocol):
    """A pool of model servers behind one address."""

    def open(self, request: UpstreamRequest) -> UpstreamStream:
        """Prepare one attempt; entering the stream sends the request."""
        ...

    async def aclose(self) -> None: ...
