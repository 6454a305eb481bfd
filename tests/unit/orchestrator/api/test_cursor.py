"""A cursor beyond what a replica knows: the log may be catching up, or another producer says something else there."""

from __future__ import annotations

import asyncio

import pytest

from pratique.core.ids import GenerationId
from pratique.orchestrator.api.service import _reaches
from pratique.orchestrator.protocol.encode import encode_event
from pratique.orchestrator.protocol.events import Continued, GenerationEvent, Token
from pratique.orchestrator.sessions.feed import Feed
from pratique.orchestrator.sessions.log.interface import LogEntry

pytestmark = pytest.mark.unit


def entry(event: GenerationEvent) -> LogEntry:
    return LogEntry(event.seq, encode_event(event))


def token(seq: int) -> LogEntry:
    return entry(Token(conversation_id="c", generation_id="g", seq=seq, text=f"w{seq} "))


def continued(seq: int, reason: str) -> LogEntry:
    return entry(Continued(conversation_id="c", generation_id="g", seq=seq, reason=reason))


@pytest.mark.parametrize(
    ("later", "is_reached"),
    [
        ((token(2), token(3)), True),
        ((continued(2, "model_server_lost"), token(3)), True),
        ((continued(2, "orchestrator_lost"), token(3)), False),
        ((token(2), continued(3, "orchestrator_lost")), False),
        ((token(2), token(3), continued(4, "orchestrator_lost")), True),
    ],
)
async def test_cursor_ahead_of_the_log_is_good_only_on_the_same_producers_events(
    later: tuple[LogEntry, ...], is_reached: bool
) -> None:
    feed = Feed(GenerationId("g"))
    feed.publish((token(1),))
    asking = asyncio.create_task(_reaches(feed, 3))
    await asyncio.sleep(0)
    feed.publish(later)
    assert await asking is is_reached


@pytest.mark.parametrize(("seq", "is_reached"), [(1, True), (2, False), (3, False)])
async def test_cursor_beyond_a_takeover_may_mean_what_the_lost_producer_said(seq: int, is_reached: bool) -> None:
    feed = Feed(GenerationId("g"))
    feed.publish((token(1), continued(2, "orchestrator_lost"), token(3)))
    assert await _reaches(feed, seq) is is_reached
