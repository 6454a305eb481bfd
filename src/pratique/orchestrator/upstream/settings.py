"""The table [orchestrator.downstream]."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta

from pratique.core.settings import Settings

__all__ = ["DownstreamSettings"]

_Seconds: TypeAlias = Annotated[float, Meta(gt=0, le=86_400)]
_Share: TypeAlias = Annotated[float, Meta(gt=0, le=1)]
_Count: TypeAlias = Annotated[int, Meta(ge=1)]


class DownstreamSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Deadlines, retries, breakers, hedges: each pool has its own budget and breaker of these bounds."""

    answer_deadline_seconds: _Seconds = 10.0
    """To a reply's first text once a server takes traffic: all attempts, pauses and time-outs together.

    One attempt has `first_token_timeout_seconds`, which is less, so that a second one fits.
    """
    quick_refusal_seconds: _Seconds = 2.0
    """A refusal that took longer came from servers that take traffic: the deadline has begun to run."""
    retry_share: Annotated[float, Meta(ge=0, le=1)] = 0.2
    """Retries are at most this share of a pool's requests, beside the floor."""
    retry_floor_per_second: Annotated[float, Meta(ge=0.1, le=1000)] = 10.0
    """So many are always allowed."""
    retry_burst: _Count = 20
    """So many at once, saved up."""
    breaker_failures: _Count = 5
    """So many failures in a row open a pool's breaker."""
    breaker_failure_share: _Share = 0.5
    """This share of a window's calls opens it too."""
    breaker_min_calls: _Count = 20
    """In a window, before its share says anything."""
    breaker_window_seconds: _Seconds = 10.0
    breaker_pause_seconds: _Seconds = 0.5
    """An open breaker lets one request through after it; doubled each time that one fails."""
    breaker_max_pause_seconds: _Seconds = 2.0
    hedge: bool = False
    """Ask a second time where no text came within the 95th percentile; the first to speak answers."""
    hedge_least_seconds: _Seconds = 0.1
    """Never sooner than this."""
