"""Whatever happens to messages and in whichever order: nothing stays reserved, nobody gets more than is charged.

The service and its charges are the real ones, over the shared limiter and a store in memory. What they wait for is held
back, and let go, failed or cancelled in any order: the shared limiter's answers (which may be lost before or after it
counted), the store's, the caches'. Replies are made by a fake that begins, ends and loses them when it is told to.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pratique.core.clock import ManualClock
from pratique.core.ids import PrincipalId
from pratique.core.metrics import Metrics
from pratique.orchestrator.access import Principal, PrincipalKind
from pratique.orchestrator.access.limits.interface import Reservation
from pratique.orchestrator.access.limits.memory import MemoryLimiter
from pratique.orchestrator.access.limits.shared import SharedLimiter
from pratique.orchestrator.access.limits.valkey import LimitsUnavailableError
from pratique.orchestrator.access.settings import LimitsSettings
from pratique.orchestrator.api.charges import Charges
from pratique.orchestrator.api.service import ChatService
from pratique.orchestrator.conversations.errors import StoreUnavailableError
from pratique.orchestrator.conversations.memory import MemoryConversationStore
from pratique.orchestrator.protocol.encode import encode_event
from pratique.orchestrator.protocol.events import Ended, FinishReason, Usage
from pratique.orchestrator.protocol.frames import Message
from pratique.orchestrator.sessions.feed import Feed
from pratique.orchestrator.sessions.log.interface import LogEntry

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from pratique.core.ids import GenerationId
    from pratique.orchestrator.conversations.interface import GenerationRecord

pytestmark = pytest.mark.unit

WHO = Principal(principal_id=PrincipalId("usr_1"), kind=PrincipalKind.SESSION, name="x")
# Nothing drains while the clock stands still, so levels are sums.
LIMITS = LimitsSettings(concurrent=3, tokens_per_day=2_000, reservation_seconds=80_000)
MAX_TOKENS = 50
SECOND = 1.0


class Gate:
    """Holds calls back until they are let go; one that is failed has been done, or not."""

    def __init__(self) -> None:
        self.held: list[asyncio.Future[str]] = []

    async def passing(self, work: Awaitable[Any], error: Exception) -> Any:
        waiting: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.held.append(waiting)
        fate = "undone"
        try:
            fate = await waiting
            if fate in {"done", "answer lost"}:
                return await work if fate == "done" else await self._lose(work, error)
            raise error
        finally:
            if fate in {"undone", "never"} and hasattr(work, "close"):
                work.close()

    async def _lose(self, work: Awaitable[Any], error: Exception) -> None:
        await work
        raise error

    def let_go(self, index: int, fate: str) -> None:
        self.held = [one for one in self.held if not one.done()]
        if self.held:
            self.held[index % len(self.held)].set_result(fate)

    def let_all_go(self) -> None:
        for waiting in self.held:
            if not waiting.done():
                waiting.set_result("done")


class GatedStore(MemoryConversationStore):
    def __init__(self, gate: Gate, clock: ManualClock) -> None:
        super().__init__(clock=clock)
        self._gate = gate

    async def begin_turn(self, **asked: Any) -> Any:
        return await self._gate.passing(super().begin_turn(**asked), StoreUnavailableError("away"))


class GatedLimiter:
    """Stands for the one in Valkey."""

    def __init__(self, gate: Gate, clock: ManualClock) -> None:
        self.limiter = MemoryLimiter(LIMITS, clock=clock)
        self._gate = gate

    async def reserve(self, wanted: Reservation) -> Any:
        return await self._gate.passing(self.limiter.reserve(wanted), LimitsUnavailableError("away"))

    async def settle(self, taken: Reservation, *, tokens: int | None) -> Any:
        return await self._gate.passing(self.limiter.settle(taken, tokens=tokens), LimitsUnavailableError("away"))


class GatedReader:
    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def written(self, _: object) -> None:
        await self._gate.passing(asyncio.sleep(0), RuntimeError("fault"))

    async def deleted(self, _: object) -> None:
        """Say nothing: it is not what is held back here."""


class FakeSessions:
    """Makes each reply once, at most; says what was worked for it."""

    def __init__(self, store: MemoryConversationStore) -> None:
        self.store = store
        self.running: dict[GenerationId, Feed] = {}
        self.over: dict[GenerationId, Feed] = {}
        self.num_worked = 0

    def verify_room(self) -> None:
        """Have room."""

    def begin(self, record: GenerationRecord) -> Feed:
        known = self.over.get(record.generation_id)
        return known or self.running.setdefault(record.generation_id, Feed(record.generation_id))

    async def find(self, record: GenerationRecord) -> Feed | None:
        return self.running.get(record.generation_id) or self.over.get(record.generation_id)

    async def cancel(self, record: GenerationRecord) -> bool:
        """Stop what was erased, which takes a while; what nobody pays for is stopped at once."""
        if record.generation_id not in self.running or record.generation_id in self.store._generations:
            feed = self.running.pop(record.generation_id, None) or Feed(record.generation_id)
            self.over[record.generation_id] = feed
            feed.lose()
        return True

    def end(self, name: GenerationId) -> None:
        """Work as much as may be, and say so."""
        feed = self.over[name] = self.running.pop(name)
        self.num_worked += MAX_TOKENS
        event = Ended(
            conversation_id="conv_1",
            generation_id=name,
            seq=1,
            finish_reason=FinishReason.STOP,
            turn_id="turn_1",
            usage=Usage(prompt_tokens=0, completion_tokens=MAX_TOKENS),
        )
        feed.publish([LogEntry(seq=1, data=encode_event(event), is_end=True)])

    def lose(self, name: GenerationId) -> None:
        """Work as much as may be, and say nothing of it."""
        feed = self.over[name] = self.running.pop(name)
        self.num_worked += MAX_TOKENS
        feed.lose()


class AnyModels:
    def verify_named(self, _: object) -> None:
        """Know it."""


class ChargesMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.calls: list[asyncio.Task[Any]] = []

    @initialize()
    def start(self) -> None:
        self.clock = ManualClock()
        self.began = self.clock.monotonic()
        self.limiting, self.storing, self.telling = Gate(), Gate(), Gate()
        self.store = GatedStore(self.storing, self.clock)
        self.shared = GatedLimiter(self.limiting, self.clock)
        self.local = MemoryLimiter(LIMITS, clock=self.clock)
        shared: Any = self.shared
        self.limiter = SharedLimiter(shared, self.local, LIMITS, clock=self.clock, metrics=Metrics())
        self.charges = Charges(self.limiter, max_tokens=MAX_TOKENS)
        self.sessions = FakeSessions(self.store)
        sessions: Any = self.sessions
        reader: Any = GatedReader(self.telling)
        models: Any = AnyModels()
        self.service = ChatService(self.store, reader, sessions, models, charges=self.charges)
        self.life = self.charges.running()
        self.loop.run_until_complete(self.life.__aenter__())

    def settle_down(self) -> None:
        async def idle() -> None:
            for _ in range(20):
                await asyncio.sleep(0)

        self.loop.run_until_complete(idle())

    @rule(name=st.sampled_from(["message-1", "message-2"]), text=st.sampled_from(["one", "two"]))
    def send(self, name: str, text: str) -> None:
        message = Message(client_message_id=name, text=text, max_tokens=MAX_TOKENS)
        self.calls.append(self.loop.create_task(self.service.send(WHO, message)))
        self.settle_down()

    @rule(
        gate=st.sampled_from(["limiting", "storing", "telling"]),
        index=st.integers(0, 5),
        fate=st.sampled_from(["done", "done", "done", "answer lost", "never"]),
    )
    def let_go(self, gate: str, index: int, fate: str) -> None:
        getattr(self, gate).let_go(index, fate)
        self.settle_down()

    @rule(num_rounds=st.sampled_from([1, 2, 3, 9]))
    def let_all_go(self, num_rounds: int) -> None:
        for _ in range(num_rounds):
            for gate in (self.limiting, self.storing, self.telling):
                gate.let_all_go()
            self.settle_down()

    @rule(index=st.integers(0, 5))
    def leave(self, index: int) -> None:
        waiting = [call for call in self.calls if not call.done()]
        if waiting:
            waiting[index % len(waiting)].cancel()
            self.settle_down()

    @rule()
    def erase(self) -> None:
        self.loop.run_until_complete(self.service.erase(WHO.principal_id, seconds=9))
        self.settle_down()

    @invariant()
    def each_reply_that_runs_has_its_place(self) -> None:
        if not hasattr(self, "life") or any(not call.done() for call in self.calls):
            return
        accounts = [limiter._accounts.get(WHO.principal_id) for limiter in (self.shared.limiter, self.local)]
        holders = {kept.holder for account in accounts if account for kept, _ in account.reserved.values()}
        assert len(holders) >= len(self.sessions.running)

    @rule(is_erased=st.booleans())
    def send_again(self, is_erased: bool) -> None:
        self.send("message-1", "one")
        self.let_all_go(9)
        if is_erased:
            self.erase()
        self.send("message-1", "one")

    @rule(index=st.integers(0, 5))
    def end(self, index: int) -> None:
        names = list(self.sessions.running)
        if names:
            self.sessions.end(names[index % len(names)])
            self.settle_down()

    @rule(index=st.integers(0, 5))
    def lose(self, index: int) -> None:
        names = list(self.sessions.running)
        if names:
            self.sessions.lose(names[index % len(names)])
            self.settle_down()

    @rule()
    def wait(self) -> None:
        # A second in a day's bucket: what it drains is allowed for below.
        self.loop.run_until_complete(self.clock.advance(SECOND))
        self.settle_down()

    def teardown(self) -> None:
        try:
            if hasattr(self, "life"):
                self._finish()
                self._verify()
        finally:
            self.loop.close()

    def _finish(self) -> None:
        """Let everything come to its end, with everything there again."""
        self.wait()
        while any(not call.done() for call in self.calls):
            self.let_all_go(9)
        # What nobody began is found by the janitor, and made.
        for generation in self.store._generations.values():
            if generation.record.generation_id not in self.sessions.over:
                self.sessions.begin(generation.record)
        for name in list(self.sessions.running):
            self.sessions.end(name)
        self.let_all_go(9)
        closing = self.loop.create_task(self.life.__aexit__(None, None, None))
        self.let_all_go(9)
        self.wait()
        # Whoever comes next finds the store there.
        nobodys = Reservation(principal=WHO, name="nobody's", tokens=0)
        other = self.loop.create_task(self.limiter.settle(nobodys, tokens=0))
        while not other.done():
            self.let_all_go(9)
        for task in (closing, other):
            task.result()
        self.fates = [call.cancelled() or call.exception() for call in self.calls]

    def _verify(self) -> None:
        assert self.sessions.running == {}
        assert (self.limiter._owed, self.limiter._in_doubt) == ({}, {})
        accounts = [limiter._accounts.get(WHO.principal_id) for limiter in (self.shared.limiter, self.local)]
        assert [account.reserved for account in accounts if account] == [{} for account in accounts if account]
        levels = [account.levels["day"].level for account in accounts if account and account.levels]
        drained = 2 * (self.clock.monotonic() - self.began) * LIMITS.tokens_per_day / 86_400
        assert sum(levels) + drained + 1e-6 >= self.sessions.num_worked


TestCharges = ChargesMachine.TestCase
TestCharges.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
