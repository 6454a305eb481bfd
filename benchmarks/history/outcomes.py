"""What an error lets one conclude: certainly not done, or unknown. Pure."""

from __future__ import annotations

from benchmarks.history.record import Result

__all__ = ["result_of"]

_CERTAIN = frozenset(
    {
        "invalid_request",
        "unauthenticated",
        "origin_refused",
        "forbidden",
        "conversation_not_found",
        "generation_not_found",
        "generation_running",
        "generation_finished",
        "client_message_conflict",
        "nothing_to_retry",
        "fenced",
        "too_large",
        "overloaded",
        "rate_limited",
        "draining",
    }
)


def result_of(code: str) -> Result:
    """Return `FAIL` for the codes that are raised before anything is stored, `UNKNOWN` for all others."""
    return Result.FAIL if code in _CERTAIN else Result.UNKNOWN
