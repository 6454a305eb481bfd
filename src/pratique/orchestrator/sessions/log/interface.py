"""The generation log: the numbered events of each running reply, and the lease of the one producer that writes them.

Invariants, held by every implementation and checked by one contract suite:
- A log's events count from 1 without a gap and never change. The last one, once written, is marked as the end.
- Only the holder of the newest epoch writes. A write also renews the lease; a write with an older epoch is refused.
- A lease can be taken when it has expired or was released, or when nobody ever had it; the epoch then grows.
- What is ended takes no more leases and disappears after its time to live. So does what nobody wrote to for long.

A write that failed may have arrived: writing the same events again is harmless.

GenerationLogError
├── FencedError            another producer holds a newer lease: stop, write nothing     (refused)
├── LeaseHeldError         somebody else's lease has not expired                         (refused)
├── LogEndedError          the reply has ended                                           (refused)
├── LogGapError            the log stands at another event than the writer thinks        (refused)
├── LogMissingError        there is no such log: it expired, or its server lost it       (environment)
└── LogUnavailableError    the log's server does not answer                              (environment)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from pratique.core.errors import EnvironmentFaultError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pratique.core.errors import PratiqueError
    from pratique.core.ids import GenerationId

__all__ = [
    "FencedError",
    "GenerationLog",
    "Lease",
    "LeaseHeldError",
    "LogEndedError",
    "LogEntry",
    "LogGapError",
    "LogLimits",
    "LogMissingError",
    "LogPage",
    "LogUnavailableError",
    "Pen",
    "WriteReceipt",
]


class FencedError(RefusedError):
    """Another producer holds a newer lease."""

    code = "fenced"


class LeaseHeldError(RefusedError):
    """Somebody else's lease has not expired."""

    code = "lease_held"


class LogEndedError(RefusedError):
    """The reply has ended: nobody needs to produce it."""

    code = "log_ended"


class LogGapError(RefusedError):
    """The log ends at `last_seq`: write from the event after it."""

    code = "log_gap"

    def __init__(self, message: str, *, last_seq: int) -> None:
        super().__init__(message)
        self.last_seq = last_seq


class LogMissingError(EnvironmentFaultError):
    """There is no such log: it expired, or its server lost it."""

    code = "log_missing"


class LogUnavailableError(EnvironmentFaultError):
    """The log's server does not answer."""

    code = "log_unavailable"


@dataclass(frozen=True, kw_only=True)
class LogLimits:
    """How long things last, in seconds."""

    lease_seconds: float = 1.2
    ttl_seconds: float = 900.0
    """After the end."""
    abandoned_seconds: float = 7200.0
    """After the last write, where no end was ever written."""


class LogEntry(NamedTuple):
    """One numbered event, as JSON."""

    seq: int
    data: bytes
    is_end: bool = False


@dataclass(frozen=True, kw_only=True)
class Lease:
    """The right to write one reply's log."""

    generation_id: GenerationId
    epoch: int
    last_seq: int
    """Of the log when the lease was taken."""
    is_new: bool
    """Nobody had written to this log or held its lease before, or its server has forgotten."""


@dataclass(frozen=True)
class WriteReceipt:
    """What a writer learns with each write."""

    cancel_requested: bool


@dataclass(frozen=True, kw_only=True)
class LogPage:
    """What a log held when it was read."""

    entries: tuple[LogEntry, ...]
    last_seq: int
    has_ended: bool


class Pen(Protocol):
    """Writes one reply's events as `append` does, with no task that waits: for what is written many times a second."""

    def write(self, entries: Sequence[LogEntry], told: Callable[[WriteReceipt | PratiqueError], None]) -> None:
        """Write events; `told` is called later, once, with what `append` returns or raises.

        It is called from the event loop, and must not raise.
        """
        ...


class GenerationLog(Protocol):
    """Where replies in flight are kept. Every method may raise LogUnavailableError."""

    async def acquire(self, generation_id: GenerationId, *, floor: int) -> Lease:
        """Take the lease, with an epoch of at least `floor`.

        Raises:
            LeaseHeldError, LogEndedError.
        """
        ...

    async def append(self, lease: Lease, entries: Sequence[LogEntry]) -> WriteReceipt:
        """Write events (none: only renew). Events that are there already are passed over; an end ends the log.

        Raises:
            FencedError, LogGapError, LogMissingError.
        """
        ...

    def pen(self, lease: Lease) -> Pen:
        """Return what writes with this lease."""
        ...

    async def restore(self, lease: Lease, entries: Sequence[LogEntry]) -> WriteReceipt:
        """Write a log that was lost, from its first event, with the lease's epoch.

        Raises:
            FencedError: somebody has begun it anew in the meantime.
        """
        ...

    async def release(self, lease: Lease) -> None:
        """Let others take the lease at once. Nothing happens where it is lost already."""
        ...

    async def request_cancel(self, generation_id: GenerationId) -> bool:
        """Tell the producer to stop; False where the log is missing or has ended."""
        ...

    async def read(self, generation_id: GenerationId, *, after_seq: int) -> LogPage:
        """Return the events after `after_seq`.

        Raises:
            LogMissingError.
        """
        ...

    async def wait_for_new(
        self, cursors: Mapping[GenerationId, int], *, timeout_seconds: float
    ) -> Mapping[GenerationId, Sequence[LogEntry]]:
        """Return what stands after each cursor as soon as anything does; empty after the timeout or a `wake`.

        One caller at a time.
        """
        ...

    async def wake(self) -> None:
        """End the running `wait_for_new`, so that it can begin again with other cursors."""
        ...

    async def expired(self, *, limit: int) -> Sequence[GenerationId]:
        """Return replies without an end whose lease has expired or was released."""
        ...

    async def missing(self, generation_ids: Sequence[GenerationId]) -> Sequence[GenerationId]:
        """Return those of which there is no log, ended or not."""
        ...

    async def forget(self, generation_id: GenerationId) -> None:
        """Remove a log, where its conversation was deleted."""
        ...

    async def check(self) -> None:
        """Return if the log's server answers."""
        ...

    async def aclose(self) -> None: ...
