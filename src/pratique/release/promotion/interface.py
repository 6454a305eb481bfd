"""What a promotion needs beside the ledger and the target: somebody to ask, somebody to tell, and the time."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Literal, Protocol

import msgspec

from pratique.release.predicates import Canary, MetricVerdict
from pratique.release.values import Digest, Subject

__all__ = ["Alert", "AlertSink", "Event", "Gatekeeper", "Pace", "SystemPace"]

Event = Literal["canary_failed", "canary_inconclusive", "aborted", "unhealthy", "failed", "rolled_back"]


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a person has to know of. What a webhook gets, as JSON."""

    schema_version: Literal[1] = 1
    event: Event
    rollout: Digest
    """The deployment's id: the hash of the ledger's entry that began it."""
    environment: str
    target: str
    repository: str
    digest: Digest
    """What was to get the traffic."""
    baseline: Digest | None
    """What had it before."""
    at: datetime
    summary: str
    metrics: tuple[MetricVerdict, ...] = ()
    """Of a canary: every metric's verdict."""


class AlertSink(Protocol):
    """Somewhere that alerts go."""

    @property
    def name(self) -> str:
        """For the log, where it fails."""
        ...

    def send(self, alert: Alert) -> None:
        """Deliver it, or raise a PratiqueError in bounded time."""
        ...


class Gatekeeper(Protocol):
    """Says what may be released. Each raises RefusedError where not, and EnvironmentFaultError where it cannot say."""

    def admit(self, subject: Subject) -> None:
        """Whether a canary may begin: everything that the policy asks for is there but the canary itself."""
        ...

    def attest(self, subject: Subject, canary: Canary) -> None:
        """Sign a canary's result and lay it beside the artifact, for the gate and for whoever looks later."""
        ...

    def release(self, subject: Subject) -> None:
        """Whether it may have all traffic: the whole policy, asked anew. The decision is recorded."""
        ...

    def trust(self, subject: Subject) -> None:
        """Whether what was released once may be gone back to: signed by whom the policy names, and not revoked."""
        ...


class Pace(Protocol):
    """The time, for what waits in a thread."""

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        ...

    def epoch(self) -> float:
        """Return seconds since 1970 UTC."""
        ...

    def wait(self, seconds: float) -> None:
        """Return when so many seconds have passed."""
        ...


class SystemPace:
    """The machine's own time."""

    def monotonic(self) -> float:
        """Return the monotonic clock."""
        return time.monotonic()

    def epoch(self) -> float:
        """Return the wall clock."""
        return time.time()

    def wait(self, seconds: float) -> None:
        """Sleep."""
        time.sleep(max(0.0, seconds))
