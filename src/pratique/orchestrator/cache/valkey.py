"""L2 in Valkey (or Redis): one hash per conversation with its version beside the snapshot, changes over pub/sub.

- The version is compared inside the server: a reader that comes late with an old snapshot cannot replace a newer one.
- A write and its announcement are one script, so nobody hears of a version that is not there.
- Every call has a deadline; nothing is retried here, but a write once where its pooled connection had broken.
- Loads of one turn of the event loop share a round trip, and writes that come during one share the next: the client's
  work per call is what bounds both.
- What cannot be read (another program's, another version's) is a miss, never an error.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import anyio
import msgspec
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from pratique.core.ids import ConversationId
from pratique.orchestrator.cache._batches import Batches
from pratique.orchestrator.cache.interface import DELETED, Change, SharedCacheError, Tombstone
from pratique.orchestrator.cache.settings import CacheSettings
from pratique.orchestrator.conversations.interface import StoredConversation
from pratique.orchestrator.shared_scripts import ScriptTogether

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from redis.asyncio.client import PubSub

    from pratique.orchestrator.cache.interface import Listener

__all__ = ["ValkeySharedCache"]

_FORMAT: Final = "v1"
"""Part of every name: replicas of another format neither read nor overwrite these."""
_PURGE_BATCH: Final = 500
_PONG: Final = b"pong"
_GONE: Final = (RedisError, OSError, TimeoutError, RuntimeError)
"""RuntimeError: uvloop's, where a pooled connection was reset a moment ago and redis-py still writes to it."""

# KEYS: the entry. ARGV: version, snapshot ("" for none), life in ms, channel ("" for silence), message.
_KEEP: Final = """
local there = tonumber(redis.call('HGET', KEYS[1], 'version') or '')
local given = tonumber(ARGV[1])
if there and there > given then return 0 end
if ARGV[2] == '' then
  if there ~= given then redis.call('HDEL', KEYS[1], 'snapshot') end
  redis.call('HSET', KEYS[1], 'version', ARGV[1])
else
  redis.call('HSET', KEYS[1], 'version', ARGV[1], 'snapshot', ARGV[2])
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
if ARGV[4] ~= '' then redis.call('PUBLISH', ARGV[4], ARGV[5]) end
return 1
"""

# KEYS: the entries. One command for all of them: as a pipeline they cost redis-py three times the work.
_LOAD: Final = """
local found = {}
for index, key in ipairs(KEYS) do
  local entry = redis.pcall('HMGET', key, 'version', 'snapshot')
  found[index] = not entry.err and entry
end
return found
"""


class _Message(msgspec.Struct, array_like=True, frozen=True):
    conversation_id: str
    version: int
    origin: str


