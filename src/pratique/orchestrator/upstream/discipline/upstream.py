"""One pool with its discipline: a breaker before it, a retry budget beside it, and what each attempt tells of both.

It never tries again by itself: who makes the reply does, in one place, and marks what is a retry.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Self

from pratique.core.breaker import Breaker, FailureShare
from pratique.core.errors import PratiqueError
from pratique.core.events import get_logger
from pratique.orchestrator.upstream.discipline.retries import RetryBudget
from pratique.orchestrator.upstream.discipline.verdicts import Health, assess_health, outcome_of, was_taken
from pratique.orchestrator.upstream.interface import (
    RetryRefusedError,
    UpstreamEnd,
    UpstreamEvent,
    UpstreamInterruptedError,
    UpstreamStart,
    UpstreamUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from pratique.core.clock import Clock
    from pratique.orchestrator.upstream.discipline.instruments import DownstreamInstruments
    from pratique.orchestrator.upstream.interface import Upstream, UpstreamRequest, UpstreamStream
    from pratique.orchestrator.upstream.settings import DownstreamSettings

__all__ = ["DisciplinedUpstream"]

_logger = get_logger("upstream")
_LEAST_PAUSE_SECONDS = 0.05


class DisciplinedUpstream:
    """A pool that is asked only where that can help. The upstream within must have its own time-outs."""

    def __init__(
        self,
        upstream: Upstream,
        *,
        pool: str,
        settings: DownstreamSettings,
        first_token_seconds: float,
        clock: Clock,
        instruments: DownstreamInstruments,
    ) -> None:
        self.pool = pool
        self._upstream = upstream
        self._settings = settings
        self._first_token_seconds = first_token_seconds
        self._clock = clock
        self._instruments = instruments
        self._is_serving = False
        """Whether the last failure came from servers that take traffic."""
        self._lost_at = -math.inf
        """When a server was last seen to be lost."""
        self._first_text_seen: list[Callable[[float], None]] = []
        self.breaker = _breaker_of(settings, clock=clock, first_token_seconds=first_token_seconds)
        self.budget = RetryBudget(
            clock=clock,
            share=settings.retry_share,
            floor_per_second=settings.retry_floor_per_second,
            burst=settings.retry_burst,
        )
        instruments.breaker_state.labels(pool=pool).set_function(lambda: self.breaker.state.value)
        instruments.retry_budget.labels(pool=pool).set_function(lambda: self.budget.balance)

    def open(self, request: UpstreamRequest) -> UpstreamStream:
        return _DisciplinedStream(self, self._upstream, request)

    async def aclose(self) -> None:
        await self._upstream.aclose()

    def on_first_text(self, observe: Callable[[float], None]) -> None:
        """Have `observe` told of each attempt's seconds to its first text."""
        self._first_text_seen.append(observe)

    def admit(self, request: UpstreamRequest) -> float:
        """Return the time at which an attempt begins.

        Raises:
            RetryRefusedError: it is a retry, and there were too many.
            UpstreamUnavailableError: the breaker is open.
        """
        if not self.breaker.may_ask():
            self._count("breaker_open")
            raise UpstreamUnavailableError(
                f"The pool '{self.pool}' failed too often of late and is not asked for a moment.",
                hint="Try again later.",
                retry_after_seconds=max(_LEAST_PAUSE_SECONDS, self.breaker.retry_after_seconds),
                is_serving=self._is_serving,
            )
        if request.is_retry:
            self._spend()
        else:
            self.budget.requested()
        return self._clock.monotonic()

    def spoke(self, began: float) -> None:
        """The first text of an attempt, or its end, came."""
        seconds = self._clock.monotonic() - began
        self._instruments.first_text_seconds.labels(pool=self.pool).observe(seconds)
        for observe in self._first_text_seen:
            observe(seconds)
        self._tell(Health.GOOD)

    def ended(self) -> None:
        """An attempt came to its end."""
        self._count("answered")

    def failed(self, error: PratiqueError, request: UpstreamRequest, began: float) -> None:
        """An attempt failed."""
        self._count(outcome_of(error))
        if isinstance(error, UpstreamInterruptedError):
            # A server that dies takes all its requests with it: those that had begun by then are one loss, not many.
            if began <= self._lost_at:
                return
            self._lost_at = self._clock.monotonic()
        left = request.first_text_seconds
        is_cut_short = left is not None and left < self._first_token_seconds
        health = assess_health(error, is_cut_short=is_cut_short)
        if health is Health.BAD:
            self._is_serving = was_taken(
                error,
                took_seconds=self._clock.monotonic() - began,
                quick_refusal_seconds=self._settings.quick_refusal_seconds,
            )
        self._tell(health)

    def left(self, *, has_text: bool) -> None:
        """The caller left an attempt."""
        self._count("left")
        if not has_text:
            self.breaker.abandoned()

    def _spend(self) -> None:
        is_allowed = self.budget.try_spend()
        self._instruments.retries.labels(pool=self.pool, verdict="allowed" if is_allowed else "refused").inc()
        if is_allowed:
            return
        self._count("retry_refused")
        self.breaker.abandoned()
        raise RetryRefusedError(
            f"Too many requests to the pool '{self.pool}' were repeats already.",
            hint="Try again later.",
            retry_after_seconds=max(_LEAST_PAUSE_SECONDS, self.budget.wait_seconds),
            is_serving=True,
        )

    def _tell(self, health: Health) -> None:
        was_open = self.breaker.is_open
        if health is Health.GOOD:
            self.breaker.succeeded()
        elif health is Health.BAD:
            self.breaker.failed()
        else:
            self.breaker.abandoned()
        if self.breaker.is_open and not was_open:
            self._instruments.breaker_opened.labels(pool=self.pool).inc()
            _logger.warning("breaker_opened", pool=self.pool)
        elif was_open and not self.breaker.is_open:
            _logger.info("breaker_closed", pool=self.pool)

    def _count(self, outcome: str) -> None:
        self._instruments.attempts.labels(pool=self.pool, outcome=outcome).inc()


