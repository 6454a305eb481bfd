"""A pool with its discipline: who is asked, and what each attempt tells."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from pratique.core.breaker import BreakerState
from pratique.orchestrator.upstream.interface import (
    RetryRefusedError,
    TimeoutPhase,
    UpstreamInterruptedError,
    UpstreamRefusedError,
    UpstreamRequest,
    UpstreamStart,
    UpstreamTimeoutError,
    UpstreamToken,
    UpstreamUnavailableError,
)
from pratique.orchestrator.upstream.scripted import Hang

pytestmark = pytest.mark.unit

Ask = Callable[..., UpstreamRequest]
Pool = Any
GONE = UpstreamUnavailableError("gone")
START = UpstreamStart(model="m", prompt_tokens=3)


async def fail(pool: Pool, upstream: Any, request: UpstreamRequest, error: type[Exception]) -> Any:
    with pytest.raises(error) as caught:
        await pool.ask(upstream, request)
    return caught.value


async def test_failures_in_a_row_open_it_and_then_nobody_is_asked(pool: Pool, ask: Ask) -> None:
    upstream = pool.disciplined(*[[GONE]] * 9)
    for _ in range(3):
        await fail(pool, upstream, ask(), UpstreamUnavailableError)
    error = await fail(pool, upstream, ask(), UpstreamUnavailableError)
    assert len(pool.script.requests) == 3
    assert "'large'" in error.message
    assert (error.retry_after_seconds, error.is_serving) == (0.5, False)
    assert pool.value("breaker_state") == 2
    assert pool.value("breaker_opened_total") == 1
    assert pool.value("attempts_total", outcome="unavailable") == 3
    assert pool.value("attempts_total", outcome="breaker_open") == 1


async def test_one_probe_closes_it_with_its_first_text(pool: Pool, ask: Ask) -> None:
    opened = asyncio.Event()
    upstream = pool.disciplined(*[[GONE]] * 3, [START, opened, UpstreamToken("a"), Hang()])
    for _ in range(3):
        await fail(pool, upstream, ask(), UpstreamUnavailableError)
    await pool.clock.advance(0.5)
    assert pool.value("breaker_state") == 1
    async with upstream.open(ask()) as stream:
        await anext(stream)
        # The server took it, which is no answer yet: the others go on waiting.
        await fail(pool, upstream, ask(), UpstreamUnavailableError)
        opened.set()
        await anext(stream)
        assert upstream.breaker.state is BreakerState.CLOSED
    assert pool.value("attempts_total", outcome="left") == 1


async def test_probe_that_is_cancelled_leaves_its_place_to_the_next(pool: Pool, ask: Ask) -> None:
    upstream = pool.disciplined(*[[GONE]] * 3, [START, Hang()])
    for _ in range(3):
        await fail(pool, upstream, ask(), UpstreamUnavailableError)
    await pool.clock.advance(0.5)
    probe = asyncio.ensure_future(pool.ask(upstream, ask()))
    await asyncio.sleep(0)
    probe.cancel()
    await asyncio.gather(probe, return_exceptions=True)
    await pool.ask(upstream, ask())
    assert not upstream.breaker.is_open


@pytest.mark.parametrize(
    "error",
    [
        UpstreamRefusedError("no", refused_code="invalid_request"),
        UpstreamUnavailableError("full", is_serving=True),
        UpstreamTimeoutError("late", phase=TimeoutPhase.REPLY),
    ],
)
async def test_refused_full_and_overlong_never_open_it(pool: Pool, ask: Ask, error: Exception) -> None:
    upstream = pool.disciplined(*[[error]] * 20)
    for _ in range(20):
        await fail(pool, upstream, ask(), type(error))
    assert not upstream.breaker.is_open


async def test_cancelled_requests_never_open_it(pool: Pool, ask: Ask) -> None:
    upstream = pool.disciplined(*[[START, Hang()]] * 20)
    for _ in range(20):
        asking = asyncio.ensure_future(pool.ask(upstream, ask()))
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    assert not upstream.breaker.is_open
    assert pool.value("attempts_total", outcome="left") == 20


async def test_attempt_cut_short_by_the_deadline_is_not_their_failure(pool: Pool, ask: Ask) -> None:
    late = UpstreamTimeoutError("late", phase=TimeoutPhase.FIRST_TOKEN)
    upstream = pool.disciplined(*[[START, late]] * 9)
    for _ in range(5):
        await fail(pool, upstream, ask(first_text_seconds=1.0), UpstreamTimeoutError)
    assert not upstream.breaker.is_open
    for _ in range(3):
        await fail(pool, upstream, ask(first_text_seconds=9.8), UpstreamTimeoutError)
    error = await fail(pool, upstream, ask(), UpstreamUnavailableError)
    assert error.is_serving


async def test_servers_lost_in_the_middle_open_it_by_their_share(pool: Pool, ask: Ask) -> None:
    cut = [START, UpstreamToken("a"), UpstreamInterruptedError("cut")]
    upstream = pool.disciplined(*[cut] * 10, breaker_min_calls=10)
    for _ in range(5):
        await fail(pool, upstream, ask(), UpstreamInterruptedError)
        await pool.clock.advance(0.1)
    assert upstream.breaker.is_open


async def test_server_that_dies_with_many_replies_is_one_loss(pool: Pool, ask: Ask) -> None:
    dies = asyncio.Event()
    upstream = pool.disciplined(*[[START, dies, UpstreamInterruptedError("killed")]] * 50)
    asking = [asyncio.ensure_future(pool.ask(upstream, ask())) for _ in range(50)]
    await pool.clock.advance(1.0)
    dies.set()
    results = await asyncio.gather(*asking, return_exceptions=True)
    assert {type(result) for result in results} == {UpstreamInterruptedError}
    assert not upstream.breaker.is_open
    assert pool.value("attempts_total", outcome="interrupted") == 50


async def test_retries_are_counted_against_the_budget_and_refused_beyond(pool: Pool, ask: Ask) -> None:
    upstream = pool.disciplined(retry_floor_per_second=2.0, retry_share=0.5)
    for _ in range(2):
        await pool.ask(upstream, ask(is_retry=True))
    error = await fail(pool, upstream, ask(is_retry=True), RetryRefusedError)
    assert (error.retry_after_seconds, error.is_serving) == (0.5, True)
    assert len(pool.script.requests) == 2
    assert not upstream.breaker.is_open
    for _ in range(2):
        await pool.ask(upstream, ask())
    await pool.ask(upstream, ask(is_retry=True))
    assert pool.value("retries_total", verdict="allowed") == 3
    assert pool.value("retries_total", verdict="refused") == 1
    assert pool.value("retry_budget") == 0.0


async def test_retry_that_is_refused_does_not_use_up_the_probe(pool: Pool, ask: Ask) -> None:
    upstream = pool.disciplined(*[[GONE]] * 3, retry_burst=1, retry_floor_per_second=0.1)
    assert upstream.budget.try_spend()
    for _ in range(3):
        await fail(pool, upstream, ask(), UpstreamUnavailableError)
    upstream.budget.try_spend()
    await pool.clock.advance(0.5)
    await fail(pool, upstream, ask(is_retry=True), RetryRefusedError)
    await pool.ask(upstream, ask())
    assert not upstream.breaker.is_open


async def test_closing_closes_what_is_within(pool: Pool, ask: Ask) -> None:
    upstream = pool.disciplined([GONE])
    await upstream.aclose()
    assert await pool.ask(upstream, ask())


async def test_stream_that_was_not_entered_says_so(pool: Pool, ask: Ask) -> None:
    stream = pool.disciplined().open(ask())
    with pytest.raises(UpstreamInterruptedError, match="not opened"):
        await anext(stream)
    await stream.__aexit__(None, None, None)
    assert pool.value("attempts_total", outcome="left") == 1


async def test_client_that_leaves_while_it_connects_is_no_failure(
    pool: Pool, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream = pool.disciplined()

    class Connecting:
        async def __aenter__(self) -> None:
            await asyncio.Event().wait()

    monkeypatch.setattr(pool.script, "open", lambda _: Connecting())
    asking = asyncio.ensure_future(pool.ask(upstream, ask()))
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert pool.value("attempts_total", outcome="left") == 1
    assert not upstream.breaker.is_open
