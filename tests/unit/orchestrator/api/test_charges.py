"""What is reserved for a message, and what becomes of it when the message or its reply does not end as expected."""

from __future__ import annotations

import asyncio

import pytest

from pratique.core.clock import ManualClock
from pratique.core.errors import EnvironmentFaultError, RefusedError
from pratique.core.ids import ConversationId, GenerationId, PrincipalId
from pratique.orchestrator.access import Principal, PrincipalKind
from pratique.orchestrator.access.limits.memory import MemoryLimiter
from pratique.orchestrator.access.settings import LimitsSettings
from pratique.orchestrator.api.charges import Charges, estimate_tokens
from pratique.orchestrator.protocol.encode import encode_event
from pratique.orchestrator.protocol.events import Ended, FinishReason, Usage
from pratique.orchestrator.sessions.feed import Feed
from pratique.orchestrator.sessions.log.interface import LogEntry

pytestmark = pytest.mark.unit

WHO = Principal(principal_id=PrincipalId("usr_1"), kind=PrincipalKind.SESSION, name="x")


class World:
    def __init__(self) -> None:
        self.limiter = MemoryLimiter(LimitsSettings(tokens_per_day=1000, concurrent=1), clock=ManualClock())
        self.charges = Charges(self.limiter)

    @property
    def level(self) -> float:
        return self.limiter._accounts["usr_1"].levels["day"].level


@pytest.fixture
def world() -> World:
    return World()


def ended(usage: Usage | None) -> LogEntry:
    event = Ended(
        conversation_id=ConversationId("conv_1"),
        generation_id=GenerationId("gen_1"),
        seq=1,
        finish_reason=FinishReason.STOP,
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


@pytest.mark.parametrize("error", [RefusedError("gone"), EnvironmentFaultError("away"), KeyError()])
async def test_a_repetition_that_was_refused_leaves_the_running_replys_reservation_alone(
    world: World, error: Exception
) -> None:
    async with world.charges.reserved(WHO, "m", text="one", max_tokens=99) as reservation:
        pass
    before = world.level
    with pytest.raises(type(error)):
        async with world.charges.reserved(WHO, "m", text="one", max_tokens=99):
            raise error
    assert world.limiter.holds(WHO, reservation)
    assert world.level == before


async def test_of_two_texts_under_one_id_the_refused_one_gives_back_only_its_own() -> None:
    limiter = MemoryLimiter(LimitsSettings(tokens_per_day=1000), clock=ManualClock())
    charges = Charges(limiter)
    running: list[str] = []

    async def be_overtaken() -> None:
        async with charges.reserved(WHO, "m", text="slow", max_tokens=10):
            # To the store the id is then that of the other one.
            async with charges.reserved(WHO, "m", text="fast", max_tokens=300) as reservation:
                running.append(reservation)
            raise RefusedError("the id was used for another text")

    with pytest.raises(RefusedError):
        await be_overtaken()
    assert limiter.holds(WHO, running[0])
    assert limiter._accounts["usr_1"].levels["day"].level == 302


async def test_a_connection_that_closes_while_its_message_is_stored_gets_no_reply_for_free(world: World) -> None:
    async def send() -> None:
        async with world.charges.reserved(WHO, "m", max_tokens=99):
            await asyncio.sleep(60)

    sending = asyncio.create_task(send())
    await asyncio.sleep(0)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    assert world.level == 100


@pytest.mark.parametrize(
    ("entry", "level"), [(ended(Usage(prompt_tokens=30, completion_tokens=12)), 42), (ended(None), 100), (None, 100)]
)
async def test_a_reply_is_settled_by_its_end_and_one_that_is_lost_keeps_its_estimate(
    world: World, entry: LogEntry | None, level: float
) -> None:
    feed = Feed(GenerationId("gen_1"))
    async with world.charges.running():
        async with world.charges.reserved(WHO, "m", max_tokens=99) as reservation:
            pass
        world.charges.settle_at_end(WHO, reservation, feed)
        await asyncio.sleep(0)
        assert world.limiter.holds(WHO, reservation)
        if entry is None:
            feed.lose()
        else:
            feed.publish([entry])
        for _ in range(5):
            await asyncio.sleep(0)
        assert not world.limiter.holds(WHO, reservation)
    assert world.level == level


@pytest.mark.parametrize("data", [b"", b"{", b'{"type":"ended"}', b'{"type":"token"}'])
async def test_an_end_that_cannot_be_read_keeps_its_estimate_and_ends_nothing_else(world: World, data: bytes) -> None:
    feed = Feed(GenerationId("gen_1"))
    async with world.charges.running():
        async with world.charges.reserved(WHO, "m", max_tokens=99) as reservation:
            pass
        world.charges.settle_at_end(WHO, reservation, feed)
        feed.publish([LogEntry(seq=1, data=data, is_end=True)])
        await asyncio.sleep(0.01)
        assert not world.limiter.holds(WHO, reservation)
    assert world.level == 100


async def test_a_limiter_that_cannot_settle_ends_nothing_else(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise ValueError("unreadable")

    async with world.charges.running():
        async with world.charges.reserved(WHO, "m", max_tokens=99) as reservation:
            pass
        monkeypatch.setattr(world.limiter, "settle", fail)
        world.charges.settle_at_end(WHO, reservation, None)
        await asyncio.sleep(0.01)
    assert world.level == 100


async def test_a_reply_whose_events_are_gone_keeps_its_estimate(world: World) -> None:
    async with world.charges.running():
        async with world.charges.reserved(WHO, "m", max_tokens=99) as reservation:
            pass
        world.charges.settle_at_end(WHO, reservation, None)
        await asyncio.sleep(0.01)
    assert world.level == 100


async def test_what_has_not_ended_when_the_replica_does_is_left_to_end_by_itself(world: World) -> None:
    async with world.charges.running():
        async with world.charges.reserved(WHO, "m", max_tokens=99) as reservation:
            pass
        world.charges.settle_at_end(WHO, reservation, Feed(GenerationId("gen_1")))
    assert world.limiter.holds(WHO, reservation)
    world.charges.settle_at_end(WHO, reservation, None)


def test_an_estimate_is_the_text_and_the_most_that_its_reply_may_have() -> None:
    assert estimate_tokens("", max_tokens=10) == 11
    assert estimate_tokens("x" * 300, max_tokens=10) == 111
