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
        self._error = error
        self._hangs = hangs

    async def search(self, query: str, *, limit: int) -> tuple[Passage, ...]:
        self.queries.append(query)
        if self._hangs:
            await asyncio.Event().wait()
        if self._error:
            raise self._error
        return (PASSAGE,) if limit else ()

    async def check(self) -> None:
        if self._error:
            raise self._error

    async def aclose(self) -> None:
        self.is_closed = True


def guard(inner: Scripted, **bounds: float) -> tuple[GuardedRetriever, Metrics]:
    metrics = Metrics()
    characters = int(bounds.get("query_characters", 2000))
    guarded = GuardedRetriever(
        inner,
        clock=ManualClock(),
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
