"""An hour of chat in seconds, on a clock turned by hand: which layer answers the reads of two to four replicas.

The model, in the order of what happens:

- A thousand people have ten conversations each from before. Sessions begin as a Poisson process, one a second. A
  person opens a conversation, the newer the likelier (Zipf, exponent 1); one session in five begins a new one.
- A session has a geometric number of exchanges (mean 4). An exchange is a message (a write), a reply of log-normal
  length (median 6 s; a write at its end) and a pause for thought (log-normal, median 12 s).
- Reads: one when a conversation is opened; one per message, of the history that the model is given; one when a
  connection was lost and the reply resumed (one exchange in ten); one when a person looks at another conversation in
  between (one exchange in ten).
- Routing is sticky; one exchange in fifty lands on another replica and stays there, as after a restart.
- L2 forgets after 5 to 10 minutes, as it does in production; nothing fails.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass

from pratique.core.catalogue.cache import DB_READ, L1_HIT, L1_MISS, L2_HIT, L2_MISS
from pratique.core.clock import ManualClock
from pratique.core.ids import ConversationId, PrincipalId
from pratique.core.metrics import Metrics
from pratique.orchestrator.cache import CacheSettings, LayeredReader
from pratique.orchestrator.cache.interface import Tombstone
from pratique.orchestrator.cache.memory import MemoryHub, MemorySharedCache
from pratique.orchestrator.conversations import (
    BegunTurn,
    GenerationOptions,
    GenerationRunningError,
    Outcome,
    StoredConversation,
)
from pratique.orchestrator.conversations.memory import MemoryConversationStore
from pratique.orchestrator.protocol.events import FinishReason

__all__ = ["Rates", "play"]

_CONVERSATIONS_EACH = 20
_FROM_BEFORE = 10
_NEW = 0.2
_MORE = 0.75
"""Chance of another exchange: four in the mean."""
_REPLY_SECONDS = 6.0
_THOUGHT_SECONDS = 12.0
_LOST = 0.1
_ELSEWHERE = 0.1
_MOVED = 0.02
_SETTINGS = CacheSettings()
_L2_LIFE = (_SETTINGS.l2_min_seconds, _SETTINGS.l2_max_seconds)
_REPLY = Outcome(text="hi", finish_reason=FinishReason.STOP)


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Shares of all reads."""

    replicas: int
    reads: int
    l1: float
    l2: float
    store: float


async def play(
    *, replicas: int, people: int, minutes: float, sessions_per_minute: float, seed: int, counts_history: bool
) -> Rates:
    """Play the model; a fifth of the time before only warms the caches."""
    trace = _Trace(replicas, random.Random(seed), counts_history=counts_history)  # noqa: S311 - dice
    await trace.begin(people)
    async with AsyncExitStack() as stack:
        for reader in trace.readers:
            await stack.enter_async_context(reader)
        await trace.clock.advance(0)
        await trace.run(minutes * 60 / 5, sessions_per_minute)
        before = trace.counts()
        await trace.run(minutes * 60, sessions_per_minute)
        after = trace.counts()
    l1_hit, l1_miss, l2_hit, _, store = (late - early for late, early in zip(after, before, strict=True))
    reads = l1_hit + l1_miss
    return Rates(replicas=replicas, reads=reads, l1=l1_hit / reads, l2=l2_hit / reads, store=store / reads)


