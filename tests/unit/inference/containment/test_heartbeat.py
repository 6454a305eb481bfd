"""A heartbeat second by second: what is taken for hung or stuck, and above all what is not."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from pratique.core.clock import ManualClock
from pratique.inference.containment.heartbeat import Beat, Heartbeat
from pratique.inference.engines.interface import Pulse
from pratique.inference.settings import ContainmentSettings

pytestmark = pytest.mark.unit

SETTINGS = ContainmentSettings(hang_seconds=10, stuck_seconds=60)
ALIVE, HUNG, STUCK = Beat


def pulse(iterations: int = 0, cpu: float = 1.0, unfinished: int = 1) -> Pulse:
    return Pulse(
        num_iterations=iterations,
        num_unfinished=unfinished,
        num_running=unfinished,
        num_waiting=0,
        kv_usage=0.1,
        num_preemptions=0,
        cpu_seconds=cpu,
    )


class Watch:
    """Observes once a second, for as long as it is told."""

    def __init__(self, settings: ContainmentSettings = SETTINGS, *, interval_seconds: float = 1) -> None:
        self.clock = ManualClock()
        self.heartbeat = Heartbeat(self.clock, settings, interval_seconds=interval_seconds)

    def see(self, pulses: Iterable[Pulse], *, every: float = 1.0) -> list[Beat]:
        beats = []
        for seen in pulses:
            self.clock._elapsed += every  # nobody sleeps here
            beats.append(self.heartbeat.observe(seen))
        return beats

    def first(self, verdict: Beat, seen: Pulse, *, every: float = 1.0) -> int:
        """Observations of the same until the verdict."""
        return next(number for number in range(1, 1000) if self.see([seen], every=every) == [verdict])


def test_no_iteration_and_no_processor_time_while_work_waits_is_a_hang() -> None:
    watch = Watch()
    watch.see([pulse(5)])
    assert watch.see([pulse(5)] * 12) == [ALIVE] * 9 + [HUNG] * 3
    assert watch.heartbeat.silent_seconds == 12


def test_a_busy_engine_in_one_long_iteration_is_not_hung_until_it_is_stuck() -> None:
    watch = Watch()
    watch.see([pulse(5)])
    busy = [pulse(5, cpu=1 + 0.02 * second) for second in range(1, 62)]
    assert watch.see(busy) == [ALIVE] * 59 + [STUCK] * 2
    assert watch.see([pulse(6)]) == [ALIVE]
    assert watch.heartbeat.stuck_seconds == 0


def test_one_tick_of_processor_time_is_no_sign_of_life_and_slow_work_adds_up_to_one() -> None:
    watch = Watch()
    watch.see([pulse(cpu=1.0)])
    assert watch.see([pulse(cpu=1.01)] * 10) == [ALIVE] * 9 + [HUNG]
    slow = Watch()
    slow.see([pulse()])
    assert set(slow.see([pulse(cpu=1 + 0.01 * (second // 4)) for second in range(1, 60)])) == {ALIVE}


@pytest.mark.parametrize("cpu", [1.0, 9.0])
def test_an_idle_engine_is_alive_however_long(cpu: float) -> None:
    watch = Watch()
    assert set(watch.see([pulse(5, unfinished=0)] * 200 + [pulse(5, cpu, unfinished=0)])) == {ALIVE}


def test_a_request_that_comes_to_an_idle_engine_starts_the_clock_anew() -> None:
    watch = Watch()
    watch.see([pulse(5, unfinished=0)] * 100)
    assert watch.see([pulse(5)] * 11) == [ALIVE] * 10 + [HUNG]


def test_requests_that_keep_coming_do_not_hide_a_hang() -> None:
    watch = Watch()
    watch.see([pulse(5)])
    assert watch.see([pulse(5, unfinished=number) for number in range(2, 12)])[-1] is HUNG


def test_a_hang_in_which_every_client_leaves_is_over() -> None:
    watch = Watch()
    watch.see([pulse(5)] * 8)
    assert watch.see([pulse(5, unfinished=0), *[pulse(5)] * 9]) == [ALIVE] * 10


def test_iterations_end_silence_also_where_they_use_no_processor_time() -> None:
    watch = Watch()
    assert set(watch.see([pulse(second // 9) for second in range(100)])) == {ALIVE}


@pytest.mark.parametrize("gap", [1.5, 60.0, 86400.0])
@pytest.mark.parametrize("silent", [0, 5, 8])
def test_an_observer_that_was_stopped_itself_accuses_nobody(gap: float, silent: int) -> None:
    watch = Watch()
    watch.see([pulse(5)] * (silent + 1))
    assert watch.see([pulse(5)], every=gap) == [ALIVE]
    assert watch.heartbeat.silent_seconds == silent + 1
    assert watch.see([pulse(6)]) == [ALIVE]


def test_an_observer_that_is_always_late_is_slow_and_not_blind() -> None:
    watch = Watch()
    watch.see([pulse(5)])
    assert watch.first(HUNG, pulse(5), every=4) == 10
    watch.heartbeat.restarted()
    watch.see([pulse(5)])
    assert watch.first(HUNG, pulse(5), every=0.5) == 20


def test_an_observer_that_looks_often_may_be_held_up_between_two_looks() -> None:
    watch = Watch(interval_seconds=0.05)
    watch.see([pulse(5)])
    assert watch.first(HUNG, pulse(5), every=0.5) == 20


@pytest.mark.parametrize("after", [pulse(0, cpu=9), pulse(5, cpu=0.5), pulse(3, cpu=0.5)])
def test_counts_that_fall_are_another_engine(after: Pulse) -> None:
    watch = Watch()
    watch.see([pulse(5)] * 10)
    assert watch.see([after] * 10) == [ALIVE] * 10
    assert watch.see([after]) == [HUNG]


def test_a_restart_that_the_counts_do_not_show_can_be_told() -> None:
    watch = Watch()
    watch.see([pulse(0)] * 10)
    watch.heartbeat.restarted()
    assert watch.see([pulse(0)] * 11) == [ALIVE] * 10 + [HUNG]


observations = st.lists(
    st.tuples(st.sampled_from([0.2, 1.0, 2.9, 50.0]), st.integers(0, 1), st.sampled_from([0.0, 0.01, 0.5])), max_size=40
)


@given(observations, st.integers(0, 3))
@hypothesis_settings(max_examples=25)
def test_no_verdict_comes_before_its_seconds_were_observed(
    steps: list[tuple[float, int, float]], unfinished: int
) -> None:
    watch = Watch(ContainmentSettings(hang_seconds=10, stuck_seconds=15))
    seen: dict[str, Any] = {"iterations": 0, "cpu": 0.0, "unfinished": unfinished}
    watch.see([pulse(**seen)])
    silent = stuck = 0.0
    for elapsed, iterations, cpu in steps:
        seen["iterations"] += iterations
        seen["cpu"] += cpu
        (beat,) = watch.see([pulse(**seen)], every=elapsed)
        observed = min(elapsed, 1.0)
        stuck = 0.0 if iterations else stuck + observed
        silent = 0.0 if iterations or cpu == 0.5 else silent + observed
        assert beat is ALIVE or unfinished
        assert beat is not HUNG or silent >= 10 - 1e-6
        assert beat is not STUCK or stuck >= 15 - 1e-6
        if unfinished and stuck > 15.001:
            assert beat is not ALIVE
