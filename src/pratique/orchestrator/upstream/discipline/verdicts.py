"""What a failed attempt says about the servers behind it. Pure."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from pratique.orchestrator.upstream.interface import (
    TimeoutPhase,
    UpstreamRefusedError,
    UpstreamTimeoutError,
    UpstreamUnavailableError,
)

if TYPE_CHECKING:
    from pratique.core.errors import PratiqueError

__all__ = ["Health", "assess_health", "outcome_of", "was_taken"]


class Health(enum.Enum):
    """What the breaker is told."""

    GOOD = "good"
    BAD = "bad"
    UNKNOWN = "unknown"


def assess_health(error: PratiqueError, *, is_cut_short: bool) -> Health:
    """Say what an error tells of the servers. `is_cut_short`: the attempt had less than its usual time."""
    if isinstance(error, UpstreamRefusedError):
        # The request is wrong; who says so is well.
        return Health.GOOD
    if isinstance(error, UpstreamUnavailableError) and error.is_serving:
        # Full, which is not broken: a breaker on top would turn a busy pool into a pool that is away.
        return Health.UNKNOWN
    if isinstance(error, UpstreamTimeoutError):
        is_ours = error.phase is TimeoutPhase.REPLY or (error.phase is TimeoutPhase.FIRST_TOKEN and is_cut_short)
        return Health.UNKNOWN if is_ours else Health.BAD
    return Health.BAD


def was_taken(error: PratiqueError, *, took_seconds: float, quick_refusal_seconds: float) -> bool:
    """Whether servers that take traffic were at work: a quick "not ready" is a wait, everything else an attempt."""
    if not isinstance(error, UpstreamUnavailableError):
        return True
    return error.is_serving or took_seconds >= quick_refusal_seconds


def outcome_of(error: PratiqueError) -> str:
    """Name an error for the metrics."""
    if isinstance(error, UpstreamTimeoutError):
        return f"no_{error.phase.value}" if error.phase is not TimeoutPhase.REPLY else "reply_too_long"
    if isinstance(error, UpstreamRefusedError):
        return "refused"
    if isinstance(error, UpstreamUnavailableError):
        return "busy" if error.is_serving else "unavailable"
    return "interrupted"
