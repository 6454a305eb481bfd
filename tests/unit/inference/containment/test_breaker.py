"""The breaker: every event in every state, late answers, a thousand waiting; then any order of all of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from pratique.core.clock import ManualClock
from pratique.inference.containment.breaker import Admission, Breaker, BreakerState, BreakerTransition, Trip
from pratique.inference.errors import DeathCause
from pratique.inference.settings import ContainmentSettings

pytestmark = pytest.mark.unit

OOM = DeathCause.OUT_OF_MEMORY
REDUCED, COOLDOWN, WINDOW = 1024, 30.0, 300.0
SMALL, LARGE = REDUCED, REDUCED + 1
SETTINGS = ContainmentSettings(reduced_tokens=REDUCED, cooldown_seconds=COOLDOWN, escalation_seconds=WINDOW)
CLOSED, OPEN, HALF_OPEN = BreakerState


def turn(clock: ManualClock, seconds: float) -> None:
    clock._elapsed += seconds  # nobody sleeps here


class Bench:
    """A breaker in one of its situations, with admissions of every kind in hand."""

    def __init__(self, situation: str = "closed") -> None:
        self.clock = ManualClock()
        self.breaker = Breaker(self.clock, SETTINGS)
        self.heard: list[tuple[str, str, float]] = []
        self.breaker.listen(self._hear)
        self.late = [self.breaker.admit(LARGE)]
        if situation == "closed":
            # Its own late ones are those of an earlier trouble that was overcome.
            self._trouble()
            self.breaker.succeeded(self.late[-1])
        else:
            self._trouble()
            self.breaker.trip(OOM)
        if situation in {"half_open", "testing"}:
            turn(self.clock, COOLDOWN)
        self.test = self.breaker.admit(LARGE) if situation == "testing" else None
        self.ordinary = self.breaker.admit(SMALL)

    def _trouble(self) -> None:
        self.breaker.trip(OOM)
        turn(self.clock, COOLDOWN)
        self.late.append(self.breaker.admit(LARGE))
        assert self.late[-1].is_test

    def _hear(self, step: BreakerTransition) -> None:
        self.heard.append((step.previous.value, step.state.value, step.at_seconds))

    def settle_late(self) -> None:
        for settle in (self.breaker.succeeded, self.breaker.failed, self.breaker.abandoned):
            for admission in self.late:
                settle(admission)

    @property
    def situation(self) -> str:
        state = self.breaker.state
        assert not self.breaker.is_testing or state is HALF_OPEN
        return "testing" if self.breaker.is_testing else state.value


def settle_test(how: str) -> Callable[[Bench], None]:
    def settle(bench: Bench) -> None:
        if bench.test is not None:
            getattr(bench.breaker, how)(bench.test)

    return settle


EVENTS: dict[str, Callable[[Bench], Any]] = {
    "small request": lambda bench: bench.breaker.admit(SMALL),
    "large request": lambda bench: bench.breaker.admit(LARGE),
    "ordinary success": lambda bench: bench.breaker.succeeded(bench.ordinary),
    "ordinary failure": lambda bench: bench.breaker.failed(bench.ordinary),
    "ordinary abandoned": lambda bench: bench.breaker.abandoned(bench.ordinary),
    "late answers": Bench.settle_late,
    "trip": lambda bench: bench.breaker.trip(OOM),
    "a moment": lambda bench: turn(bench.clock, COOLDOWN - 0.001),
    "cool-down": lambda bench: turn(bench.clock, COOLDOWN),
    "test success": settle_test("succeeded"),
    "test failure": settle_test("failed"),
    "test abandoned": settle_test("abandoned"),
}
SITUATIONS = ("closed", "open", "half_open", "testing")
LEADS_TO = {
    ("half_open", "large request"): "testing",
    ("open", "cool-down"): "half_open",
    ("closed", "trip"): "open",
    ("half_open", "trip"): "open",
    ("testing", "trip"): "open",
    ("testing", "test success"): "closed",
    ("testing", "test failure"): "open",
    ("testing", "test abandoned"): "half_open",
}


@pytest.mark.parametrize(("situation", "event"), list(itertools.product(SITUATIONS, EVENTS)))
def test_each_event_leads_from_each_state_where_the_table_says(situation: str, event: str) -> None:
    bench = Bench(situation)
    assert bench.situation == situation
    EVENTS[event](bench)
    assert bench.situation == LEADS_TO.get((situation, event), situation)


@pytest.mark.parametrize(
    ("situation", "wanted", "limit", "is_test", "is_reduced"),
    [
        ("closed", SMALL, None, False, False),
        ("closed", 10**9, None, False, False),
        ("open", 0, REDUCED, False, False),
        ("open", SMALL, REDUCED, False, False),
        ("open", LARGE, REDUCED, False, True),
        ("half_open", SMALL, REDUCED, False, False),
        ("half_open", LARGE, None, True, False),
        ("testing", SMALL, REDUCED, False, False),
        ("testing", LARGE, REDUCED, False, True),
    ],
)
def test_what_a_request_gets(situation: str, wanted: int, limit: int | None, is_test: bool, is_reduced: bool) -> None:
    bench = Bench(situation)
    before = bench.breaker.reduced
    admission = bench.breaker.admit(wanted)
    assert (admission.limit_tokens, admission.is_test, admission.is_reduced) == (limit, is_test, is_reduced)
    assert bench.breaker.reduced - before == is_reduced


def test_of_a_thousand_waiting_exactly_one_is_the_test_each_time() -> None:
    bench = Bench("half_open")
    for settle in (bench.breaker.abandoned, bench.breaker.abandoned, bench.breaker.failed):
        admissions = [bench.breaker.admit(LARGE) for _ in range(1000)]
        tests = [admission for admission in admissions if admission.is_test]
        assert tests == admissions[:1]
        assert all(admission.limit_tokens == REDUCED for admission in admissions[1:])
        for admission in admissions[1:]:
            bench.breaker.succeeded(admission)
        assert bench.situation == "testing"
        settle(tests[0])
    assert bench.breaker.reduced == 3 * 999


def test_a_test_that_is_settled_twice_does_not_speak_for_the_next_one() -> None:
    bench = Bench("testing")
    assert bench.test is not None
    bench.breaker.abandoned(bench.test)
    following = bench.breaker.admit(LARGE)
    assert following.is_test
    bench.breaker.succeeded(bench.test)
    bench.breaker.failed(bench.test)
    bench.breaker.abandoned(bench.test)
    assert bench.situation == "testing"
    bench.breaker.succeeded(following)
    assert (bench.situation, bench.breaker.recoveries) == ("closed", 1)


@pytest.mark.parametrize("late_success", [True, False])
def test_the_test_of_an_earlier_epoch_says_nothing_in_the_half_open_state_after_it(late_success: bool) -> None:
    bench = Bench("testing")
    assert bench.test is not None
    bench.breaker.trip(OOM)
    turn(bench.clock, COOLDOWN)
    (bench.breaker.succeeded if late_success else bench.breaker.failed)(bench.test)
    assert bench.situation == "half_open"
    assert bench.breaker.recoveries == 0


@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_trip_takes_the_full_context_back_from_what_has_not_begun(situation: str) -> None:
    bench = Bench(situation)
    admissions = [bench.ordinary, bench.breaker.admit(LARGE), *([bench.test] if bench.test else [])]
    assert all(bench.breaker.still_holds(admission) for admission in admissions)
    assert not any(bench.breaker.still_holds(admission) for admission in bench.late)
    bench.breaker.trip(OOM)
    for admission in admissions:
        assert bench.breaker.still_holds(admission) == (admission.limit_tokens == REDUCED)


def test_a_failed_test_and_its_trip_come_to_the_same_in_either_order() -> None:
    first, second = Bench("testing"), Bench("testing")
    assert first.test is not None
    assert second.test is not None
    first.breaker.failed(first.test)
    first.breaker.trip(OOM)
    second.breaker.trip(OOM)
    second.breaker.failed(second.test)
    assert first.breaker.snapshot() == second.breaker.snapshot()


def test_each_trip_while_open_begins_the_cool_down_again() -> None:
    bench = Bench("open")
    for _ in range(3):
        turn(bench.clock, COOLDOWN - 1)
        assert bench.breaker.seconds_until_half_open == pytest.approx(1)
        bench.breaker.trip(OOM)
        assert bench.breaker.seconds_until_half_open == pytest.approx(COOLDOWN)
    turn(bench.clock, COOLDOWN)
    assert bench.breaker.seconds_until_half_open == 0


def test_listeners_hear_of_each_change_once_and_of_half_open_when_it_was_due() -> None:
    bench = Bench()
    bench.heard.clear()
    began = bench.clock.monotonic()
    bench.breaker.trip(OOM)
    bench.breaker.trip(OOM)
    turn(bench.clock, 5 * COOLDOWN)  # nobody asks for so long
    bench.breaker.trip(OOM)
    turn(bench.clock, COOLDOWN)
    assert bench.breaker.state is bench.breaker.state
    bench.breaker.succeeded(bench.breaker.admit(LARGE))
    assert bench.heard == [
        ("closed", "open", began),
        ("open", "half_open", began + COOLDOWN),
        ("half_open", "open", began + 5 * COOLDOWN),
        ("open", "half_open", began + 6 * COOLDOWN),
        ("half_open", "closed", began + 6 * COOLDOWN),
    ]


def test_a_listener_that_asks_back_sees_the_new_state() -> None:
    bench = Bench()
    seen: list[BreakerState] = []
    bench.breaker.listen(lambda step: seen.append(bench.breaker.state))
    bench.breaker.trip(OOM)
    turn(bench.clock, COOLDOWN)
    assert bench.breaker.state is HALF_OPEN
    assert seen == [OPEN, HALF_OPEN]


def escalations(*at_seconds: float, trips: int = 2) -> list[bool]:
    clock = ManualClock()
    breaker = Breaker(clock, ContainmentSettings(escalation_trips=trips, escalation_seconds=WINDOW))
    heard: list[Trip] = []
    for at in at_seconds:
        turn(clock, at - clock.monotonic())
        heard.append(breaker.trip(OOM))
    assert [trip.number for trip in heard] == list(range(1, len(at_seconds) + 1))
    assert breaker.escalations == sum(trip.is_escalation for trip in heard)
    return [trip.is_escalation for trip in heard]


def test_two_trips_within_the_window_escalate_and_two_further_apart_do_not() -> None:
    assert escalations(0, 299.9) == [False, True]
    assert escalations(0, 300) == [False, False]
    assert escalations(0, 0) == [False, True]
    assert escalations(0, 200, 401, 600, trips=3) == [False, False, False, False]
    assert escalations(0, 100, 299, trips=3) == [False, False, True]
    assert escalations(0, trips=1) == [True]


def test_trouble_that_goes_on_escalates_once_in_a_window_and_not_with_every_trip() -> None:
    assert escalations(*range(0, 700, 10)) == [at in {10, 310, 610} for at in range(0, 700, 10)]


def test_the_reduced_context_leaves_room_for_a_test_in_a_small_model() -> None:
    clock = ManualClock()
    breaker = Breaker(clock, SETTINGS, max_model_len=512)
    breaker.trip(OOM)
    assert breaker.admit(512).limit_tokens == 256
    turn(clock, COOLDOWN)
    breaker.succeeded(breaker.admit(512))
    assert breaker.state is CLOSED
    assert Breaker(clock, SETTINGS, max_model_len=8192).reduced_tokens == REDUCED


def test_the_snapshot_has_state_causes_and_counts() -> None:
    bench = Bench("open")
    bench.breaker.trip(DeathCause.HUNG)
    bench.breaker.admit(LARGE)
    turn(bench.clock, 10)
    assert bench.breaker.snapshot() == {
        "state": "open",
        "seconds_until_half_open": 20.0,
        "is_testing": False,
        "reduced_tokens": REDUCED,
        "trips": 3,
        "trips_by_cause": {"out_of_memory": 2, "hung": 1},
        "last_cause": "hung",
        "reduced": 1,
        "recoveries": 0,
        "escalations": 1,
    }
    assert Breaker(bench.clock, SETTINGS).snapshot()["last_cause"] is None


class AnyOrder(RuleBasedStateMachine):
    """Compares the breaker with a model that keeps every admission's whole story."""

    admissions = Bundle("admissions")

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.breaker = Breaker(self.clock, SETTINGS)
        self.opened_at: float | None = None
        self.test: Admission | None = None
        self.trips: list[float] = []
        self.reduced = self.recoveries = 0

    @property
    def expected(self) -> BreakerState:
        if self.opened_at is None:
            return CLOSED
        return OPEN if self.clock.monotonic() < self.opened_at + COOLDOWN else HALF_OPEN

    @rule(seconds=st.sampled_from([0.0, 1.0, COOLDOWN - 1, COOLDOWN, WINDOW]))
    def wait(self, seconds: float) -> None:
        turn(self.clock, seconds)

    @precondition(lambda self: self.opened_at is not None)
    @rule()
    def cool_down(self) -> None:
        turn(self.clock, COOLDOWN)

    @rule(target=admissions, wanted=st.sampled_from([1, SMALL, LARGE, 10 * LARGE]))
    def admit(self, wanted: int) -> Admission:
        is_test = wanted > REDUCED and self.expected is HALF_OPEN and self.test is None
        is_full = is_test or self.expected is CLOSED
        admission = self.breaker.admit(wanted)
        assert admission.is_test == is_test
        assert admission.limit_tokens == (None if is_full else REDUCED)
        assert admission.is_reduced == (wanted > REDUCED and not is_full)
        self.reduced += admission.is_reduced
        if is_test:
            self.test = admission
        return admission

    @rule(admission=consumes(admissions))
    def succeed(self, admission: Admission) -> None:
        self.breaker.succeeded(admission)
        if admission is self.test:
            self.opened_at = self.test = None
            self.recoveries += 1

    @rule(admission=consumes(admissions))
    def fail(self, admission: Admission) -> None:
        self.breaker.failed(admission)
        if admission is self.test:
            self.opened_at, self.test = self.clock.monotonic(), None

    @rule(admission=consumes(admissions))
    def abandon(self, admission: Admission) -> None:
        self.breaker.abandoned(admission)
        if admission is self.test:
            self.test = None

    @rule(cause=st.sampled_from(DeathCause))
    def trip(self, cause: DeathCause) -> None:
        trip = self.breaker.trip(cause)
        self.opened_at, self.test = self.clock.monotonic(), None
        self.trips.append(self.opened_at)
        recent = [at for at in self.trips if self.opened_at - at < WINDOW]
        assert (trip.cause, trip.number) == (cause, len(self.trips))
        assert not trip.is_escalation or len(recent) >= SETTINGS.escalation_trips

    @invariant()
    def agree(self) -> None:
        assert self.breaker.state is self.expected
        assert self.breaker.is_testing == (self.test is not None)
        assert (self.breaker.trips, self.breaker.recoveries) == (len(self.trips), self.recoveries)
        assert self.breaker.reduced == self.reduced
        assert 0 <= self.breaker.seconds_until_half_open <= COOLDOWN


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=20, stateful_step_count=20, deadline=None)
