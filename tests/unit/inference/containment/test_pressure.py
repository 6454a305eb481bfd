"""KV exhaustion: many preemptions in a short time, full blocks, requests that wait; each of them alone is none."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from pratique.core.clock import ManualClock
from pratique.inference.containment.pressure import KvPressure
from pratique.inference.engines.interface import Pulse
from pratique.inference.settings import ContainmentSettings

pytestmark = pytest.mark.unit

NEEDED, WINDOW = 16, 10.0


class Watch:
    """Observes an engine, by default once a second with full blocks and requests that wait."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.pressure = KvPressure(self.clock, ContainmentSettings(kv_preemptions=NEEDED, kv_window_seconds=WINDOW))

    def see(
        self, preemptions: int, *, usage: float = 1.0, waiting: int = 3, iterations: int = 100, after: float = 1.0
    ) -> bool:
        self.clock._elapsed += after  # nobody sleeps here
        return self.pressure.observe(
            Pulse(
                num_iterations=iterations,
                num_unfinished=waiting + 1,
                num_running=1,
                num_waiting=waiting,
                kv_usage=usage,
                num_preemptions=preemptions,
                cpu_seconds=1.0,
            )
        )


def test_many_preemptions_in_the_window_are_exhaustion() -> None:
    watch = Watch()
    assert [watch.see(2 * second) for second in range(9)] == [False] * 8 + [True]


def test_a_burst_between_two_observations_is_enough() -> None:
    watch = Watch()
    assert [watch.see(count) for count in (0, 0, NEEDED)] == [False, False, True]
    assert [Watch().see(count) for count in (0, NEEDED, 10**9)] == [False] * 3  # the first shows no growth


def test_as_many_over_a_longer_time_are_not() -> None:
    watch = Watch()
    assert not any(watch.see(second) for second in range(200))
    assert watch.pressure.num_recent == 10


@pytest.mark.parametrize("changes", [{"usage": 0.89}, {"waiting": 0}])
def test_without_full_blocks_or_without_anyone_waiting_it_is_none(changes: dict[str, Any]) -> None:
    watch = Watch()
    assert not any(watch.see(5 * second, **changes) for second in range(20))


def test_usage_that_swings_counts_by_its_peak() -> None:
    watch = Watch()
    assert [watch.see(count, usage=usage) for count, usage in ((0, 0.5), (10, 0.95), (20, 0.6))] == [False, False, True]
    watch = Watch()
    assert [watch.see(count, usage=usage) for count, usage in ((0, 0.5), (20, 0.6), (20, 0.95))] == [False, False, True]


def test_it_is_said_once_and_then_needs_as_many_again() -> None:
    watch = Watch()
    watch.see(0)
    assert watch.see(NEEDED)
    assert not watch.see(NEEDED)  # flushed; the count stays
    assert not watch.see(2 * NEEDED - 1)
    assert watch.see(2 * NEEDED)


@pytest.mark.parametrize(("preemptions", "iterations"), [(3, 100), (13, 5)])
def test_a_restarted_engine_begins_at_zero(preemptions: int, iterations: int) -> None:
    watch = Watch()
    watch.see(5)
    watch.see(12)
    assert not watch.see(preemptions, iterations=iterations)
    assert watch.pressure.num_recent == preemptions
    assert watch.see(NEEDED, iterations=iterations + 1)


def test_what_happened_while_nobody_looked_is_not_dated_now() -> None:
    watch = Watch()
    watch.see(0)
    assert not watch.see(1000, after=WINDOW)
    assert not watch.see(1000 + NEEDED - 1)
    assert watch.see(1000 + NEEDED)


@given(st.lists(st.tuples(st.integers(0, 6), st.sampled_from([0.3, 1.0, 4.0])), max_size=80))
@hypothesis_settings(max_examples=50)
def test_it_agrees_with_counting_every_preemption(steps: list[tuple[int, float]]) -> None:
    watch = Watch()
    watch.see(0)
    total = 0
    events: list[float] = []
    for growth, after in steps:
        total += growth
        is_exhausted = watch.see(total, after=after)
        now = watch.clock.monotonic()
        events = [at for at in [*events, *[now] * growth] if now - at < WINDOW]
        assert is_exhausted == (len(events) >= NEEDED)
        if is_exhausted:
            events = []