class ValkeySharedCache:
    """A `SharedCache` over a server. `origin` names this replica in what it announces."""

    def __init__(
        self,
        url: str,
        *,
        origin: str,
        settings: CacheSettings | None = None,
        namespace: str = "pratique",
        draw: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._origin = origin
        self._settings = settings or CacheSettings()
        self._prefix = f"{namespace}:conversation:{_FORMAT}:"
        self._channel = f"{namespace}:conversation-changes:{_FORMAT}"
        self._draw = draw
        deadline = self._settings.l2_deadline_seconds
        # One more for the listener.
        self._client = _client_of(
            url, deadline, max_connections=self._settings.l2_connections + 1, socket_timeout=deadline
        )
        # A round trip of writes has its deadline as a whole: redis-py makes a task and a timer for each part.
        self._writer = _client_of(url, deadline, max_connections=1, socket_timeout=None)
        self._loads = Batches(self._load_all, limit=self._settings.l2_batch)
        self._load_script = self._client.register_script(_LOAD)
        self._keeps = ScriptTogether(self._writer, _KEEP, deadline_seconds=deadline)

    async def load(self, conversation_id: ConversationId) -> StoredConversation | Tombstone | None:
        return await self._loads.load(conversation_id)

    async def fill(self, conversation: StoredConversation) -> None:
        await self._keep(conversation.conversation_id, conversation.version, conversation, channel="")

    async def write(self, conversation: StoredConversation) -> None:
        await self._keep(conversation.conversation_id, conversation.version, conversation, channel=self._channel)

    async def outdate(self, conversation_id: ConversationId, version: int) -> None:
        await self._keep(conversation_id, version, None, channel=self._channel)

    async def purge(self) -> None:
        cursor = -1
        while cursor != 0:
            cursor, keys = await self._call(
                self._client.scan(max(cursor, 0), match=f"{self._prefix}*", count=_PURGE_BATCH)
            )
            if keys:
                await self._call(self._client.unlink(*keys))

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[Listener]:
        pubsub = self._client.pubsub()
        try:
            await self._call(pubsub.subscribe(self._channel))
            listener = _PubSubListener(pubsub, self._settings.ping_seconds)
            await listener.subscribed(self._settings.l2_deadline_seconds)
            yield listener
        finally:
            # Shielded, with a bound: it is mostly a cancelled task that comes here.
            with anyio.move_on_after(self._settings.l2_deadline_seconds, shield=True):
                await pubsub.aclose()  # type: ignore[no-untyped-call]  # redis-py leaves it untyped

    async def aclose(self) -> None:
        await self._loads.aclose()
        await self._keeps.aclose()
        await self._writer.aclose()
        await self._client.aclose()

    async def _load_all(self, names: Sequence[ConversationId]) -> list[StoredConversation | Tombstone | None]:
        try:
            answers = await self._call(self._load_script(keys=[self._key(name) for name in names]))
        except ResponseError:
            return [None] * len(names)
        return [_entry(answer, name) for answer, name in zip(answers, names, strict=True)]

    def _key(self, conversation_id: ConversationId) -> str:
        return f"{self._prefix}{conversation_id}"

    async def _keep(
        self, conversation_id: ConversationId, version: int, snapshot: StoredConversation | None, *, channel: str
    ) -> None:
        message = msgspec.json.encode(_Message(conversation_id, version, self._origin))
        life_ms = int(1000 * self._life_seconds(snapshot))
        packed = b"" if snapshot is None else msgspec.msgpack.encode(snapshot)
        try:
            await self._call(
                self._keeps.run(
                    [self._key(conversation_id).encode()],
                    [b"%d" % version, packed, b"%d" % life_ms, channel.encode(), message],
                )
            )
        except ResponseError as error:
            # Out of memory, read-only, or a foreign key in the way: it did not take it.
            raise SharedCacheError(f"The shared cache refused a write: {error}.") from error

    def _life_seconds(self, snapshot: StoredConversation | None) -> float:
        if snapshot is not None and snapshot.conversation.active_generation_id:
            return self._settings.l2_running_seconds
        return self._draw(self._settings.l2_min_seconds, self._settings.l2_max_seconds)

    async def _call(self, call: Awaitable[Any]) -> Any:  # noqa: ANN401 - redis-py's answers have no types
        try:
            async with asyncio.timeout(self._settings.l2_deadline_seconds):
                return await call
        except ResponseError:
            raise
        except _GONE as error:
            raise SharedCacheError(
                f"The shared cache does not answer: {str(error) or type(error).__name__}."
            ) from error


class _PubSubListener:
    """Reads the channel, and asks whether the server lives when the channel is silent."""

    def __init__(self, pubsub: PubSub, ping_seconds: float) -> None:
        self._pubsub = pubsub
        self._ping_seconds = ping_seconds

    async def subscribed(self, deadline_seconds: float) -> None:
        """Wait until the server says that the subscription holds."""
        message = await self._read(deadline_seconds)
        if message is None or message["type"] != "subscribe":
            raise SharedCacheError("The shared cache did not confirm the subscription.")

    async def next(self) -> Change:
        has_asked = False
        while True:
            message = await self._read(self._ping_seconds)
            if message is None and has_asked:
                raise SharedCacheError("The shared cache is silent on its channel.")
            has_asked = message is None
            if message is None:
                await self._ping()
            elif message["type"] == "message":
                return _change(message["data"])

    async def _ping(self) -> None:
        try:
            async with asyncio.timeout(self._ping_seconds):
                await self._pubsub.ping(_PONG.decode())
        except _GONE as error:
            raise SharedCacheError(f"The shared cache is gone: {str(error) or type(error).__name__}.") from error

    async def _read(self, seconds: float) -> dict[str, Any] | None:
        try:
            message: dict[str, Any] | None = await self._pubsub.get_message(timeout=seconds)
        except _GONE as error:
            raise SharedCacheError(f"The shared cache is gone: {str(error) or type(error).__name__}.") from error
        return message


def _client_of(url: str, deadline_seconds: float, *, max_connections: int, socket_timeout: float | None) -> Redis:
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=max_connections,
        timeout=deadline_seconds,
        socket_timeout=socket_timeout,
        socket_connect_timeout=deadline_seconds,
        retry=Retry(NoBackoff(), 0),
    )
    return Redis.from_pool(pool)


def _change(data: bytes) -> Change:
    try:
        message = msgspec.json.decode(data, type=_Message)
    except msgspec.MsgspecError as error:
        # What it was about is unknown: as if it had been missed.
        raise SharedCacheError("An announcement on the shared cache's channel cannot be read.") from error
    return Change(
        conversation_id=ConversationId(message.conversation_id), version=message.version, origin=message.origin
    )


def _entry(
    answer: tuple[bytes | None, bytes | None] | None, conversation_id: ConversationId
) -> StoredConversation | Tombstone | None:
    version, packed = answer or (None, None)
    if version == b"%d" % DELETED:
        return Tombstone()
    return _unpack(packed, conversation_id) if packed else None


def _unpack(packed: bytes, conversation_id: ConversationId) -> StoredConversation | None:
    try:
        snapshot = msgspec.msgpack.decode(packed, type=StoredConversation)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return snapshot if snapshot.conversation_id == conversation_id else None
