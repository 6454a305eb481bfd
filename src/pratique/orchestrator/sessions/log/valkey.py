"""The generation log in Valkey (or Redis): one stream and one hash per reply, shared by all replicas.

    <namespace>:gen:<id>:log    stream; the entry of event n has the id n-0, so a reader's cursor is its position
    <namespace>:gen:<id>:meta   hash: epoch, until (lease, ms), last (seq), ended, cancel
    <namespace>:gens            sorted set of the replies without an end, by when their lease runs out
    <namespace>:wake:<reader>   stream that ends one replica's blocking read

Every decision is a script on the server, by the server's clock: replicas' clocks need not agree, and between looking
and writing nobody can come in. Following all replies of a replica is one blocking read on a connection of its own.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from pratique.core.errors import PratiqueError
from pratique.core.ids import GenerationId, IdSource, RandomIds
from pratique.orchestrator.sessions.log.interface import (
    FencedError,
    Lease,
    LeaseHeldError,
    LogEndedError,
    LogEntry,
    LogGapError,
    LogLimits,
    LogMissingError,
    LogPage,
    LogUnavailableError,
    Pen,
    WriteReceipt,
)
from pratique.orchestrator.shared_scripts import BegunCommand, ScriptTogether

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = ["ValkeyLog"]

_MAX_CONNECTIONS: Final = 32
_RECEIPTS: Final = (WriteReceipt(cancel_requested=False), WriteReceipt(cancel_requested=True))
_NOW: Final = "local t = redis.call('TIME'); local now = t[1] * 1000 + math.floor(t[2] / 1000)\n"

# KEYS: meta, log, index. ARGV: id, floor, lease ms, abandoned ms.
_ACQUIRE: Final = (
    _NOW
    + """
local m = redis.call('HMGET', KEYS[1], 'epoch', 'until', 'ended', 'last')
local epoch, last, is_new = tonumber(ARGV[2]), 0, 0
if not m[1] then
  is_new = 1
  redis.call('DEL', KEYS[2])
else
  if m[3] then return {'ended'} end
  if tonumber(m[2]) > now then return {'held'} end
  epoch = math.max(epoch, tonumber(m[1]) + 1)
  last = tonumber(m[4])
end
local lease_until = now + ARGV[3]
redis.call('HSET', KEYS[1], 'epoch', epoch, 'until', lease_until, 'last', last)
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
redis.call('ZADD', KEYS[3], lease_until, ARGV[1])
return {'ok', epoch, last, is_new}
"""
)

# KEYS: meta, log, index. ARGV: id, epoch, lease ms, ttl ms, abandoned ms, may create (0, 1), first seq, is the last one
# the end (0, 1), then the data of each.
_APPEND: Final = (
    _NOW
    + """
local m = redis.call('HMGET', KEYS[1], 'epoch', 'last', 'ended', 'cancel')
local epoch, last, ended = tonumber(ARGV[2]), tonumber(m[2] or 0), m[3]
if not m[1] then
  if ARGV[6] == '0' then return {'missing'} end
  redis.call('DEL', KEYS[2])
elseif tonumber(m[1]) > epoch then
  return {'fenced', m[1]}
end
local before = tonumber(ARGV[7]) - 9
for i = 9, #ARGV do
  local seq = before + i
  if seq > last then
    if seq ~= last + 1 or ended then return {'gap', last} end
    if i == #ARGV and ARGV[8] == '1' then
      ended = '1'
      redis.call('XADD', KEYS[2], seq .. '-0', 'd', ARGV[i], 'e', '1')
    else
      redis.call('XADD', KEYS[2], seq .. '-0', 'd', ARGV[i])
    end
    last = seq
  end
end
local lease_until, life = now + ARGV[3], ARGV[5]
redis.call('HSET', KEYS[1], 'epoch', epoch, 'last', last, 'until', lease_until)
if ended then
  life = ARGV[4]
  redis.call('HSET', KEYS[1], 'ended', '1')
  redis.call('ZREM', KEYS[3], ARGV[1])
