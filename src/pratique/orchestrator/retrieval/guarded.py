"""What holds for every retriever: small talk is not looked for, questions are cut, searches are counted and end.

A search that came to nothing in time is not waited for; the threads of the embedded index and the connections to
OpenSearch bound how many of them can still run. So many callers wait at most; more are refused at once. A fault inside
is told as an index that cannot be asked: it costs a reply its passages, not more. An index that failed three times in a
row is left alone for a while, so that no reply waits a whole deadline for nothing.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from pratique.core.breaker import Breaker
from pratique.core.catalogue import retrieval as catalogue
from pratique.core.events import get_logger
from pratique.orchestrator.retrieval.interface import RetrievalUnavailableError
from pratique.orchestrator.retrieval.smalltalk import without_small_talk

if TYPE_CHECKING:
    from pratique.core.clock import Clock
    from pratique.core.metrics import Metrics
    from pratique.orchestrator.retrieval.interface import Passage, Retriever

__all__ = ["GuardedRetriever"]

_logger = get_logger("retrieval")
_MAX_WAITING: Final = 64
_FAILURES: Final = 3
_PAUSE_SECONDS: Final = 0.5
_MAX_PAUSE_SECONDS: Final = 8.0


class GuardedRetriever:
    """Any retriever, with its bounds."""

    def __init__(
        self,
        inner: Retriever,
        *,
        clock: Clock,
        metrics: Metrics,
        deadline_seconds: float = 1.0,
        query_characters: int = 2000,
    ) -> None:
        self._inner = inner
        self._clock = clock
        self._deadline_seconds = deadline_seconds
        self._query_characters = query_characters
        self._waiting = 0
        self._breaker = Breaker(
            clock=clock,
            failures=_FAILURES,
            pause_seconds=_PAUSE_SECONDS,
            max_pause_seconds=_MAX_PAUSE_SECONDS,
            # One trial at a time: by then it has answered or failed.
            trial_seconds=deadline_seconds,
        )
        metrics.gauge(catalogue.RETRIEVAL_BREAKER_STATE).set_function(lambda: self._breaker.state.value)
        self._searches = metrics.counter(catalogue.RETRIEVAL_SEARCHES)
        self._seconds = metrics.histogram(catalogue.RETRIEVAL_SECONDS)
        self._failures = metrics.counter(catalogue.RETRIEVAL_FAILURES)
        self._passages = metrics.counter(catalogue.RETRIEVAL_PASSAGES)

    async def search(self, query: str, *, limit: int) -> tuple[Passage, ...]:
        # Only what is looked at is normalised: a huge question costs no more than a long one.
        asked = without_small_talk(query[: self._query_characters])
        if not asked or limit < 1:
            self._searches.labels(result="not_asked").inc()
            return ()
        try:
            self._verify_free()
            passages = await self._ask(asked, limit)
        except RetrievalUnavailableError:
            self._searches.labels(result="failed").inc()
            raise
        self._searches.labels(result="found" if passages else "nothing").inc()
        self._passages.inc(len(passages))
        return passages

    async def check(self) -> None:
        await self._inner.check()

    async def aclose(self) -> None:
        await self._inner.aclose()

    def _verify_free(self) -> None:
        if self._waiting >= _MAX_WAITING:
            self._failures.labels(reason="overloaded").inc()
            raise RetrievalUnavailableError(f"{_MAX_WAITING} searches wait for the index already.")
        if not self._breaker.may_ask():
            self._failures.labels(reason="breaker_open").inc()
            raise RetrievalUnavailableError(
                f"The index failed lately, and is not asked for {self._breaker.retry_after_seconds:.1f} seconds."
            )

    async def _ask(self, query: str, limit: int) -> tuple[Passage, ...]:
        began = self._clock.monotonic()
        self._waiting += 1
        try:
            async with asyncio.timeout(self._deadline_seconds):
                passages = await self._inner.search(query, limit=limit)
        except asyncio.CancelledError:
            # Its reply ended meanwhile: that says nothing about the index.
            self._breaker.abandoned()
            raise
        except TimeoutError as error:
            self._failed("timeout")
            message = f"The index did not answer within {self._deadline_seconds:g} seconds."
            raise RetrievalUnavailableError(message) from error
        except RetrievalUnavailableError:
            self._failed("unavailable")
            raise
        except Exception as error:
            # Whatever it is, it must not end the reply; the traceback is for us.
            _logger.exception("retrieval_failed_inside")
            self._failed("fault")
            raise RetrievalUnavailableError(f"The search failed inside: {type(error).__name__}: {error}.") from error
        finally:
            self._waiting -= 1
            self._seconds.observe(self._clock.monotonic() - began)
        self._succeeded()
        return passages

    def _failed(self, reason: str) -> None:
        was_open = self._breaker.is_open
        self._failures.labels(reason=reason).inc()
        self._breaker.failed()
        if self._breaker.is_open and not was_open:
            _logger.warning("retrieval_lost", reason=reason)

    def _succeeded(self) -> None:
        was_open = self._breaker.is_open
        self._breaker.succeeded()
        if was_open:
            _logger.info("retrieval_back")
