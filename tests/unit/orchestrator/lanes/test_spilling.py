"""The forwarder over both lanes: spilling, falling back, shedding, and that nothing runs twice."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from pratique.core.catalogue.lanes import BURST_FAILURES, LANE_DECISIONS, LANE_IN_FLIGHT, LANE_WAITING
from pratique.core.clock import ManualClock
from pratique.core.metrics import Metrics
from pratique.orchestrator.forward.interface import ForwardRequest, ForwardUnavailableError, ShedError
from pratique.orchestrator.lanes.decision import Decision, Lane, Reason
from pratique.orchestrator.lanes.interface import BurstFullError
from pratique.orchestrator.lanes.scripted import ScriptedAnswer, ScriptedBurstLane
from pratique.orchestrator.lanes.settings import LaneSettings
from pratique.orchestrator.lanes.spilling import SpillingForwarder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from pratique.orchestrator.forward.interface import ForwardAnswer

pytestmark = pytest.mark.unit


TO_BURST = Decision(Lane.BURST, Reason.CPU)


class Baseline:
    """Answers at once; remembers what it was asked."""

    def __init__(self) -> None:
        self.requests: list[ForwardRequest] = []
        self.fails = False

    @asynccontextmanager
    async def open(self, request: ForwardRequest) -> AsyncIterator[ForwardAnswer]:
        self.requests.append(request)
        if self.fails:
            raise ForwardUnavailableError("down")
        yield ScriptedAnswer(lane="baseline")


class Lanes:
    """Both lanes, one place in the baseline, one in its line."""

    def __init__(self, *, is_served: Callable[[bytes], bool] = lambda _: True, **settings: Any) -> None:
        self.clock = ManualClock()
        self.metrics = Metrics()
        self.baseline = Baseline()
        self.burst = ScriptedBurstLane(capacity=1)
        chosen: dict[str, Any] = {"max_in_flight": 1, "max_waiting": 1, "max_wait_seconds": 5.0, **settings}
        self.forwarder = SpillingForwarder(
            self.baseline,
            self.burst,
            LaneSettings(**chosen),
            is_served=is_served,
            clock=self.clock,
            metrics=self.metrics,
        )

    async def ask(self, **changes: Any) -> str:
        async with self.forwarder.open(request(**changes)) as answer:
            return answer.lane

    def decided(self, lane: str, reason: str) -> float:
        return float(self.metrics.counter(LANE_DECISIONS).labels(lane, reason)._value.get())

    def failed(self, kind: str) -> float:
        return float(self.metrics.counter(BURST_FAILURES).labels(kind)._value.get())

    def gauges(self) -> tuple[float | None, ...]:
        get = self.metrics.registry.get_sample_value
        return (
            get(LANE_IN_FLIGHT.name, {"lane": "baseline"}),
            get(LANE_IN_FLIGHT.name, {"lane": "burst"}),
            get(LANE_WAITING.name),
        )


def request(**changes: Any) -> ForwardRequest:
    plain: dict[str, Any] = {
        "method": "POST",
        "path": "/v1/chat/completions",
        "headers": [],
        "body": b'{"model":"m"}',
        "affinity": "key_1",
        "timeout_seconds": 10.0,
    }
    return ForwardRequest(**{**plain, **changes})


def full(_: ForwardRequest) -> NoReturn:
    raise BurstFullError("throttled")


async def test_calm_work_stays_and_full_baseline_spills() -> None:
    lanes = Lanes()
    async with lanes.forwarder.open(request()) as first:
        assert first.lane == "baseline"
        async with lanes.forwarder.open(request()) as second:
            assert second.lane == "burst"
            assert lanes.gauges() == (1.0, 1.0, 0.0)
            assert lanes.forwarder.count() == (1, 1)
    assert lanes.forwarder.count() == (0, 0)
    assert lanes.decided("burst", "baseline_full") == 1


async def test_work_of_a_conversation_waits_instead_of_spilling() -> None:
    lanes = Lanes()
    async with lanes.forwarder.open(request()):
        waiting = asyncio.ensure_future(lanes.ask(body=b'{"conversation":"c"}'))
        await asyncio.sleep(0)
        assert lanes.gauges() == (1.0, 0.0, 1.0)
    assert await waiting == "baseline"
    assert not lanes.burst.requests


async def test_work_of_a_pool_that_burst_does_not_serve_waits_instead_of_spilling() -> None:
    lanes = Lanes(is_served=lambda body: b"large" not in body)
    async with lanes.forwarder.open(request()):
        waiting = asyncio.ensure_future(lanes.ask(body=b'{"model":"large"}'))
        await asyncio.sleep(0)
        assert lanes.gauges() == (1.0, 0.0, 1.0)
        assert await lanes.ask() == "burst"
    assert await waiting == "baseline"
    assert [one.body for one in lanes.burst.requests] == [b'{"model":"m"}']


async def test_beyond_both_lanes_and_the_line_work_is_shed_with_a_time_to_come_again() -> None:
    lanes = Lanes(retry_after_seconds=7.0)
    async with lanes.forwarder.open(request()), lanes.forwarder.open(request()):
        waiting = asyncio.ensure_future(lanes.ask())
        await asyncio.sleep(0)
        with pytest.raises(ShedError) as shed:
            await lanes.ask()
        assert shed.value.retry_after_seconds == 7.0
        assert lanes.decided("shed", "burst_full") == 1
    assert await waiting == "baseline"


async def test_wait_in_the_line_ends_in_shedding() -> None:
    lanes = Lanes(max_wait_seconds=0.01)
    async with lanes.forwarder.open(request()), lanes.forwarder.open(request()):
        with pytest.raises(ShedError, match="No place became free"):
            await lanes.ask()
    assert lanes.decided("shed", "waited") == 1
    assert lanes.forwarder.count() == (0, 0)


async def test_burst_that_fails_before_the_head_falls_back_with_what_is_left_of_the_time() -> None:
    lanes = Lanes(max_in_flight=2)
    lanes.forwarder.router.decide = lambda *_, **__: TO_BURST  # type: ignore[method-assign]  # as when spilling
    lanes.burst.script = ScriptedAnswer(fails_before_head=True)
    assert await lanes.ask() == "baseline"
    assert lanes.decided("baseline", "burst_failed") == 1
    assert lanes.failed("before_head") == 1
    assert lanes.burst.num_open == 0
    assert lanes.baseline.requests[0].timeout_seconds == 10.0


async def test_burst_that_fails_with_no_room_left_in_the_baseline_is_shed() -> None:
    lanes = Lanes(max_waiting=0)
    lanes.burst.script = ScriptedAnswer(fails_before_head=True)
    async with lanes.forwarder.open(request()):
        with pytest.raises(ShedError):
            await lanes.ask()
    assert lanes.decided("shed", "burst_failed") == 1


async def test_burst_that_turns_out_full_falls_back_and_stays_in_good_health() -> None:
    lanes = Lanes()
    lanes.forwarder.router.decide = lambda *_, **__: TO_BURST  # type: ignore[method-assign]  # as when spilling
    lanes.burst.capacity = 0
    for _ in range(5):
        assert await lanes.ask() == "baseline"
    assert lanes.failed("full") == 5
    assert lanes.forwarder._breaker.is_open is False


async def test_answer_that_breaks_off_after_its_head_is_not_run_again() -> None:
    lanes = Lanes()
    lanes.burst.script = ScriptedAnswer(breaks_after=1)
    seen = []
    async with lanes.forwarder.open(request()):
        with pytest.raises(ForwardUnavailableError, match="breaks"):  # noqa: PT012 - the loop is the statement
            async with lanes.forwarder.open(request()) as answer:
                async for chunk in answer.chunks():
                    seen.append(chunk)  # noqa: PERF401 - what came before the break counts
    assert len(seen) == 1
    assert len(lanes.baseline.requests) == 1
    assert lanes.failed("after_head") == 1


async def test_burst_that_keeps_failing_is_left_alone_for_a_while_and_then_tried_once() -> None:
    lanes = Lanes()
    lanes.burst.script = ScriptedAnswer(fails_before_head=True)
    lanes.forwarder._places.in_flight = 1
    for _ in range(3):
        asking = asyncio.ensure_future(lanes.ask())
        for _ in range(20):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    assert len(lanes.burst.requests) == 3
    asking = asyncio.ensure_future(lanes.ask())
    await asyncio.sleep(0)
    assert lanes.decided("baseline", "burst_down") == 1
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await lanes.clock.advance(1.1)
    lanes.burst.script = ScriptedAnswer()
    assert await lanes.ask() == "burst"
    assert await lanes.ask() == "burst"


async def test_stream_whose_head_does_not_come_from_burst_goes_to_the_baseline_and_counts_as_a_failure() -> None:
    lanes = Lanes(burst_head_seconds=0.01)
    lanes.forwarder.router.decide = lambda *_, **__: TO_BURST  # type: ignore[method-assign]  # as when spilling
    lanes.burst.script = ScriptedAnswer(head_seconds=60.0)
    for number in range(1, 4):
        assert not lanes.forwarder._breaker.is_open
        async with asyncio.timeout(5):
            assert await lanes.ask(is_stream=True) == "baseline"
        assert lanes.failed("before_head") == number
    assert lanes.forwarder._breaker.is_open
    assert (lanes.burst.num_open, lanes.burst.num_aborted) == (0, 3)
    assert lanes.decided("baseline", "burst_failed") == 3


async def test_answer_in_one_piece_is_waited_for_as_long_as_its_request_says() -> None:
    lanes = Lanes(burst_head_seconds=0.01)
    lanes.forwarder.router.decide = lambda *_, **__: TO_BURST  # type: ignore[method-assign]  # as when spilling
    lanes.burst.script = ScriptedAnswer(head_seconds=0.1)
    assert await lanes.ask() == "burst"


@pytest.mark.parametrize(("seconds", "failures"), [(9.5, 1), (2.0, 0)])
async def test_giving_up_counts_as_a_failure_only_where_the_time_was_up(seconds: float, failures: int) -> None:
    lanes = Lanes()
    lanes.forwarder.router.decide = lambda *_, **__: TO_BURST  # type: ignore[method-assign]  # as when spilling
    lanes.burst.script = ScriptedAnswer(head_seconds=60.0)
    asking = asyncio.ensure_future(lanes.ask(timeout_seconds=10.0))
    await lanes.clock.advance(seconds)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert lanes.failed("before_head") == failures
    assert lanes.forwarder._breaker._in_a_row == failures
    assert lanes.forwarder.count() == (0, 0)


@pytest.mark.parametrize("end", ["left", "full"])
async def test_trial_that_says_nothing_of_the_lane_leaves_the_trial_to_the_next(
    end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lanes = Lanes()
    lanes.forwarder._places.in_flight = 1
    for _ in range(3):
        lanes.forwarder._breaker.failed()
    await lanes.clock.advance(1.1)
    if end == "full":
        with monkeypatch.context() as patched:
            patched.setattr(lanes.burst, "open", full)
            asking = asyncio.ensure_future(lanes.ask())
            await asyncio.sleep(0)
    else:
        lanes.burst.script = ScriptedAnswer(head_seconds=60.0)
        asking = asyncio.ensure_future(lanes.ask())
        await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    lanes.burst.script = ScriptedAnswer()
    assert await lanes.ask() == "burst"


async def test_baseline_that_is_down_is_said_and_leaves_no_trace() -> None:
    lanes = Lanes()
    lanes.baseline.fails = True
    with pytest.raises(ForwardUnavailableError):
        await lanes.ask()
    assert lanes.forwarder.count() == (0, 0)
    assert not lanes.forwarder.window._open


async def test_request_that_waited_has_the_rest_of_its_time() -> None:
    lanes = Lanes()
    async with lanes.forwarder.open(request()):
        late = asyncio.ensure_future(lanes.ask(body=b"{"))
        await asyncio.sleep(0)
        await lanes.clock.advance(1.5)
    assert await late == "baseline"
    assert lanes.baseline.requests[-1].timeout_seconds == pytest.approx(8.5)


async def test_request_whose_time_is_up_after_the_wait_is_not_started() -> None:
    lanes = Lanes()
    async with lanes.forwarder.open(request()):
        late = asyncio.ensure_future(lanes.ask(body=b"{", timeout_seconds=1.0))
        await asyncio.sleep(0)
        await lanes.clock.advance(1.5)
    with pytest.raises(ForwardUnavailableError, match="time was up"):
        await late
    assert len(lanes.baseline.requests) == 1
    assert lanes.forwarder.count() == (0, 0)


async def test_without_a_burst_lane_the_baseline_is_bounded_all_the_same() -> None:
    lanes = Lanes(max_waiting=0)
    lanes.forwarder._burst = None
    async with lanes.forwarder.open(request()):
        with pytest.raises(ShedError):
            await lanes.ask()
    assert lanes.decided("shed", "no_burst") == 1


async def test_caller_that_leaves_ends_the_run_in_burst() -> None:
    lanes = Lanes()
    async with lanes.forwarder.open(request()), lanes.forwarder.open(request()) as answer:
        assert await anext(aiter(answer.chunks()))
    assert (lanes.burst.num_aborted, lanes.burst.num_open) == (1, 0)