else
  redis.call('ZADD', KEYS[3], lease_until, ARGV[1])
end
redis.call('PEXPIRE', KEYS[1], life)
redis.call('PEXPIRE', KEYS[2], life)
return m[4] and 1 or 0
"""
)

# KEYS: meta, index. ARGV: id, epoch.
_RELEASE: Final = (
    _NOW
    + """
local m = redis.call('HMGET', KEYS[1], 'epoch', 'ended')
if m[1] == ARGV[2] and not m[2] then
  redis.call('HSET', KEYS[1], 'until', 0)
  redis.call('ZADD', KEYS[2], now, ARGV[1])
end
return {'ok'}
"""
)

# KEYS: meta.
_CANCEL: Final = """
local m = redis.call('HMGET', KEYS[1], 'epoch', 'ended')
if not m[1] or m[2] then return {0} end
redis.call('HSET', KEYS[1], 'cancel', '1')
return {1}
"""

# KEYS: index. ARGV: limit, what the keys of replies begin with. What was abandoned for so long that its log is gone
# leaves the index here.
_EXPIRED: Final = (
    _NOW
    + """
local found = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])) do
  if redis.call('EXISTS', ARGV[2] .. id .. ':meta') == 1 then
    found[#found + 1] = id
  else
    redis.call('ZREM', KEYS[1], id)
  end
end
return found
"""
)


class ValkeyLog:
    """Logs on a server."""

    def __init__(
        self,
        url: str,
        *,
        limits: LogLimits | None = None,
        timeout_seconds: float = 1.0,
        ids: IdSource | None = None,
        namespace: str = "pratique",
    ) -> None:
        """Make a log over the server at `url`; connections are opened when they are needed.

        Args:
            url: redis://…, rediss://… or unix://….
            limits: lives of leases and logs.
            timeout_seconds: for each command; the blocking read has its own on top, and writing events or renewing
                leases has a third of the lease, where that is less.
            ids: names this reader's wake stream.
            namespace: what every key begins with.
        """
        self._limits = limits or LogLimits()
        self._lives = [
            _ms(seconds)
            for seconds in (self._limits.lease_seconds, self._limits.ttl_seconds, self._limits.abandoned_seconds)
        ]
        self._url = url
        self._timeout_seconds = timeout_seconds
        self._client = self._connect(timeout_seconds, socket_timeout_seconds=timeout_seconds)
        # A third, as a writer's own time-out: with one hung connection there is time to renew the leases on another.
        append_seconds = self._limits.lease_seconds / 3
        self._writer = self._connect(append_seconds, socket_timeout_seconds=None)
        self._acquire = ScriptTogether(self._writer, _ACQUIRE, deadline_seconds=timeout_seconds)
        self._append = ScriptTogether(self._writer, _APPEND, deadline_seconds=append_seconds)
        self._release = self._client.register_script(_RELEASE)
        self._cancel = self._client.register_script(_CANCEL)
        self._expired = self._client.register_script(_EXPIRED)
        self._follower: redis.asyncio.Redis | None = None
        self._generation_prefix = f"{namespace}:gen:"
        self._index = f"{namespace}:gens"
        self._wake_key = f"{namespace}:wake:{(ids or RandomIds()).new('reader')}"
        self._wake_seen = b"0-0"

    async def acquire(self, generation_id: GenerationId, *, floor: int) -> Lease:
        lease_ms, _, abandoned_ms = self._lives
        keys = [key.encode() for key in self._keys(generation_id)]
        with _translated():
            said = await self._acquire.run(
                keys, [generation_id.encode(), b"%d" % floor, b"%d" % lease_ms, b"%d" % abandoned_ms]
            )
        if said[0] == b"held":
            raise LeaseHeldError(f"The reply {generation_id} is being made elsewhere.")
        if said[0] == b"ended":
            raise LogEndedError(f"The reply {generation_id} has ended.")
        return Lease(generation_id=generation_id, epoch=int(said[1]), last_seq=int(said[2]), is_new=bool(int(said[3])))

    async def append(self, lease: Lease, entries: Sequence[LogEntry]) -> WriteReceipt:
        return await self._write(lease, entries, may_create=0)

    def pen(self, lease: Lease) -> Pen:
        return _ValkeyPen(self._append, lease, self._begun(lease, may_create=0))

    async def restore(self, lease: Lease, entries: Sequence[LogEntry]) -> WriteReceipt:
        return await self._write(lease, entries, may_create=1)

    async def release(self, lease: Lease) -> None:
        meta, _, index = self._keys(lease.generation_id)
        with _translated():
            await self._release(keys=[meta, index], args=[lease.generation_id, lease.epoch])

    async def request_cancel(self, generation_id: GenerationId) -> bool:
        with _translated():
            said = await self._cancel(keys=[self._keys(generation_id)[0]])
        return bool(said[0])

    async def read(self, generation_id: GenerationId, *, after_seq: int) -> LogPage:
        meta, log, _ = self._keys(generation_id)
        with _translated():
            async with self._client.pipeline(transaction=True) as pipe:
                pipe.hmget(meta, ["last", "ended"])
                pipe.xrange(log, min=f"{after_seq + 1}-0")
                (last, ended), rows = await pipe.execute()
        entries = _entries(rows)
        if last is None or not _is_whole(entries, after_seq, int(last)):
            raise LogMissingError(f"There is no whole log of {generation_id}.")
        return LogPage(entries=entries, last_seq=int(last), has_ended=ended is not None)

    async def wait_for_new(
        self, cursors: Mapping[GenerationId, int], *, timeout_seconds: float
    ) -> Mapping[GenerationId, Sequence[LogEntry]]:
        if self._follower is None:
            seconds = self._timeout_seconds + timeout_seconds
            self._follower = self._connect(seconds, socket_timeout_seconds=seconds)
        streams: dict[Any, Any] = {self._keys(name)[1]: f"{seq}-0" for name, seq in cursors.items()}
        streams[self._wake_key] = self._wake_seen
        with _translated():
            answer: Any = await self._follower.xread(streams, block=_ms(timeout_seconds))
        found: dict[GenerationId, Sequence[LogEntry]] = {}
        for key, rows in answer or ():
            name = key.decode()
            if name == self._wake_key:
                self._wake_seen = rows[-1][0]
            else:
                found[GenerationId(name.removeprefix(self._generation_prefix).removesuffix(":log"))] = _entries(rows)
        return found

    async def wake(self) -> None:
        with _translated():
            async with self._client.pipeline(transaction=False) as pipe:
                pipe.xadd(self._wake_key, {"w": "1"}, maxlen=1, approximate=False)
                pipe.pexpire(self._wake_key, _ms(self._limits.abandoned_seconds))
                await pipe.execute()

    async def expired(self, *, limit: int) -> Sequence[GenerationId]:
        with _translated():
            said = await self._expired(keys=[self._index], args=[limit, self._generation_prefix])
        return [GenerationId(name.decode()) for name in said]

    async def missing(self, generation_ids: Sequence[GenerationId]) -> Sequence[GenerationId]:
        if not generation_ids:
            return ()
        with _translated():
            async with self._client.pipeline(transaction=False) as pipe:
                for name in generation_ids:
                    pipe.exists(self._keys(name)[0])
                answers = await pipe.execute()
        return [name for name, there in zip(generation_ids, answers, strict=True) if not there]

    async def forget(self, generation_id: GenerationId) -> None:
        meta, log, index = self._keys(generation_id)
        with _translated():
            async with self._client.pipeline(transaction=True) as pipe:
                pipe.delete(meta, log)
                pipe.zrem(index, generation_id)
                await pipe.execute()

    async def check(self) -> None:
        with _translated():
            await self._client.ping()

    async def aclose(self) -> None:
        await self._acquire.aclose()
        await self._append.aclose()
        await self._writer.aclose()
        await self._client.aclose()
        if self._follower is not None:
            await self._follower.aclose()

    async def _write(self, lease: Lease, entries: Sequence[LogEntry], *, may_create: int) -> WriteReceipt:
        with _translated():
            said = await self._append.ask(self._begun(lease, may_create=may_create), _rest_of(entries))
        return _receipt_of(lease, said)

    def _begun(self, lease: Lease, *, may_create: int) -> BegunCommand:
        numbers = (lease.epoch, *self._lives, may_create)
        arguments = [lease.generation_id.encode(), *(b"%d" % number for number in numbers)]
        return self._append.begun([key.encode() for key in self._keys(lease.generation_id)], arguments)

    def _keys(self, generation_id: GenerationId) -> list[str]:
        name = f"{self._generation_prefix}{generation_id}"
        return [f"{name}:meta", f"{name}:log", self._index]

    def _connect(self, timeout_seconds: float, *, socket_timeout_seconds: float | None) -> redis.asyncio.Redis:
        # None for the socket where what is asked has a deadline as a whole: redis-py sets a timer for each answer.
        pool = redis.asyncio.BlockingConnectionPool.from_url(
            self._url,
            max_connections=_MAX_CONNECTIONS,
            timeout=timeout_seconds,
            protocol=2,
            socket_timeout=socket_timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            # Once more, at once, where the connection broke: after a restart of the server every pooled one has.
            retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
        )
        return redis.asyncio.Redis.from_pool(pool)


class _ValkeyPen:
    def __init__(self, script: ScriptTogether, lease: Lease, begun: BegunCommand) -> None:
        self._script = script
        self._lease = lease
        self._begun = begun

    def write(self, entries: Sequence[LogEntry], told: Callable[[WriteReceipt | PratiqueError], None]) -> None:
        self._script.tell(self._begun, _rest_of(entries), lambda said: told(self._read(said)))

    def _read(self, said: Any) -> WriteReceipt | PratiqueError:  # noqa: ANN401 - as redis-py has it
        if isinstance(said, int):
            return _RECEIPTS[said]
        try:
            with _translated():
                if isinstance(said, Exception):
                    raise said
            return _receipt_of(self._lease, said)
        except PratiqueError as error:
            return error


def _rest_of(entries: Sequence[LogEntry]) -> list[bytes]:
    """Return what differs in each write of one lease: the first event's number, whether the last ends it, the data."""
    if not entries:
        return [b"0", b"0"]
    rest = [b"%d" % entries[0].seq, b"1" if entries[-1].is_end else b"0"]
    rest += [entry.data for entry in entries]
    return rest


def _receipt_of(lease: Lease, said: Any) -> WriteReceipt:  # noqa: ANN401 - as redis-py has it
    # A number is the rule, and cheap to read: written, and whether somebody asked for an end meanwhile.
    if isinstance(said, int):
        return _RECEIPTS[said]
    if said[0] == b"missing":
        raise LogMissingError(f"There is no log of {lease.generation_id}.")
    if said[0] == b"fenced":
        raise FencedError(f"The reply {lease.generation_id} has a newer producer, of epoch {int(said[1])}.")
    last = int(said[1])
    raise LogGapError(
        f"The log of {lease.generation_id} ends at {last}; what was written does not follow.", last_seq=last
    )


def _entries(rows: Sequence[tuple[bytes, Mapping[bytes, bytes]]]) -> tuple[LogEntry, ...]:
    return tuple(LogEntry(int(name.split(b"-")[0]), fields[b"d"], is_end=b"e" in fields) for name, fields in rows)


def _is_whole(entries: Sequence[LogEntry], after_seq: int, last_seq: int) -> bool:
    """Whether nothing is missing: a log with a hole (evicted, tampered with) is as good as none."""
    return [entry.seq for entry in entries] == list(range(after_seq + 1, last_seq + 1))


def _ms(seconds: float) -> int:
    return max(1, int(seconds * 1000))


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError, RuntimeError) as error:
        # RuntimeError: uvloop's, where a pooled connection was reset a moment ago and redis-py still writes to it.
        raise LogUnavailableError(f"The generation log does not answer: {type(error).__name__}: {error}.") from error
