"""The bounds around any retriever."""

from __future__ import annotations

import asyncio

import pytest
import structlog

from pratique.core.clock import ManualClock
from pratique.core.metrics import Metrics
from pratique.orchestrator.retrieval.guarded import GuardedRetriever
from pratique.orchestrator.retrieval.interface import Passage, RetrievalUnavailableError

pytestmark = [pytest.mark.unit, pytest.mark.anyio]

PASSAGE = Passage(source_id="a", title="T", text="x", score=1.0)


class Scripted:
    """Answers at once, fails, or never answers."""

    def __init__(self, error: Exception | None = None, *, hangs: bool = False) -> None:
        self.queries: list[str] = []
        self.is_closed = False
        self.error = error
        self.hangs = hangs

    async def search(self, query: str, *, limit: int) -> tuple[Passage, ...]:
        self.queries.append(query)
        if self.hangs:
            await asyncio.Event().wait()
        if self.error:
            raise self.error
        return (PASSAGE,) if limit else ()

    async def check(self) -> None:
        if self.error:
            raise self.error

    async def aclose(self) -> None:
        self.is_closed = True


def guard(inner: Scripted, *, clock: ManualClock | None = None, **bounds: float) -> tuple[GuardedRetriever, Metrics]:
    metrics = Metrics()
    characters = int(bounds.get("query_characters", 2000))
    guarded = GuardedRetriever(
        inner,
        clock=clock or ManualClock(),
        metrics=metrics,
        deadline_seconds=bounds.get("deadline_seconds", 5.0),
        query_characters=characters,
    )
    return guarded, metrics


def count(metrics: Metrics, line: str) -> float:
    found = [row for row in metrics.render().decode().splitlines() if row.startswith(line)]
    return float(found[0].rpartition(" ")[2]) if found else 0.0


async def test_small_talk_does_not_reach_the_index() -> None:
    inner = Scripted()
    guarded, metrics = guard(inner)
    assert await guarded.search("こんにちは！", limit=4) == ()  # noqa: RUF001 - as people write it
    assert await guarded.search("Hello!", limit=4) == ()
    assert await guarded.search("lighthouse", limit=0) == ()
    assert inner.queries == []
    assert count(metrics, 'pratique_retrieval_searches_total{result="not_asked"}') == 3


async def test_a_huge_question_is_cut() -> None:
    inner = Scripted()
    guarded, _ = guard(inner, query_characters=10)
    await guarded.search("灯台" * 1_000_000, limit=4)
    assert inner.queries == ["灯台" * 5]


async def test_a_search_that_takes_too_long_is_unavailable() -> None:
    guarded, metrics = guard(Scripted(hangs=True), deadline_seconds=0.01)
    with pytest.raises(RetrievalUnavailableError, match=r"within 0\.01 seconds"):
        await guarded.search("lighthouse", limit=4)
    assert count(metrics, 'pratique_retrieval_failures_total{reason="timeout"}') == 1
    assert count(metrics, 'pratique_retrieval_searches_total{result="failed"}') == 1


async def test_a_failure_is_counted_and_told() -> None:
    guarded, metrics = guard(Scripted(RetrievalUnavailableError("gone")))
    with pytest.raises(RetrievalUnavailableError, match="gone"):
        await guarded.search("lighthouse", limit=4)
    with pytest.raises(RetrievalUnavailableError, match="gone"):
        await guarded.check()
    assert count(metrics, 'pratique_retrieval_failures_total{reason="unavailable"}') == 1


async def test_a_fault_inside_is_told_as_an_index_that_cannot_be_asked() -> None:
    guarded, metrics = guard(Scripted(ZeroDivisionError("division by zero")))
    with structlog.testing.capture_logs() as logs, pytest.raises(RetrievalUnavailableError, match="ZeroDivisionError"):
        await guarded.search("lighthouse", limit=4)
    assert [(entry["event"], entry["exc_info"]) for entry in logs] == [("retrieval_failed_inside", True)]
    assert count(metrics, 'pratique_retrieval_failures_total{reason="fault"}') == 1
    assert count(metrics, 'pratique_retrieval_searches_total{result="failed"}') == 1


