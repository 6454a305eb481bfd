"""The forwarder over both lanes: takes the router's decisions, keeps the counts they rest on, and carries them out.

A request that the burst lane fails before the head of an answer, or a stream that it does not begin in time, goes to
the baseline lane where there is room, else it is shed. Once a byte of an answer was seen nothing is run a second time.
Nothing waits without bound: the line before the baseline lane is short, and the wait in it too.
"""

from __future__ import annotations

import asyncio
import dataclasses
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Final

from pratique.core.breaker import Breaker
from pratique.core.catalogue.lanes import BURST_FAILURES, HEAD_SECONDS, LANE_DECISIONS, LANE_IN_FLIGHT, LANE_WAITING
from pratique.core.events import get_logger
from pratique.orchestrator.forward.interface import ForwardUnavailableError, ShedError
from pratique.orchestrator.lanes.decision import Decision, Lane, LaneRouter, Occupancy, Reason
from pratique.orchestrator.lanes.eligibility import is_stateless
from pratique.orchestrator.lanes.interface import BASELINE, BURST, BurstFullError
from pratique.orchestrator.lanes.load import LatencyWindow
from pratique.orchestrator.lanes.places import Places

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType
    from typing import TypeAlias

    from prometheus_client import Counter

    from pratique.core.clock import Clock
    from pratique.core.metrics import Metrics
    from pratique.orchestrator.forward.interface import ForwardAnswer, Forwarder, ForwardRequest
    from pratique.orchestrator.lanes.interface import BurstLane
    from pratique.orchestrator.lanes.settings import LaneSettings

    _Taken: TypeAlias = "tuple[ForwardAnswer, AsyncExitStack | _Place]"

__all__ = ["SpillingForwarder"]

_logger = get_logger("lanes")
_FAILURES_UNTIL_DOWN: Final = 3
_NOTHING_SECONDS: Final = 0.001
_WHOLE_SHARE: Final = 0.9
"""Of a request's time: one that is given up later had what the lane may take; earlier it says nothing of the lane."""
_DOWN_SECONDS: Final = 1.0
_DOWN_MAX_SECONDS: Final = 30.0


