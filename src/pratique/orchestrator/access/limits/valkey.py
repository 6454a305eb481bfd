"""Limits counted in Valkey (or Redis), shared by all replicas: one script to reserve, one to settle.

    <namespace>:limit:{<principal>}:levels          hash: each bucket's level and when it was so
    <namespace>:limit:{<principal>}:running         sorted set: reservations' holders, by when these end by themselves
    <namespace>:limit:{<principal>}:id:<name>       text: the holder of the reservation of that name
    <namespace>:limit:{<principal>}:over:<holder>   text: there for a minute where it was settled before it was made

The rules are those of `policy`, by the server's clock: replicas' clocks need not agree, and between looking and taking
nobody can come in. Every call has a deadline; nothing is retried. A principal's keys share one hash slot. A reservation
whose call timed out may arrive after what settles it, by another connection: it is not made any more then.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from pratique.core.errors import EnvironmentFaultError
from pratique.orchestrator.access.limits.memory import refusal_of, tier_of
from pratique.orchestrator.access.limits.policy import buckets_of

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from pratique.orchestrator.access.limits.interface import Reservation
    from pratique.orchestrator.access.settings import LimitsSettings

__all__ = ["LimitsUnavailableError", "ValkeyLimiter"]

_MAX_CONNECTIONS: Final = 16
_LEVELS_SECONDS: Final = 2 * 86_400.0
_OVERTAKEN_SECONDS: Final = 60.0
_NOW: Final = "local t = redis.call('TIME'); local now = t[1] * 1000 + math.floor(t[2] / 1000)\n"
_DRAINED: Final = """
local function drained(name, capacity, window)
  local level = tonumber(redis.call('HGET', KEYS[1], name) or '0')
  local at = tonumber(redis.call('HGET', KEYS[1], name .. ':at') or now)
  return math.max(0, level - math.max(0, now - at) * capacity / window)
end
"""

# KEYS: levels, running, id, over. ARGV: holder, reservation ms, concurrent (0: any), levels' life in ms, then name,
# capacity, window ms, cost, …
_RESERVE: Final = (
    _NOW
    + _DRAINED
    + """
if redis.call('EXISTS', KEYS[3], KEYS[4]) > 0 then return {'known'} end
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
local concurrent = tonumber(ARGV[3])
if concurrent > 0 and redis.call('ZCARD', KEYS[2]) >= concurrent then return {'busy'} end
local levels = {}
for i = 5, #ARGV, 4 do
  local capacity, window, cost = tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3])
  local level = drained(ARGV[i], capacity, window)
  local excess = level + cost - capacity
  if excess > 0 then return {'full', ARGV[i], tostring(excess * window / capacity)} end
  levels[#levels + 1] = {ARGV[i], level + cost}
end
for _, found in ipairs(levels) do
  redis.call('HSET', KEYS[1], found[1], tostring(found[2]), found[1] .. ':at', now)
end
if #levels > 0 then redis.call('PEXPIRE', KEYS[1], ARGV[4]) end
redis.call('ZADD', KEYS[2], now + ARGV[2], ARGV[1])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
redis.call('SET', KEYS[3], ARGV[1], 'PX', ARGV[2])
return {'ok'}
"""
)

# KEYS: levels, running, id, over. ARGV: holder, tokens ("" unknown), over's life in ms, levels' life in ms, then
# name, capacity, window ms, what was taken, …
_SETTLE: Final = (
    _NOW
    + _DRAINED
    + """
if redis.call('GET', KEYS[3]) ~= ARGV[1] then
  redis.call('SET', KEYS[4], '', 'PX', ARGV[3])
  return {'known'}
end
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('DEL', KEYS[3])
if ARGV[2] == '' then return {'ok'} end
for i = 5, #ARGV, 4 do
  local level = drained(ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]))
  local changed = math.max(0, level + tonumber(ARGV[2]) - tonumber(ARGV[i + 3]))
  redis.call('HSET', KEYS[1], ARGV[i], tostring(changed), ARGV[i] .. ':at', now)
end
if #ARGV >= 5 then redis.call('PEXPIRE', KEYS[1], ARGV[4]) end
return {'ok'}
"""
)


class LimitsUnavailableError(EnvironmentFaultError):
    """The store of the limits does not answer."""

    code = "limits_unavailable"


class ValkeyLimiter:
    """A `Limiter` over a server. Its calls raise `LimitsUnavailableError` where it is away."""

    def __init__(self, url: str, settings: LimitsSettings, *, namespace: str = "pratique") -> None:
        self._settings = settings
        self._prefix = f"{namespace}:limit:"
        deadline = settings.store_timeout_seconds
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=_MAX_CONNECTIONS,
            timeout=deadline,
            socket_timeout=deadline,
            socket_connect_timeout=deadline,
            retry=Retry(NoBackoff(), 0),
        )
        self._client: Redis = Redis.from_pool(pool)
        self._reserve = self._client.register_script(_RESERVE)
        self._settle = self._client.register_script(_SETTLE)

    async def reserve(self, wanted: Reservation) -> bool:
        tier = tier_of(self._settings, wanted.principal)
        buckets = {bucket.name: bucket for bucket in buckets_of(tier)}
        arguments: list[Any] = [
            wanted.holder,
            _ms(self._settings.reservation_seconds),
            tier.concurrent,
            _ms(_LEVELS_SECONDS),
        ]
        for bucket in buckets.values():
            arguments += [bucket.name, bucket.capacity, _ms(bucket.window_seconds), bucket.cost(wanted.tokens)]
        said = await self._call(self._reserve(keys=self._keys(wanted), args=arguments))
        if said[0] == b"busy":
            raise refusal_of(tier, None, 1.0)
        if said[0] == b"full":
            raise refusal_of(tier, buckets[said[1].decode()], float(said[2]) / 1000)
        is_new: bool = said[0] == b"ok"
        return is_new

    async def settle(self, taken: Reservation, *, tokens: int | None) -> None:
        given = "" if tokens is None else max(0, tokens)
        arguments: list[Any] = [taken.holder, given, _ms(_OVERTAKEN_SECONDS), _ms(_LEVELS_SECONDS)]
        for bucket in buckets_of(tier_of(self._settings, taken.principal)):
            if bucket.counts_tokens:
                arguments += [bucket.name, bucket.capacity, _ms(bucket.window_seconds), bucket.cost(taken.tokens)]
        await self._call(self._settle(keys=self._keys(taken), args=arguments))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _keys(self, one: Reservation) -> list[str]:
        prefix = f"{self._prefix}{{{one.principal.principal_id}}}"
        return [f"{prefix}:levels", f"{prefix}:running", f"{prefix}:id:{one.name}", f"{prefix}:over:{one.holder}"]

    async def _call(self, call: Awaitable[Any]) -> Any:  # noqa: ANN401 - redis-py's answers have no types
        try:
            async with asyncio.timeout(self._settings.store_timeout_seconds):
                return await call
        except (RedisError, OSError, TimeoutError, RuntimeError) as error:
            # RuntimeError: uvloop's, where a pooled connection was reset a moment ago and redis-py still writes to it.
            raise LimitsUnavailableError(
                f"The store of the limits does not answer: {str(error) or type(error).__name__}."
            ) from error


def _ms(seconds: float) -> int:
    return max(1, int(seconds * 1000))
