"""Replicas in one process, over one store and one log, each with a model of its own or a shared one."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from pratique.core.clock import SystemClock
from pratique.core.ids import ConversationId, PrincipalId, RandomIds
from pratique.core.metrics import Metrics
from pratique.orchestrator.conversations import GenerationOptions
from pratique.orchestrator.conversations.memory import MemoryConversationStore
from pratique.orchestrator.protocol.encode import decode_generation_event
from pratique.orchestrator.protocol.events import Ended, GenerationEvent, Token
from pratique.orchestrator.sessions.attempts import AttemptLimits
from pratique.orchestrator.sessions.instruments import Instruments
from pratique.orchestrator.sessions.log.interface import LogLimits
from pratique.orchestrator.sessions.log.memory import MemoryLog
from pratique.orchestrator.sessions.sessions import Sessions, SessionsSettings
from pratique.orchestrator.sessions.takeover import JanitorSettings
from pratique.orchestrator.sessions.workshop import ReplySettings, Workshop
from pratique.orchestrator.sessions.writer import WriterSettings
from pratique.orchestrator.upstream.deadlines import Deadlines, UpstreamWithDeadlines
from pratique.orchestrator.upstream.scripted import ScriptedUpstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from pratique.orchestrator.conversations import BegunTurn, GenerationRecord, StoredConversation
    from pratique.orchestrator.retrieval.interface import Retriever
    from pratique.orchestrator.sessions.feed import Feed

LEASE_SECONDS = 0.25


class House:
    """Everything that replicas share, and short words for what tests do with it."""

    def __init__(self) -> None:
        self.clock = SystemClock()
        self.store = MemoryConversationStore()
        self.log = MemoryLog(limits=LogLimits(lease_seconds=LEASE_SECONDS))
        self.upstream = ScriptedUpstream()
        self.metrics = Metrics()
        self.owner = PrincipalId("usr_ann")
        self.written: list[StoredConversation] = []
        self.distrusted: list[ConversationId] = []
        self.limits = AttemptLimits(model_wait_seconds=0.4, continue_wait_seconds=0.4, max_losses=3)
        self.reply = ReplySettings
        self.recall: Callable[[ConversationId], Awaitable[StoredConversation]] | None = None
        self.max_bytes = 2**20
        self.max_running = 16
        self.retriever: Retriever | None = None
        self._stacks: list[AsyncExitStack] = []
        self._count = 0

    async def replica(self) -> Sessions:
        """Start another replica."""
        sessions = self.stopped_replica()
        stack = AsyncExitStack()
        await stack.enter_async_context(sessions.running())
        self._stacks.append(stack)
        return sessions

    def stopped_replica(self) -> Sessions:
        """Make another replica that does nothing yet."""
        return Sessions(
            Workshop(
                holder=f"replica-{len(self._stacks)}",
                store=self.store,
                log=self.log,
                upstream=UpstreamWithDeadlines(
                    self.upstream, Deadlines(first_token_seconds=0.3, inter_token_seconds=0.15)
                ),
                written=self._written,
                distrust=self.distrusted.append,
                recall=self.recall,
                clock=self.clock,
                ids=RandomIds(),
                instruments=Instruments(self.metrics),
                retriever=self.retriever,
                settings=ReplySettings(
                    max_tokens=100,
                    limits=self.limits,
                    max_bytes=self.max_bytes,
                    writer=WriterSettings(window_seconds=0.002, renew_seconds=0.02, write_timeout_seconds=0.1),
                ),
            ),
            SessionsSettings(
                max_running=self.max_running,
                janitor=JanitorSettings(
                    scan_seconds=0.02, store_scan_seconds=0.03, grace_seconds=0.5, unbegun_seconds=0.1
                ),
            ),
        )

    async def crash(self, number: int) -> None:
        """End a replica in the middle of whatever it does; it tells nobody."""
        stack, self._stacks[number] = self._stacks[number], AsyncExitStack()
        await stack.aclose()

    async def say(self, text: str = "one two three", *, max_tokens: int | None = None) -> BegunTurn:
        self._count += 1
        return await self.store.begin_turn(
            owner=self.owner,
            conversation_id=None,
            client_message_id=f"message-{self._count:04}",
            text=text,
            options=GenerationOptions(max_tokens=max_tokens),
        )

    async def record(self, begun: BegunTurn) -> GenerationRecord:
        return await self.store.load_generation(begun.generation_id)

    async def until(self, condition: Callable[[], Awaitable[bool]], *, seconds: float = 3.0) -> None:
        """Return once it holds; what is waited for here happens in another replica, which signals nobody."""
        async with asyncio.timeout(seconds):
            while not await condition():  # noqa: ASYNC110 - see above
                await asyncio.sleep(0.005)

    async def _written(self, stored: StoredConversation) -> None:
        self.written.append(stored)

    async def aclose(self) -> None:
        for number in range(len(self._stacks)):
            await self.crash(number)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    made = House()
    yield made
    await made.aclose()


class Reader:
    """What a client does with a feed: takes events after its cursor, checks that none is missing or doubled."""

    def __init__(self) -> None:
        self.events: list[GenerationEvent] = []

    async def read(self, feed: Feed, *, until: int | None = None, seconds: float = 5.0) -> Reader:
        """Read on from what was read before, to the end or up to event `until`."""
        async with asyncio.timeout(seconds):
            async for batch in feed.follow(self.last_seq):
                for entry in batch:
                    event = decode_generation_event(entry.data)
                    assert event.seq == entry.seq == self.last_seq + 1
                    self.events.append(event)
                    if event.seq == until:
                        return self
        return self

    @property
    def last_seq(self) -> int:
        return self.events[-1].seq if self.events else 0

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, Token))

    @property
    def kinds(self) -> list[str]:
        """The types of the events, runs of tokens as one."""
        kinds = [type(event).__name__ for event in self.events]
        return [kind for index, kind in enumerate(kinds) if index == 0 or kinds[index - 1] != kind or kind != "Token"]

    @property
    def ended(self) -> Ended:
        last = self.events[-1]
        assert isinstance(last, Ended)
        return last


@pytest.fixture
def reader() -> Reader:
    return Reader()
