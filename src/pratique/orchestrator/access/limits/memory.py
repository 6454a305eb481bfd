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
    from pratique.orchestrator.access.limits.policy import Bucket
    from pratique.orchestrator.access.principal import Principal
    from pratique.orchestrator.access.settings import LimitsSettings, TierSettings

__all__ = ["MAX_PRINCIPALS", "REMEMBER_SECONDS", "MemoryLimiter", "refusal_of", "tier_of"]

MAX_PRINCIPALS: Final = 100_000
REMEMBER_SECONDS: Final = 86_400.0
"""For so long a settled id is known, so that a message that is sent again costs nothing."""
_BUSY_RETRY_SECONDS: Final = 1.0
_MAX_SETTLED: Final = 10_000


@dataclass
class _Account:
    levels: dict[str, Level] = field(default_factory=dict)
    reserved: dict[str, tuple[int, float]] = field(default_factory=dict)
    """By id: the tokens that were taken, and when the reservation ends by itself."""
    settled: OrderedDict[str, float] = field(default_factory=OrderedDict)
    """By id: until when it is remembered."""


class MemoryLimiter:
    """A `Limiter` whose counts end with the process."""

    def __init__(self, settings: LimitsSettings, *, clock: Clock, max_principals: int = MAX_PRINCIPALS) -> None:
        self._settings = settings
        self._clock = clock
        self._max_principals = max_principals
        self._accounts: OrderedDict[str, _Account] = OrderedDict()

    async def reserve(self, principal: Principal, reservation_id: str, *, tokens: int) -> bool:
        now = self._clock.monotonic()
        account = self._account(principal)
        _forget_ended(account, now)
        if reservation_id in account.reserved or reservation_id in account.settled:
            return False
        tier = tier_of(self._settings, principal)
        if tier.concurrent and len(account.reserved) >= tier.concurrent:
            raise refusal_of(tier, None, _BUSY_RETRY_SECONDS)
        buckets = buckets_of(tier)
        levels = {bucket.name: drained(account.levels.get(bucket.name, Level()), bucket, now) for bucket in buckets}
        for bucket in buckets:
            wait = wait_seconds(levels[bucket.name], bucket, bucket.cost(tokens))
            if wait > 0:
                raise refusal_of(tier, bucket, wait)
        for bucket in buckets:
            account.levels[bucket.name] = Level(levels[bucket.name] + bucket.cost(tokens), now)
        account.reserved[reservation_id] = (tokens, now + self._settings.reservation_seconds)
        return True

    async def settle(self, principal: Principal, reservation_id: str, *, tokens: int | None) -> None:
        now = self._clock.monotonic()
        account = self._account(principal)
        taken, _ = account.reserved.pop(reservation_id, (None, 0.0))
        if taken is None:
            return
        if tokens != 0:
            account.settled[reservation_id] = now + REMEMBER_SECONDS
            while len(account.settled) > _MAX_SETTLED:
                account.settled.popitem(last=False)
        if tokens is None:
            return
        for bucket in buckets_of(tier_of(self._settings, principal)):
            if bucket.counts_tokens:
                level = drained(account.levels.get(bucket.name, Level()), bucket, now)
                account.levels[bucket.name] = Level(max(0.0, level + tokens - bucket.cost(taken)), now)

    def holds(self, principal: Principal, reservation_id: str) -> bool:
        """Whether the reservation was made here and is not settled."""
        account = self._accounts.get(principal.principal_id)
        return account is not None and reservation_id in account.reserved

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


def _forget_ended(account: _Account, now: float) -> None:
    for name in [name for name, (_, ends) in account.reserved.items() if ends <= now]:
        del account.reserved[name]
        account.settled[name] = now + REMEMBER_SECONDS
    while account.settled and next(iter(account.settled.values())) <= now:
        account.settled.popitem(last=False)
