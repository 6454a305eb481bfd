"""Limits counted in this process: for a single replica, and for each one alone while the shared store is away.

Bounded: principals that have used nothing for a day are forgotten, and beyond the bound the one that was seen longest
ago, whose levels have drained most.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pratique.orchestrator.access.limits.interface import LimitExceededError
from pratique.orchestrator.access.limits.policy import Level, buckets_of, drained, wait_seconds

if TYPE_CHECKING:
    from pratique.core.clock import Clock
    from pratique.orchestrator.access.limits.interface import Reservation
    from pratique.orchestrator.access.limits.policy import Bucket
    from pratique.orchestrator.access.principal import Principal
    from pratique.orchestrator.access.settings import LimitsSettings, TierSettings

__all__ = ["MAX_PRINCIPALS", "MemoryLimiter", "refusal_of", "tier_of"]

MAX_PRINCIPALS: Final = 100_000
_BUSY_RETRY_SECONDS: Final = 1.0


@dataclass
class _Account:
    levels: dict[str, Level] = field(default_factory=dict)
    reserved: dict[str, tuple[Reservation, float]] = field(default_factory=dict)
    """By name, with when it ends by itself."""


class MemoryLimiter:
    """A `Limiter` whose counts end with the process."""

    def __init__(self, settings: LimitsSettings, *, clock: Clock, max_principals: int = MAX_PRINCIPALS) -> None:
        self._settings = settings
        self._clock = clock
        self._max_principals = max_principals
        self._accounts: OrderedDict[str, _Account] = OrderedDict()

    async def reserve(self, wanted: Reservation) -> bool:
        now = self._clock.monotonic()
        account = self._account(wanted.principal)
        account.reserved = {name: kept for name, kept in account.reserved.items() if kept[1] > now}
        if wanted.name in account.reserved:
            return False
        tier = tier_of(self._settings, wanted.principal)
        if tier.concurrent and len(account.reserved) >= tier.concurrent:
            raise refusal_of(tier, None, _BUSY_RETRY_SECONDS)
        buckets = buckets_of(tier)
        levels = {bucket.name: drained(account.levels.get(bucket.name, Level()), bucket, now) for bucket in buckets}
        for bucket in buckets:
            wait = wait_seconds(levels[bucket.name], bucket, bucket.cost(wanted.tokens))
            if wait > 0:
                raise refusal_of(tier, bucket, wait)
        for bucket in buckets:
            account.levels[bucket.name] = Level(levels[bucket.name] + bucket.cost(wanted.tokens), now)
        account.reserved[wanted.name] = (wanted, now + self._settings.reservation_seconds)
        return True

    async def settle(self, taken: Reservation, *, tokens: int | None) -> None:
        if not self.holds(taken):
            return
        now = self._clock.monotonic()
        account = self._account(taken.principal)
        del account.reserved[taken.name]
        if tokens is None:
            return
        for bucket in buckets_of(tier_of(self._settings, taken.principal)):
            if bucket.counts_tokens:
                level = drained(account.levels.get(bucket.name, Level()), bucket, now)
                account.levels[bucket.name] = Level(max(0.0, level + tokens - bucket.cost(taken.tokens)), now)

    def holds(self, taken: Reservation) -> bool:
        """Whether this very reservation was made here and is not settled."""
        found = self._held(taken)
        return found is not None and found.holder == taken.holder

    def is_reserved(self, wanted: Reservation) -> bool:
        """Whether anybody has reserved the same here and has not settled it."""
        return self._held(wanted) is not None

    def _held(self, one: Reservation) -> Reservation | None:
        account = self._accounts.get(one.principal.principal_id)
        kept = account.reserved.get(one.name) if account is not None else None
        return kept[0] if kept is not None and kept[1] > self._clock.monotonic() else None

    def _account(self, principal: Principal) -> _Account:
        account = self._accounts.setdefault(principal.principal_id, _Account())
        self._accounts.move_to_end(principal.principal_id)
        while len(self._accounts) > self._max_principals:
            self._accounts.popitem(last=False)
        return account


def tier_of(settings: LimitsSettings, principal: Principal) -> TierSettings:
    """Return the limits of a principal; the general ones where its tier has no name or is not configured."""
    return settings.tiers.get(principal.tier, settings)


def refusal_of(tier: TierSettings, bucket: Bucket | None, retry_after_seconds: float) -> LimitExceededError:
    """Say which limit was reached. No bucket: that of replies at once."""
    if bucket is None:
        return LimitExceededError(
            f"At most {tier.concurrent} replies at once.",
            limit="concurrency",
            retry_after_seconds=retry_after_seconds,
            quota=tier.concurrent,
        )
    window = "minute" if bucket.name != "day" else "day"
    return LimitExceededError(
        f"At most {bucket.capacity} {bucket.limit} per {window}.",
        limit=bucket.limit,
        retry_after_seconds=retry_after_seconds,
        quota=bucket.capacity,
        window_seconds=bucket.window_seconds,
    )
