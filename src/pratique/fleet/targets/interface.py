"""What a release needs of the place it runs in: see what runs, send it a share of the traffic, take it back.

A target is asked by digest, never by tag. Every call is idempotent: what is already so is left alone. Every call
raises TargetError where the platform does not do it within its time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from pratique.core.errors import EnvironmentFaultError

__all__ = [
    "BREAKER_OPEN",
    "CLIENT_ERROR",
    "ERROR",
    "FIRST_TOKEN_SECONDS",
    "GPU_BUSY",
    "LATENCY_SECONDS",
    "Deployment",
    "Health",
    "Target",
    "TargetError",
    "Window",
]

# The names of what is measured: in windows, in the settings of canaries, in their results, and so in policies.
ERROR: Final = "error"
"""0 or 1 for each request: whether it was answered with a 5xx, or not at all."""
CLIENT_ERROR: Final = "client_error"
"""0 or 1 for each request: whether it was refused with a 4xx. A release that refuses everybody makes no other error."""
LATENCY_SECONDS: Final = "latency_seconds"
FIRST_TOKEN_SECONDS: Final = "first_token_seconds"  # noqa: S105 - a token of text
GPU_BUSY: Final = "gpu_busy"
"""0 to 1 for each sample."""
BREAKER_OPEN: Final = "breaker_open"
"""0 or 1 for each sample."""


class TargetError(EnvironmentFaultError):
    """The platform did not do what it was asked for."""

    code = "target_failed"


@dataclass(frozen=True, slots=True)
class Deployment:
    """What takes traffic."""

    stable: str | None
    """The digest that runs; None: nothing was deployed yet."""
    candidate: str | None = None
    """The digest beside it, during a canary."""
    candidate_share: float = 0.0
    """Of the traffic, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Health:
    """Whether a deployed digest is ready, by its own health check."""

    is_healthy: bool
    num_ready: int
    num_wanted: int
    reason: str


@dataclass(frozen=True, slots=True)
class Window:
    """Measurements of stable and candidate under the same load, by metric: one number for each request or sample.

    The names are those above, or a target's own; times are in seconds.
    """

    stable: Mapping[str, Sequence[float]]
    candidate: Mapping[str, Sequence[float]]


class Target(Protocol):
    """A place that runs releases."""

    @property
    def name(self) -> str:
        """As the ledger calls it, for example "local" or "ecs:eu-central-1/chat"."""
        ...

    def deployment(self) -> Deployment:
        """Say what runs now, as the platform says it."""
        ...

    def start_canary(self, digest: str, *, share: float) -> None:
        """Run a digest beside the stable one, with a share of the traffic; return when it takes traffic."""
        ...

    def promote(self, digest: str) -> None:
        """Give a digest all traffic, whatever ran before; return when it has it. The rest is drained."""
        ...

    def abort_canary(self) -> None:
        """Give the stable one all traffic at once, and drain the candidate."""
        ...

    def health(self, digest: str) -> Health:
        """Ask a deployed digest's own health check."""
        ...

    def measure(self, *, seconds: float) -> Window:
        """Return what was measured of both during the last seconds."""
        ...