class _Trace:
    def __init__(self, replicas: int, draw: random.Random, *, counts_history: bool) -> None:
        self._counts_history = counts_history
        self.clock = ManualClock()
        self._draw = draw
        self._store = MemoryConversationStore(clock=self.clock)
        hub, ends = MemoryHub(), dict[str, float]()
        self._metrics = [Metrics() for _ in range(replicas)]
        self.readers = [
            LayeredReader(
                self._store,
                shared=_ForgetfulCache(hub, str(number), self.clock, ends, draw),
                origin=str(number),
                settings=_SETTINGS,
                clock=self.clock,
                metrics=metrics,
                draw=draw.uniform,
            )
            for number, metrics in enumerate(self._metrics)
        ]
        self._conversations: list[list[ConversationId]] = []
        self._numbers = itertools.count()
        self._events: list[tuple[float, int, Callable[[], Coroutine[None, None, None]]]] = []

    async def begin(self, people: int) -> None:
        """Give everybody conversations from before, which no cache knows."""
        for person in range(people):
            begun = [await self._say(person, None) for _ in range(_FROM_BEFORE)]
            for one in begun:
                await self._store.finish(one.generation_id, epoch=1, outcome=_REPLY)
            self._conversations.append([one.conversation_id for one in begun])

    def counts(self) -> list[int]:
        return [
            sum(int(metrics.registry.get_sample_value(f"{spec.name}_total") or 0) for metrics in self._metrics)
            for spec in (L1_HIT, L1_MISS, L2_HIT, L2_MISS, DB_READ)
        ]

    async def run(self, seconds: float, sessions_per_minute: float) -> None:
        end = self.clock.monotonic() + seconds
        at = self.clock.monotonic()
        while (at := at + self._draw.expovariate(sessions_per_minute / 60)) < end:
            self._at(at, self._session)
        while self._events and self._events[0][0] < end:
            at, _, event = heapq.heappop(self._events)
            await self.clock.advance(max(0.0, at - self.clock.monotonic()))
            await event()

    def _at(self, at: float, event: Callable[[], Coroutine[None, None, None]]) -> None:
        heapq.heappush(self._events, (at, next(self._numbers), event))

    async def _session(self) -> None:
        person = self._draw.randrange(len(self._conversations))
        replica = self._draw.randrange(len(self.readers))
        own = self._conversations[person]
        if not own or self._draw.random() < _NEW:
            await self._exchange(person, replica, None)
            return
        conversation = self._pick(own)
        await self.readers[replica].get(conversation)
        self._later(3.0, lambda: self._exchange(person, replica, conversation))

    def _pick(self, own: list[ConversationId]) -> ConversationId:
        weights = [1 / rank for rank in range(len(own), 0, -1)]
        return self._draw.choices(own, weights)[0]

    def _later(self, median_seconds: float, event: Callable[[], Coroutine[None, None, None]]) -> None:
        self._at(self.clock.monotonic() + median_seconds * self._draw.lognormvariate(0, 0.7), event)

    async def _exchange(self, person: int, replica: int, conversation: ConversationId | None) -> None:
        if self._draw.random() < _MOVED:
            replica = self._draw.randrange(len(self.readers))
        try:
            begun = await self._say(person, conversation)
        except GenerationRunningError:
            return  # another session of the same person is in the middle of it
        name = begun.conversation_id
        if conversation is None:
            self._conversations[person] = [*self._conversations[person], name][-_CONVERSATIONS_EACH:]
        await self.readers[replica].written(begun.conversation)
        if self._counts_history:
            await self._read(replica, name)
        if self._draw.random() < _LOST:
            self._later(_REPLY_SECONDS / 2, lambda: self._read(replica, name))
        self._later(_REPLY_SECONDS, lambda: self._end(person, replica, begun))

    async def _end(self, person: int, replica: int, begun: BegunTurn) -> None:
        ended = await self._store.finish(begun.generation_id, epoch=1, outcome=_REPLY)
        await self.readers[replica].written(ended.conversation)
        await asyncio.sleep(0)  # the other replicas hear of it
        if self._draw.random() < _ELSEWHERE:
            other = self._pick(self._conversations[person])
            self._later(_THOUGHT_SECONDS / 2, lambda: self._read(replica, other))
        if self._draw.random() < _MORE:
            self._later(_THOUGHT_SECONDS, lambda: self._exchange(person, replica, begun.conversation_id))

    async def _say(self, person: int, conversation: ConversationId | None) -> BegunTurn:
        return await self._store.begin_turn(
            owner=PrincipalId(f"usr_{person}"),
            conversation_id=conversation,
            client_message_id=f"message-{next(self._numbers)}",
            text="hello",
            options=GenerationOptions(),
        )

    async def _read(self, replica: int, conversation: ConversationId) -> None:
        await self.readers[replica].get(conversation)


class _ForgetfulCache(MemorySharedCache):
    """An L2 in memory whose entries end as those in Valkey do."""

    def __init__(
        self, hub: MemoryHub, origin: str, clock: ManualClock, ends: dict[str, float], draw: random.Random
    ) -> None:
        super().__init__(hub, origin=origin)
        self._clock = clock
        self._ends = ends
        self._draw = draw

    async def load(self, conversation_id: ConversationId) -> StoredConversation | Tombstone | None:
        found = await super().load(conversation_id)
        return found if self._ends.get(conversation_id, 0.0) > self._clock.monotonic() else None

    async def fill(self, conversation: StoredConversation) -> None:
        await super().fill(conversation)
        self._renew(conversation)

    async def write(self, conversation: StoredConversation) -> None:
        await super().write(conversation)
        self._renew(conversation)

    def _renew(self, conversation: StoredConversation) -> None:
        is_running = conversation.conversation.active_generation_id is not None
        life = _SETTINGS.l2_running_seconds if is_running else self._draw.uniform(*_L2_LIFE)
        self._ends[conversation.conversation_id] = self._clock.monotonic() + life
