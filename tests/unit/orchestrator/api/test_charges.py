"""What is reserved for a message, and what becomes of it when the message or its reply does not end as expected."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext

import pytest

from pratique.core.clock import ManualClock
from pratique.core.errors import EnvironmentFaultError, RefusedError
from pratique.core.ids import ConversationId, GenerationId, PrincipalId, TurnId
from pratique.orchestrator.access import Principal, PrincipalKind
from pratique.orchestrator.access.limits.interface import LimitExceededError, Reservation
from pratique.orchestrator.access.limits.memory import MemoryLimiter
from pratique.orchestrator.access.settings import LimitsSettings
from pratique.orchestrator.api.charges import Charges, estimate_tokens
from pratique.orchestrator.conversations.interface import (
    BegunTurn,
    GenerationOptions,
    GenerationRecord,
    GenerationStatus,
    StoredConversation,
)
from pratique.orchestrator.protocol.encode import encode_event
from pratique.orchestrator.protocol.events import (
    Conversation,
    Ended,
    FinishReason,
    Role,
    Started,
    Turn,
    TurnStatus,
    Usage,
)
from pratique.orchestrator.sessions.feed import Feed
from pratique.orchestrator.sessions.log.interface import LogEntry

pytestmark = pytest.mark.unit

WHO = Principal(principal_id=PrincipalId("usr_1"), kind=PrincipalKind.SESSION, name="x")


class World:
    def __init__(self) -> None:
        self.limiter = MemoryLimiter(LimitsSettings(tokens_per_day=1000, concurrent=1), clock=ManualClock())
        self.charges = Charges(self.limiter)
        self.feed = Feed(GenerationId("gen_1"))

    @property
    def level(self) -> float:
        return self.limiter._accounts["usr_1"].levels["day"].level

    @property
    def num_reserved(self) -> int:
        return len(self.limiter._accounts["usr_1"].reserved)

    async def begin(self, *, text: str = "", max_tokens: int | None = 99) -> None:
        """Store a message and begin its reply, as the service does."""
        async with self.charges.reserved(WHO, "m", text=text, max_tokens=max_tokens) as charge:
            begun = begin_turn("one two three", max_tokens=max_tokens)
            await charge.stored(begun)
            charge.settle_at_end(begun, self.feed)


def begin_turn(text: str, *, max_tokens: int | None) -> BegunTurn:
    generation = GenerationRecord(
        generation_id=GenerationId("gen_1"),
        conversation_id=ConversationId("conv_1"),
        owner=WHO.principal_id,
        user_turn_id=TurnId("turn_1"),
        options=GenerationOptions(max_tokens=max_tokens),
        status=GenerationStatus.RUNNING,
        epoch=0,
        created_at=0.0,
    )
    turn = Turn(turn_id="turn_1", role=Role.USER, text=text, status=TurnStatus.COMPLETE, created_at=0.0)
    shown = Conversation(conversation_id="conv_1", title="x", created_at=0.0, updated_at=0.0, version=1, turns=(turn,))
    return BegunTurn(generation=generation, conversation=StoredConversation(owner=WHO.principal_id, conversation=shown))


@pytest.fixture
def world() -> World:
    return World()


def started(prompt_tokens: int) -> LogEntry:
    event = Started(conversation_id="conv_1", generation_id="gen_1", seq=1, model="m", prompt_tokens=prompt_tokens)
    return LogEntry(seq=1, data=encode_event(event), is_end=False)


def ended(usage: Usage | None, *, reason: FinishReason = FinishReason.STOP) -> LogEntry:
    event = Ended(
        conversation_id=ConversationId("conv_1"),
        generation_id=GenerationId("gen_1"),
        seq=1,
        finish_reason=reason,
        turn_id="turn_1",
        usage=usage,
    )
    return LogEntry(seq=1, data=encode_event(event), is_end=True)


@pytest.mark.parametrize(
    ("error", "level"), [(RefusedError("no"), 0), (EnvironmentFaultError("away"), 100), (KeyError(), 100)]
)
async def test_a_message_that_was_refused_gives_back_what_one_of_unknown_fate_keeps(
    world: World, error: Exception, level: float
) -> None:
    with pytest.raises(type(error)):
        async with world.charges.reserved(WHO, "m", max_tokens=99):
            raise error
    assert world.level == level


@pytest.mark.parametrize("error", [RefusedError("gone"), EnvironmentFaultError("away"), KeyError(), None])
async def test_a_repetition_leaves_the_running_replys_reservation_alone(world: World, error: Exception | None) -> None:
    async with world.charges.running():
        await world.begin(text="one")
        before = world.level
        with pytest.raises(type(error)) if error else nullcontext():
            async with world.charges.reserved(WHO, "m", text="one", max_tokens=99):
                if error:
                    raise error
        assert (world.num_reserved, world.level) == (1, before)


async def test_a_repetition_of_what_has_ended_gives_back_what_it_took(world: World) -> None:
    async with world.charges.reserved(WHO, "m", max_tokens=99):
        pass
    assert (world.num_reserved, world.level) == (0, 0)


async def test_what_is_new_under_a_name_that_is_reserved_is_paid_for_by_who_stored_it() -> None:
    limiter = MemoryLimiter(LimitsSettings(tokens_per_day=1000), clock=ManualClock())
    charges = Charges(limiter)

    async def be_overtaken() -> None:
        async with charges.reserved(WHO, "m", text="slow", max_tokens=10):
            async with charges.reserved(WHO, "m", text="fast", max_tokens=300) as charge:
                begun = begin_turn("fast", max_tokens=300)
                await charge.stored(begun)
                charge.settle_at_end(begun, Feed(begun.generation_id))
            raise RefusedError("the id was used for another text")

    async with charges.running():
        with pytest.raises(RefusedError):
            await be_overtaken()
        account = limiter._accounts["usr_1"]
        assert list(account.reserved) == ["gen_1"]
        assert account.levels["day"].level == 302


async def test_what_is_new_under_a_name_that_is_reserved_and_does_not_fit_is_refused(world: World) -> None:
    async with world.charges.running():
        await world.begin()
        with pytest.raises(LimitExceededError):
            async with world.charges.reserved(WHO, "m", max_tokens=99) as charge:
                await charge.stored(begin_turn("x", max_tokens=99))
        assert (world.num_reserved, world.level) == (1, 100)


@pytest.mark.parametrize("error", [RefusedError("no"), EnvironmentFaultError("away"), KeyError()])
async def test_what_fails_between_its_storing_and_its_beginning_leaves_no_reservation_and_is_paid(
    world: World, error: Exception
) -> None:
    async def send() -> None:
        async with world.charges.reserved(WHO, "m", max_tokens=99) as charge:
            await charge.stored(begin_turn("x", max_tokens=99))
            raise error

    with pytest.raises(type(error)):
        await send()
    assert (world.num_reserved, world.level) == (0, 100)


async def test_a_connection_that_closes_while_its_message_is_stored_gets_no_reply_for_free(world: World) -> None:
    async def send() -> None:
        async with world.charges.reserved(WHO, "m", max_tokens=99):
            await asyncio.sleep(60)

    sending = asyncio.create_task(send())
    await asyncio.sleep(0)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    assert (world.num_reserved, world.level) == (0, 100)


async def test_a_connection_that_closes_while_it_is_reserved_leaves_no_reservation(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve = world.limiter.reserve

    async def take_and_hang(wanted: Reservation) -> bool:
        await reserve(wanted)
        await asyncio.sleep(60)
        return True

    monkeypatch.setattr(world.limiter, "reserve", take_and_hang)
    sending = asyncio.create_task(world.begin())
    await asyncio.sleep(0)
    assert world.num_reserved == 1
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    assert world.num_reserved == 0


@pytest.mark.parametrize(
    ("entries", "level"),
    [
        ([ended(Usage(prompt_tokens=30, completion_tokens=12))], 42),
        ([ended(None)], 100),
        ([ended(None, reason=FinishReason.ERROR)], 100),
        # Nothing was counted, and the engine has read the conversation: 13 characters of it.
        ([ended(None, reason=FinishReason.CANCELLED)], 4 + 99),
        ([], 4 + 99),
        ([started(500)], 500 + 99),
    ],
)
async def test_a_reply_is_settled_by_its_end_or_by_what_is_known_of_it(
    world: World, entries: list[LogEntry], level: float
) -> None:
    async with world.charges.running():
        await world.begin()
        await asyncio.sleep(0)
        assert world.num_reserved == 1
        if entries:
            world.feed.publish(entries)
        if not world.feed.has_ended:
            world.feed.lose()
        for _ in range(5):
            await asyncio.sleep(0)
        assert world.num_reserved == 0
    assert world.level == level


@pytest.mark.parametrize("data", [b"", b"{", b'{"type":"ended"}', b'{"type":"token"}'])
async def test_an_end_that_cannot_be_read_keeps_its_estimate_and_ends_nothing_else(world: World, data: bytes) -> None:
    async with world.charges.running():
        await world.begin()
        world.feed.publish([LogEntry(seq=1, data=data, is_end=True)])
        await asyncio.sleep(0.01)
        assert world.num_reserved == 0
    assert world.level == 100


async def test_a_limiter_that_cannot_settle_ends_nothing_else(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise ValueError("unreadable")

    async with world.charges.running():
        await world.begin()
        monkeypatch.setattr(world.limiter, "settle", fail)
        world.feed.lose()
        await asyncio.sleep(0.01)
    assert world.level == 100


async def test_what_has_not_ended_when_the_replica_does_gives_its_place_back_and_keeps_its_estimate(
    world: World,
) -> None:
    async with world.charges.running():
        await world.begin()
    assert (world.num_reserved, world.level) == (0, 100)
    await world.begin()
    assert world.num_reserved == 0


def test_an_estimate_is_the_text_and_the_most_that_its_reply_may_have() -> None:
    assert estimate_tokens("", max_tokens=10) == 11
    assert estimate_tokens("x" * 300, max_tokens=10) == 111