class SpillingForwarder:
    """A `Forwarder` over a baseline one and, where there is one, a burst lane."""

    def __init__(
        self,
        baseline: Forwarder,
        burst: BurstLane | None,
        settings: LaneSettings,
        *,
        clock: Clock,
        metrics: Metrics,
        is_served: Callable[[bytes], bool] = lambda _: True,
    ) -> None:
        """Make it; `is_served` says whether the model servers behind the burst lane are those that a body is for."""
        self.router = LaneRouter(settings)
        self.window = LatencyWindow(
            window_seconds=settings.latency_window_seconds, limit_seconds=settings.latency_slo_seconds
        )
        self._baseline = baseline
        self._burst = burst
        self._settings = settings
        self._is_served = is_served
        self._clock = clock
        self._places = Places(max_in_flight=settings.max_in_flight, max_wait_seconds=settings.max_wait_seconds)
        self._burst_in_flight = 0
        self._breaker = Breaker(
            clock=clock,
            failures=_FAILURES_UNTIL_DOWN,
            pause_seconds=_DOWN_SECONDS,
            max_pause_seconds=_DOWN_MAX_SECONDS,
        )
        self._decisions = metrics.counter(LANE_DECISIONS)
        self._decided: dict[Decision, Counter] = {}
        self._failures = metrics.counter(BURST_FAILURES)
        heads = metrics.histogram(HEAD_SECONDS)
        self._baseline_head, self._burst_head = heads.labels(BASELINE), heads.labels(BURST)
        in_flight = metrics.gauge(LANE_IN_FLIGHT)
        in_flight.labels(BASELINE).set_function(lambda: self._places.in_flight)
        in_flight.labels(BURST).set_function(lambda: self._burst_in_flight)
        metrics.gauge(LANE_WAITING).set_function(lambda: self._places.waiting)

    def count(self) -> tuple[int, int]:
        """Return how many requests the baseline lane holds, waiting ones included, and how many the burst lane."""
        return self._places.in_flight + self._places.waiting, self._burst_in_flight

    def open(self, request: ForwardRequest) -> AbstractAsyncContextManager[ForwardAnswer]:
        """See `Forwarder`."""
        return _Passage(self._take, request)

    async def _take(self, request: ForwardRequest) -> _Taken:
        """Open it in the lane that has room for it; whoever gets the answer leaves what it came out of."""
        began = self._clock.monotonic()
        decision = self.router.decide(
            self._occupancy(), is_eligible=lambda: self._is_eligible(request), may_try=self._breaker.may_ask
        )
        self._count_decision(decision)
        if decision.lane is Lane.BURST and self._burst is not None:
            async with AsyncExitStack() as stack:
                answer, failure = await self._spill(self._burst, stack, request)
                if answer is not None:
                    self._burst_head.observe(self._clock.monotonic() - began)
                    await stack.enter_async_context(self._watched())
                    return answer, stack.pop_all()
            decision = self.router.without_burst(self._occupancy(), failure)
            self._count_decision(decision)
        if decision.lane is Lane.SHED:
            raise self._shed("No lane has room for this request.")
        return await self._take_baseline(request, began)

    async def _spill(
        self, burst: BurstLane, stack: AsyncExitStack, request: ForwardRequest
    ) -> tuple[ForwardAnswer | None, Reason]:
        """Open it in the burst lane, for as long as the stack; None, and why, where it failed before the head."""
        self._burst_in_flight += 1
        stack.callback(self._left_burst)
        began = self._clock.monotonic()
        try:
            async with asyncio.timeout(self._settings.burst_head_seconds if request.is_stream else None):
                answer = await stack.enter_async_context(burst.open(request))
        except BurstFullError:
            self._failures.labels("full").inc()
            self._breaker.abandoned()
            return None, Reason.BURST_FULL
        except TimeoutError:
            self._failed_before_head(f"No head within {self._settings.burst_head_seconds:g} s.")
            return None, Reason.BURST_FAILED
        except ForwardUnavailableError as error:
            self._failed_before_head(error.message)
            return None, Reason.BURST_FAILED
        except BaseException:
            # Cancelled, as a rule: its client left, or whoever holds it to its time gave it up.
            self._given_up(request, self._clock.monotonic() - began)
            raise
        self._breaker.succeeded()
        return answer, Reason.NORMAL

    def _failed_before_head(self, message: str) -> None:
        self._failures.labels("before_head").inc()
        self._breaker.failed()
        _logger.warning("burst_failed", error=message, is_down=self._breaker.is_open)

    def _given_up(self, request: ForwardRequest, seconds: float) -> None:
        if seconds >= max(self._settings.burst_head_seconds, _WHOLE_SHARE * request.timeout_seconds):
            self._failed_before_head("Its time was up before the head.")
        else:
            self._breaker.abandoned()

    def _left_burst(self) -> None:
        self._burst_in_flight -= 1

    @asynccontextmanager
    async def _watched(self) -> AsyncIterator[None]:
        try:
            yield
        except ForwardUnavailableError as error:
            # Bytes were seen: it is told to the client, and run nowhere else.
            self._failures.labels("after_head").inc()
            _logger.warning("burst_answer_broke_off", error=error.message)
            raise

    async def _take_baseline(self, request: ForwardRequest, began: float) -> _Taken:
        number = self.window.begin(began)
        try:
            await self._enter()
            try:
                context = self._baseline.open(self._rest_of(request, began))
                answer = await context.__aenter__()
            except BaseException:
                self._places.leave()
                raise
        except BaseException:
            self.window.end(number, self._clock.monotonic(), has_head=False)
            raise
        now = self._clock.monotonic()
        self.window.end(number, now, has_head=True)
        self._baseline_head.observe(now - began)
        return answer, _Place(self._places, context)

    def _rest_of(self, request: ForwardRequest, began: float) -> ForwardRequest:
        """Return the request with what is left of its time, after the wait and the attempt in burst."""
        spent = self._clock.monotonic() - began
        if spent < _NOTHING_SECONDS:
            return request
        if spent >= request.timeout_seconds:
            raise ForwardUnavailableError("The request's time was up before the baseline lane could take it.")
        return dataclasses.replace(request, timeout_seconds=request.timeout_seconds - spent)

    async def _enter(self) -> None:
        try:
            await self._places.enter()
        except TimeoutError as error:
            self._count_decision(Decision(Lane.SHED, Reason.WAITED))
            raise self._shed(f"No place became free within {self._settings.max_wait_seconds:g} s.") from error

    def _occupancy(self) -> Occupancy:
        return Occupancy(
            in_flight=self._places.in_flight,
            waiting=self._places.waiting,
            max_in_flight=self._settings.max_in_flight,
            max_waiting=self._settings.max_waiting,
            burst_free=None if self._burst is None else self._burst.num_free,
        )

    def _is_eligible(self, request: ForwardRequest) -> bool:
        return (
            self._burst is not None
            and is_stateless(request, max_body_bytes=self._burst.max_body_bytes)
            and self._is_served(request.body)
        )

    def _count_decision(self, decision: Decision) -> None:
        # Kept, as finding a label's counter takes longer than all the rest of a decision.
        counter = self._decided.get(decision)
        if counter is None:
            counter = self._decisions.labels(decision.lane.value, decision.reason.value)
            self._decided[decision] = counter
        counter.inc()

    def _shed(self, message: str) -> ShedError:
        return ShedError(message, retry_after_seconds=self._settings.retry_after_seconds)


# Contexts as classes: of generators, one in the other, each request would make three.


class _Passage:
    """A request on its way: leaving it leaves the lane that took it."""

    def __init__(self, take: Callable[[ForwardRequest], Awaitable[_Taken]], request: ForwardRequest) -> None:
        self._take = take
        self._request = request

    async def __aenter__(self) -> ForwardAnswer:
        answer, self._held = await self._take(self._request)
        return answer

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._held.__aexit__(kind, error, trace)


class _Place:
    """A place in the baseline lane, and what runs there."""

    def __init__(self, places: Places, context: AbstractAsyncContextManager[ForwardAnswer]) -> None:
        self._places = places
        self._context = context

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._context.__aexit__(kind, error, trace)
        finally:
            self._places.leave()
