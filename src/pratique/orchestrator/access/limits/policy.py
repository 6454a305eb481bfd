"""What a principal has used and whether more fits: levels that drain with time. Pure.

Each limit is a bucket: what is used raises its level, which drains evenly so that a full one is empty after its window
(the leaky bucket as a meter, ITU-T I.371; GCRA is the same without the possibility to give back). More fits while the
level stays at or below the capacity. What costs more than a whole bucket fits into an empty one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pratique.orchestrator.access.settings import TierSettings

__all__ = ["Bucket", "Level", "buckets_of", "drained", "wait_seconds"]

_MINUTE_SECONDS = 60.0
_DAY_SECONDS = 86_400.0


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """One limit: so much in so long."""

    name: str
    limit: str
    """As clients are told: "requests" or "tokens"."""
    capacity: int
    window_seconds: float
    counts_tokens: bool

    def cost(self, tokens: int) -> int:
        """Return what a request of so many tokens puts into it."""
        return min(self.capacity, max(0, tokens)) if self.counts_tokens else 1


@dataclass(frozen=True)
class Level:
    """How full a bucket was, and when (seconds on whichever clock the caller uses)."""

    level: float = 0.0
    at: float = 0.0


def buckets_of(tier: TierSettings) -> tuple[Bucket, ...]:
    """Return the buckets of a tier, those that are refilled fastest first."""
    wanted = (
        ("requests", "requests", tier.requests_per_minute, _MINUTE_SECONDS, False),
        ("minute", "tokens", tier.tokens_per_minute, _MINUTE_SECONDS, True),
        ("day", "tokens", tier.tokens_per_day, _DAY_SECONDS, True),
    )
    return tuple(
        Bucket(name=name, limit=limit, capacity=capacity, window_seconds=window, counts_tokens=counts)
        for name, limit, capacity, window, counts in wanted
        if capacity
    )


def drained(found: Level, bucket: Bucket, now: float) -> float:
    """Return how full a bucket is now. A clock that went back drains nothing."""
    return max(0.0, found.level - max(0.0, now - found.at) * bucket.capacity / bucket.window_seconds)


def wait_seconds(level: float, bucket: Bucket, cost: int) -> float:
    """Return in how long `cost` fits; 0 where it fits now."""
    excess = level + cost - bucket.capacity
    return max(0.0, excess * bucket.window_seconds / bucket.capacity)