class _DisciplinedStream:
    def __init__(self, owner: DisciplinedUpstream, upstream: Upstream, request: UpstreamRequest) -> None:
        self._owner = owner
        self._upstream = upstream
        self._stream: UpstreamStream | None = None
        self._request = request
        self._began = 0.0
        self._has_text = False
        self._is_over = False

    async def __aenter__(self) -> Self:
        self._began = self._owner.admit(self._request)
        try:
            stream = self._upstream.open(self._request)
            await stream.__aenter__()
        except PratiqueError as error:
            self._fail(error)
            raise
        except BaseException:
            self._leave()
            raise
        self._stream = stream
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()
        if self._stream is not None:
            await self._stream.__aexit__(kind, error, trace)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> UpstreamEvent:
        if self._stream is None:
            raise UpstreamInterruptedError("The stream was not opened.")
        try:
            event = await self._stream.__anext__()
        except PratiqueError as error:
            self._fail(error)
            raise
        if not self._has_text and not isinstance(event, UpstreamStart):
            self._has_text = True
            self._owner.spoke(self._began)
        if isinstance(event, UpstreamEnd) and not self._is_over:
            self._is_over = True
            self._owner.ended()
        return event

    def hand_on(self, take: Callable[[str], bool]) -> None:
        if self._stream is not None:
            self._stream.hand_on(take)

    def _fail(self, error: PratiqueError) -> None:
        self._is_over = True
        self._owner.failed(error, self._request, self._began)

    def _leave(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._owner.left(has_text=self._has_text)


def _breaker_of(settings: DownstreamSettings, *, clock: Clock, first_token_seconds: float) -> Breaker:
    return Breaker(
        clock=clock,
        failures=settings.breaker_failures,
        pause_seconds=settings.breaker_pause_seconds,
        max_pause_seconds=settings.breaker_max_pause_seconds,
        share=FailureShare(
            share=settings.breaker_failure_share,
            min_calls=settings.breaker_min_calls,
            window_seconds=settings.breaker_window_seconds,
        ),
        # One probe for as long as an answer may take; it always reports back, so this is only the backstop.
        trial_seconds=max(first_token_seconds, settings.breaker_pause_seconds),
    )
