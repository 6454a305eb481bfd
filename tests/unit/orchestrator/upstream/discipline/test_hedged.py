"""Two attempts, one answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from pratique.orchestrator.upstream.discipline.hedged import HedgedUpstream
from pratique.orchestrator.upstream.discipline.latency import LatePoint
from pratique.orchestrator.upstream.interface import (
    UpstreamEnd,
    UpstreamInterruptedError,
    UpstreamRequest,
    UpstreamStart,
    UpstreamToken,
    UpstreamUnavailableError,
)
from pratique.orchestrator.upstream.scripted import Hang, _ScriptedStream

pytestmark = pytest.mark.unit

Ask = Callable[..., UpstreamRequest]
Pool = Any
END = UpstreamEnd(finish_reason="stop", prompt_tokens=3, completion_tokens=1)


def saying(text: str) -> list[Any]:
    return [UpstreamStart(model=text, prompt_tokens=3), UpstreamToken(text), END]


class Hedge:
    def __init__(self, pool: Pool, *scripts: Any, is_known: bool = True, **settings: Any) -> None:
        self.pool = pool
        late = LatePoint(least_seconds=0.1)
        for _ in range(20 if is_known else 19):
            late.observe(1.0)
        self.upstream = HedgedUpstream(
            pool.disciplined(*scripts, **settings), late, clock=pool.clock, instruments=pool.instruments
        )

    async def ask(self, request: UpstreamRequest, *, wait_seconds: float = 0.0) -> list[Any]:
        """Ask, turn the clock, and return the events."""
        asking = asyncio.ensure_future(self.pool.ask(self.upstream, request))
        await self.pool.clock.advance(wait_seconds)
        async with asyncio.timeout(5):
            return list(await asking)

    @property
    def num_asked(self) -> int:
        return len(self.pool.script.requests)


HUNG = [UpstreamStart(model="hung", prompt_tokens=3), Hang()]


async def test_late_attempt_is_overtaken_and_aborted(pool: Pool, ask: Ask) -> None:
    hedge = Hedge(pool, HUNG, saying("second"))
    events = await hedge.ask(ask(first_text_seconds=9.8), wait_seconds=1.0)
    assert events == saying("second")
    first, second = pool.script.requests
    assert pool.script.aborted == [first.request_id]
    assert (second.is_retry, second.affinity, second.first_text_seconds) == (True, "conv_1-hedge", 8.8)
    assert pool.value("hedges_total", result="won") == 1
    assert hedge.pool.value("retries_total", verdict="allowed") == 1


async def test_attempt_that_speaks_in_time_is_the_only_one(pool: Pool, ask: Ask) -> None:
    hedge = Hedge(pool, saying("first"))
    assert await hedge.ask(ask()) == saying("first")
    assert hedge.num_asked == 1


async def test_first_attempt_may_still_win(pool: Pool, ask: Ask) -> None:
    gate = asyncio.Event()
    hedge = Hedge(pool, [gate, *saying("first")], HUNG)
    asking = asyncio.ensure_future(pool.ask(hedge.upstream, ask()))
    await pool.clock.advance(1.0)
    assert hedge.num_asked == 2
    gate.set()
    assert await asking == saying("first")
    assert len(pool.script.aborted) == 1
    assert pool.value("hedges_total", result="lost") == 1


async def test_failure_before_it_is_late_is_not_hedged(pool: Pool, ask: Ask) -> None:
    hedge = Hedge(pool, [UpstreamUnavailableError("gone")])
    with pytest.raises(UpstreamUnavailableError):
        await hedge.ask(ask())
    assert hedge.num_asked == 1


@pytest.mark.parametrize("fields", [{"prefix": "said"}, {"is_retry": True}])
async def test_never_after_text_nor_on_a_retry(pool: Pool, ask: Ask, fields: dict[str, Any]) -> None:
    hedge = Hedge(pool, saying("first"))
    await hedge.ask(ask(**fields))
    assert hedge.num_asked == 1


async def test_never_before_it_is_known_what_late_means(pool: Pool, ask: Ask) -> None:
    gate = asyncio.Event()
    hedge = Hedge(pool, [gate, *saying("first")], is_known=False)
    asking = asyncio.ensure_future(pool.ask(hedge.upstream, ask()))
    await pool.clock.advance(60.0)
    gate.set()
    assert await asking == saying("first")
    assert hedge.num_asked == 1


async def test_without_budget_the_first_goes_on_alone(pool: Pool, ask: Ask) -> None:
    gate = asyncio.Event()
    hedge = Hedge(pool, [gate, *saying("first")], retry_burst=1, retry_floor_per_second=0.1)
    hedge.upstream._upstream.budget.try_spend()
    asking = asyncio.ensure_future(pool.ask(hedge.upstream, ask()))
    await pool.clock.advance(1.0)
    gate.set()
    assert await asking == saying("first")
    assert pool.value("retries_total", verdict="refused") == 1


async def test_both_failing_is_the_first_ones_error(pool: Pool, ask: Ask) -> None:
    gate = asyncio.Event()
    hedge = Hedge(pool, [gate, UpstreamInterruptedError("first")], [UpstreamInterruptedError("second")])
    asking = asyncio.ensure_future(pool.ask(hedge.upstream, ask()))
    await pool.clock.advance(1.0)
    gate.set()
    with pytest.raises(UpstreamInterruptedError, match="first"):
        await asking
    assert pool.value("hedges_total", result="failed") == 1


async def test_cancelling_aborts_both(pool: Pool, ask: Ask) -> None:
    hedge = Hedge(pool, HUNG, HUNG)
    asking = asyncio.ensure_future(pool.ask(hedge.upstream, ask()))
    await pool.clock.advance(1.0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert len(pool.script.aborted) == 2
    await hedge.upstream.aclose()


async def test_cancelling_while_the_loser_is_aborted_aborts_the_winner_too(
    pool: Pool, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    hedge = Hedge(pool, HUNG, saying("second"))
    leave, leaving = _ScriptedStream.__aexit__, asyncio.Event()

    async def leave_slowly(stream: _ScriptedStream, *error: Any) -> None:
        if not stream._request.request_id.endswith("-hedge"):
            leaving.set()
            await asyncio.Event().wait()
        await leave(stream, *error)

    monkeypatch.setattr(_ScriptedStream, "__aexit__", leave_slowly)
    asking = asyncio.ensure_future(pool.ask(hedge.upstream, ask()))
    await pool.clock.advance(1.0)
    async with asyncio.timeout(5):
        await leaving.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert pool.script.aborted == [pool.script.requests[1].request_id]


async def test_cancelling_while_leaving_aborts_all_the_same(pool: Pool, ask: Ask) -> None:
    stream = Hedge(pool, [UpstreamToken("first"), Hang()]).upstream.open(ask())
    await stream.__aenter__()
    leaving = asyncio.ensure_future(stream.__aexit__(None, None, None))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    assert pool.script.aborted == [pool.script.requests[0].request_id]


async def test_stream_that_was_not_entered_says_so(pool: Pool, ask: Ask) -> None:
    stream = Hedge(pool).upstream.open(ask())
    with pytest.raises(UpstreamInterruptedError, match="not opened"):
        await anext(stream)
    await stream.__aexit__(None, None, None)


async def test_winner_hands_its_text_on(pool: Pool, ask: Ask) -> None:
    words = [UpstreamToken(text) for text in ("a", "b", "c")]
    hedge = Hedge(pool, [UpstreamStart(model="m", prompt_tokens=3), *words, END])
    taken: list[str] = []
    events: list[Any] = []

    def take(text: str) -> bool:
        taken.append(text)
        return True

    async with hedge.upstream.open(ask()) as stream:
        async for event in stream:
            events.append(event)
            if isinstance(event, UpstreamToken):
                stream.hand_on(take)
    assert (events[1:], taken) == ([words[0], END], ["b", "c"])
