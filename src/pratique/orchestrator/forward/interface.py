"""What passes a stateless HTTP request on, whichever lane it takes: values, errors, and the protocol."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from pratique.core.errors import EnvironmentFaultError, RefusedError

__all__ = [
    "ForwardAnswer",
    "ForwardRequest",
    "ForwardTimeoutError",
    "ForwardUnavailableError",
    "Forwarder",
    "ShedError",
]


class ForwardUnavailableError(EnvironmentFaultError):
    """Nobody answers there; no byte of an answer was seen."""

    code = "model_unavailable"


class ForwardTimeoutError(ForwardUnavailableError):
    """Somebody took it and did not answer in time."""

    code = "timeout"


class ShedError(RefusedError):
    """More than all lanes take together; `retry_after_seconds` says when to come again."""

    code = "overloaded"

    def __init__(self, message: str, *, retry_after_seconds: float) -> None:
        super().__init__(message, hint=f"Try again in {retry_after_seconds:.0f} s.")
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True, kw_only=True)
class ForwardRequest:
    """A request, cleaned of what belongs to one hop and of our credentials."""

    method: str
    path: str
    """With the query, encoded as it came: "/v1/chat/completions"."""
    headers: Sequence[tuple[str, str]]
    body: bytes
    affinity: str
    """Requests of one value prefer one server: its prefix cache."""
    timeout_seconds: float
    is_stream: bool = False
    """Its answer is to begin long before it is complete."""


class ForwardAnswer(Protocol):
    """An answer whose head is there and whose body is coming."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Sequence[tuple[bytes, bytes]]:
        """Lower-case names; those of one hop only are left out."""
        ...

    @property
    def lane(self) -> str:
        """Which lane gave it: "baseline", "burst"."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes, unbuffered. Raises ForwardUnavailableError where it breaks off."""
        ...


class Forwarder(Protocol):
    """Passes requests on. Leaving the context before the body's end aborts the request, all the way down."""

    def open(self, request: ForwardRequest) -> AbstractAsyncContextManager[ForwardAnswer]:
        """Send it; entering waits for the head of the answer.

        Raises (on entering):
            ForwardUnavailableError, ShedError.
        """
        ...
