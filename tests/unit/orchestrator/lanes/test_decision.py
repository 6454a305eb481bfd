"""Lane decisions: thresholds, dwell times, the way back, and what happens beyond both lanes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pratique.orchestrator.lanes.decision import Decision, Lane, LaneRouter, LoadSample, Mode, Occupancy, Reason
from pratique.orchestrator.lanes.settings import LaneSettings

pytestmark = pytest.mark.unit

SETTINGS = LaneSettings(
    max_in_flight=10,
    max_waiting=2,
    spill_depth=8,
    return_depth=4,
    spill_after_seconds=1.0,
    return_after_seconds=5.0,
    return_ramp_seconds=4.0,
)
ROOM: dict[str, Any] = {"in_flight": 0, "waiting": 0, "max_in_flight": 10, "max_waiting": 2, "burst_free": 4}


def sample(**changes: Any) -> LoadSample:
    calm: dict[str, Any] = {"depth": 0, "burst_in_flight": 0, "cpu_share": 0.1, "latency_seconds": 0.1}
    return LoadSample(**{**calm, **changes})


def decide(router: LaneRouter, *, eligible: bool = True, well: bool = True, **changes: Any) -> Decision:
    return router.decide(Occupancy(**{**ROOM, **changes}), is_eligible=lambda: eligible, may_try=lambda: well)


def mode_of(router: LaneRouter) -> Mode:
    return router.mode


def spilling(**over: Any) -> LaneRouter:
    router = LaneRouter(SETTINGS)
    router.observe(sample(**over), 0.0)
    router.observe(sample(**over), 1.0)
    assert mode_of(router) is Mode.SPILLING
    return router


OVER = [
    ({"depth": 8}, Reason.QUEUE),
    ({"cpu_share": 0.81}, Reason.CPU),
    ({"latency_seconds": 5.1}, Reason.LATENCY),
]


def test_calm_baseline_keeps_all_work() -> None:
    router = LaneRouter(SETTINGS)
    router.observe(sample(depth=7, cpu_share=0.8, latency_seconds=5.0), 0.0)
    router.observe(sample(depth=7, cpu_share=0.8, latency_seconds=5.0), 9.0)
    assert decide(router, in_flight=9) == Decision(Lane.BASELINE, Reason.NORMAL)


@pytest.mark.parametrize(("over", "reason"), OVER)
def test_threshold_passed_for_long_enough_spills_with_its_reason(over: dict[str, Any], reason: Reason) -> None:
    router = LaneRouter(SETTINGS)
    router.observe(sample(**over), 0.0)
    router.observe(sample(**over), 0.9)
    assert mode_of(router) is Mode.CALM
    router.observe(sample(**over), 1.0)
    assert decide(router, in_flight=5) == Decision(Lane.BURST, reason)


@pytest.mark.parametrize(("over", "_"), OVER)
def test_short_peak_does_not_spill(over: dict[str, Any], _: Reason) -> None:
    router = LaneRouter(SETTINGS)
    router.observe(sample(**over), 0.0)
    router.observe(sample(), 0.5)
    router.observe(sample(**over), 1.2)
    router.observe(sample(**over), 2.1)
    assert mode_of(router) is Mode.CALM


def test_queue_spill_still_fills_the_baseline_up_to_the_return_depth() -> None:
    router = spilling(depth=8)
    assert decide(router, in_flight=3) == Decision(Lane.BASELINE, Reason.FILLING)
    assert decide(router, in_flight=3, waiting=1) == Decision(Lane.BURST, Reason.QUEUE)


@pytest.mark.parametrize("over", [{"cpu_share": 0.9}, {"latency_seconds": 9.0}])
def test_processor_or_latency_spill_takes_all_eligible_work(over: dict[str, Any]) -> None:
    assert decide(spilling(**over)).lane is Lane.BURST


def test_reason_follows_what_is_over_now() -> None:
    router = spilling(depth=8)
    router.observe(sample(cpu_share=0.95), 1.1)
    assert decide(router) == Decision(Lane.BURST, Reason.CPU)


def test_full_baseline_spills_at_once_even_when_calm() -> None:
    assert decide(LaneRouter(SETTINGS), in_flight=10) == Decision(Lane.BURST, Reason.BASELINE_FULL)


@pytest.mark.parametrize(
    ("hindrance", "reason"),
    [
        ({"eligible": False}, Reason.STATEFUL),
        ({"burst_free": 0}, Reason.BURST_FULL),
        ({"well": False}, Reason.BURST_DOWN),
        ({"burst_free": None}, Reason.NO_BURST),
    ],
)
def test_work_that_cannot_spill_waits_and_beyond_the_line_is_shed(hindrance: dict[str, Any], reason: Reason) -> None:
    router = LaneRouter(SETTINGS)
    assert decide(router, in_flight=10, waiting=1, **hindrance) == Decision(Lane.BASELINE, reason)
    assert decide(router, in_flight=10, waiting=2, **hindrance) == Decision(Lane.SHED, reason)


def test_eligibility_and_health_are_asked_only_where_work_would_spill() -> None:
    def never() -> bool:
        raise AssertionError

    router = LaneRouter(SETTINGS)
    assert router.decide(Occupancy(**ROOM), is_eligible=never, may_try=never).lane is Lane.BASELINE
    full = Occupancy(**{**ROOM, "in_flight": 10})
    assert router.decide(full, is_eligible=lambda: False, may_try=never).reason is Reason.STATEFUL


def test_without_a_burst_lane_the_reason_stays_normal() -> None:
    assert decide(LaneRouter(SETTINGS), burst_free=None) == Decision(Lane.BASELINE, Reason.NORMAL)


def test_work_comes_back_only_after_all_was_below_for_long_enough() -> None:
    router = spilling(cpu_share=0.9)
    router.observe(sample(), 2.0)
    router.observe(sample(), 6.9)
    assert mode_of(router) is Mode.SPILLING
    router.observe(sample(), 7.0)
    assert mode_of(router) is Mode.RETURNING


@pytest.mark.parametrize(
    "not_below",
    [
        {"depth": 5},
        {"burst_in_flight": 5},
        {"depth": 2, "burst_in_flight": 3},
        {"cpu_share": 0.61},
        {"latency_seconds": 3.1},
    ],
)
def test_between_the_thresholds_spilling_goes_on(not_below: dict[str, Any]) -> None:
    router = spilling(depth=8)
    for second in range(2, 60):
        router.observe(sample(**not_below), float(second))
    assert mode_of(router) is Mode.SPILLING


def test_unknown_latency_does_not_keep_work_away() -> None:
    router = spilling(latency_seconds=9.0)
    router.observe(sample(latency_seconds=None), 2.0)
    router.observe(sample(latency_seconds=None), 7.0)
    assert mode_of(router) is Mode.RETURNING


def test_queue_spill_ends_at_once_because_it_filled_the_baseline_all_the_time() -> None:
    router = spilling(depth=8)
    router.observe(sample(), 2.0)
    router.observe(sample(), 7.0)
    assert mode_of(router) is Mode.CALM


def returning() -> LaneRouter:
    router = spilling(cpu_share=0.9)
    router.observe(sample(), 2.0)
    router.observe(sample(), 7.0)
    return router


@pytest.mark.parametrize(("at", "num_spilled"), [(8.0, 9), (9.0, 6), (10.0, 3)])
def test_spilled_share_falls_over_the_ramp(at: float, num_spilled: int) -> None:
    router = returning()
    router.observe(sample(), at)
    decisions = [decide(router) for _ in range(12)]
    assert {decision.reason for decision in decisions} == {Reason.RETURNING}
    assert sum(decision.lane is Lane.BURST for decision in decisions) == num_spilled


def test_ramp_ends_in_calm() -> None:
    router = returning()
    router.observe(sample(), 11.0)
    assert mode_of(router) is Mode.CALM
    assert decide(router) == Decision(Lane.BASELINE, Reason.NORMAL)


def test_without_a_ramp_work_comes_back_at_once() -> None:
    router = LaneRouter(LaneSettings(spill_after_seconds=0.0, return_after_seconds=0.0, return_ramp_seconds=0.0))
    router.observe(sample(cpu_share=0.9), 0.0)
    router.observe(sample(), 1.0)
    router.observe(sample(), 1.1)
    assert mode_of(router) is Mode.CALM


def test_threshold_passed_on_the_way_back_spills_again_after_its_dwell_time() -> None:
    router = returning()
    router.observe(sample(depth=8), 8.0)
    assert mode_of(router) is Mode.RETURNING
    router.observe(sample(depth=8), 9.0)
    assert mode_of(router) is Mode.SPILLING


@given(
    samples=st.lists(
        st.builds(
            sample,
            depth=st.integers(0, 12),
            burst_in_flight=st.integers(0, 6),
            cpu_share=st.floats(0, 1),
            latency_seconds=st.none() | st.floats(0, 10),
        ),
        max_size=15,
    ),
    step=st.floats(0.05, 5),
    in_flight=st.integers(0, 10),
    waiting=st.integers(0, 2),
    burst_free=st.none() | st.integers(0, 4),
    eligible=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_whatever_was_seen_no_request_overflows_a_lane_or_leaves_its_conversation(
    samples: list[LoadSample], step: float, *, in_flight: int, waiting: int, burst_free: int | None, eligible: bool
) -> None:
    router = LaneRouter(SETTINGS)
    for number, one in enumerate(samples):
        router.observe(one, number * step)
    decision = decide(router, eligible=eligible, in_flight=in_flight, waiting=waiting, burst_free=burst_free)
    if decision.lane is Lane.BURST:
        assert eligible
        assert burst_free
    elif decision.lane is Lane.BASELINE:
        assert in_flight < 10 or waiting < 2
    else:
        assert in_flight == 10
        assert waiting == 2