async def test_more_than_so_many_searches_at_a_time_are_refused_at_once() -> None:
    guarded, metrics = guard(Scripted(hangs=True))
    waiting = [asyncio.ensure_future(guarded.search("lighthouse", limit=4)) for _ in range(64)]
    await asyncio.sleep(0)
    with pytest.raises(RetrievalUnavailableError, match="64 searches wait"):
        await guarded.search("lighthouse", limit=4)
    assert count(metrics, 'pratique_retrieval_failures_total{reason="overloaded"}') == 1
    for each in waiting:
        each.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_what_was_found_is_given_and_counted() -> None:
    inner = Scripted()
    guarded, metrics = guard(inner)
    assert await guarded.search("Hello, a lighthouse?", limit=4) == (PASSAGE,)
    await guarded.check()
    await guarded.aclose()
    assert inner.is_closed
    assert count(metrics, 'pratique_retrieval_searches_total{result="found"}') == 1
    assert count(metrics, "pratique_retrieval_passages_total") == 1
    assert count(metrics, "pratique_retrieval_seconds_count") == 1


def state(metrics: Metrics) -> float:
    return count(metrics, "pratique_retrieval_breaker_state")


async def fail(guarded: GuardedRetriever, reason: str) -> None:
    with pytest.raises(RetrievalUnavailableError, match=reason):
        await guarded.search("lighthouse", limit=4)


async def test_an_index_that_hangs_is_not_waited_for_by_every_reply() -> None:
    clock, inner = ManualClock(), Scripted(hangs=True)
    guarded, metrics = guard(inner, clock=clock, deadline_seconds=0.01)
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            await fail(guarded, "did not answer")
        for _ in range(5):
            await fail(guarded, r"not asked for 0\.5 seconds")
    assert [entry["event"] for entry in logs] == ["retrieval_lost"]
    assert (len(inner.queries), state(metrics)) == (3, 2)
    assert count(metrics, 'pratique_retrieval_failures_total{reason="breaker_open"}') == 5
    assert count(metrics, "pratique_retrieval_seconds_count") == 3
    await clock.advance(0.5)
    assert state(metrics) == 1
    await fail(guarded, "did not answer")  # the trial
    await fail(guarded, r"not asked for 1\.0 seconds")
    for _ in range(10):
        await clock.advance(8)
        await fail(guarded, "did not answer")
    await fail(guarded, r"not asked for 8\.0 seconds")


async def test_an_index_that_is_back_is_asked_by_everybody_again() -> None:
    clock, inner = ManualClock(), Scripted(RetrievalUnavailableError("gone"))
    guarded, metrics = guard(inner, clock=clock)
    for _ in range(3):
        await fail(guarded, "gone")
    inner.error = None
    await fail(guarded, "not asked")
    await clock.advance(0.5)
    with structlog.testing.capture_logs() as logs:
        for _ in range(4):
            assert await guarded.search("lighthouse", limit=4) == (PASSAGE,)
    assert [entry["event"] for entry in logs] == ["retrieval_back"]
    assert state(metrics) == 0


async def test_a_trial_whose_reply_ended_leaves_the_trial_to_the_next() -> None:
    clock, inner = ManualClock(), Scripted(RetrievalUnavailableError("gone"))
    guarded, _ = guard(inner, clock=clock)
    for _ in range(3):
        await fail(guarded, "gone")
    await clock.advance(0.5)
    inner.hangs = True
    trial = asyncio.ensure_future(guarded.search("lighthouse", limit=4))
    await asyncio.sleep(0)
    await fail(guarded, "not asked")
    trial.cancel()
    with pytest.raises(asyncio.CancelledError):
        await trial
    inner.hangs, inner.error = False, None
    assert await guarded.search("lighthouse", limit=4) == (PASSAGE,)


async def test_small_talk_and_refused_searches_say_nothing_about_the_index() -> None:
    inner = Scripted(RetrievalUnavailableError("gone"))
    guarded, metrics = guard(inner)
    for _ in range(2):
        await fail(guarded, "gone")
    for _ in range(5):
        await guarded.search("Hello!", limit=4)
    assert state(metrics) == 0
    await fail(guarded, "gone")
    assert state(metrics) == 2
