"""Plans over two weighted slots: what each step leaves, and that no interruption leaves what cannot be ended."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.fleet.targets.target_contract import TargetContract

from pratique.core.errors import CallerError
from pratique.fleet.targets._cloudwatch import Metrics
from pratique.fleet.targets._slots import (
    PARTS,
    Deploy,
    Retire,
    Shift,
    Slot,
    SlotName,
    Slots,
    Step,
    apply,
    is_as_expected,
    parts_of,
    plan_abort,
    plan_canary,
    plan_promotion,
    require_digest,
)
from pratique.fleet.targets._weighted import Patience, WeightedTarget
from pratique.fleet.targets.interface import Deployment, Health, TargetError, Window

pytestmark = pytest.mark.unit

ONE, TWO, THREE = (f"sha256:{digit * 64}" for digit in "123")
RUNNING = Slots(Slot(ONE, PARTS, 3), Slot(TWO, 0, 0))
CANARY = Slots(Slot(ONE, 950, 3), Slot(TWO, 50, 3))


class StoppedError(Exception):
    pass


@dataclass
class Memory:
    """A platform in memory that stops after so many steps."""

    slots: Slots = field(default_factory=Slots)
    left: int = 1_000_000
    taken: list[Step] = field(default_factory=list)
    meanwhile: Slots | None = None

    @property
    def name(self) -> str:
        return "memory"

    def read(self) -> Slots:
        return self.slots

    def settle(self) -> Slots:
        return self.slots

    def take(self, step: Step, slots: Slots) -> None:
        if not self.left:
            raise StoppedError
        self.left -= 1
        self.taken.append(step)
        self.slots = self.meanwhile or apply(self.slots, step)

    def health(self, slot: SlotName) -> Health:
        return Health(is_healthy=True, num_ready=1, num_wanted=1, reason="")

    def measure(self, metrics: Metrics, slot: SlotName) -> dict[str, list[float]]:
        return {"error": [0.0 if slot == "a" else 1.0]}


def over(memory: Memory, *, keep: bool = False) -> WeightedTarget:
    return WeightedTarget(platform=memory, first_count=2, keep=keep, lag_seconds=60, clock=lambda: 6_000.0)


class TestWeightedTarget(TargetContract):
    first = ONE
    second = TWO

    @pytest.fixture(params=[False, True])
    def target(self, request: pytest.FixtureRequest) -> WeightedTarget:
        return over(Memory(), keep=request.param)


@pytest.mark.parametrize("text", ["latest", "chat:1.2", "sha256:abc", "SHA256:" + "1" * 64, ""])
def test_what_is_no_digest_is_refused_before_anything_is_asked(text: str) -> None:
    with pytest.raises(CallerError, match="expected a digest"):
        require_digest(text)
    memory = Memory(RUNNING)
    for call in (over(memory).promote, lambda digest: over(memory).start_canary(digest, share=0.05)):
        with pytest.raises(CallerError):
            call(text)
    assert memory.taken == []


@pytest.mark.parametrize(
    ("slots", "why"),
    [
        (Slots(Slot(ONE, 500, 1), Slot(TWO, 500, 1)), "do not say which release is stable"),
        (Slots(Slot(ONE, 950, 0), Slot(TWO, 50, 1)), "do not say which release is stable"),
        (Slots(Slot(None, PARTS, 1), Slot()), "not named by its digest"),
    ],
)
def test_what_runs_is_never_guessed(slots: Slots, why: str) -> None:
    for ask in (
        slots.deployment,
        lambda: plan_abort(slots, keep=False),
        lambda: plan_canary(slots, THREE, share=0.05),
        lambda: plan_promotion(slots, THREE, first_count=1, keep=False),
    ):
        with pytest.raises(TargetError, match=why):
            ask()


def test_a_candidate_by_a_tag_is_none() -> None:
    slots = Slots(Slot(ONE, 950, 1), Slot(None, 50, 1))
    with pytest.raises(TargetError, match="slot 'b' has traffic"):
        slots.deployment()
    assert plan_abort(slots, keep=False) == (Shift(PARTS, 0), Retire("b"))


def test_traffic_to_a_slot_that_runs_nothing_goes_back() -> None:
    slots = Slots(Slot(ONE, 950, 1), Slot(TWO, 50, 0))
    assert slots.deployment() == Deployment(ONE)
    assert plan_abort(slots, keep=False) == (Shift(PARTS, 0),)


@pytest.mark.parametrize("share", [0.0, -0.1, 0.0001, 0.4999, 0.5, 0.9, 1.0, float("nan")])
def test_a_share_that_cannot_be_told_from_the_stable_one_is_refused(share: float) -> None:
    with pytest.raises(TargetError, match="between 0 and 1/2"):
        plan_canary(RUNNING, TWO, share=share)


def test_a_canary_is_ready_before_it_gets_traffic() -> None:
    assert plan_canary(RUNNING, TWO, share=0.05) == (Deploy("b", TWO, 3), Shift(950, 50))
    assert plan_canary(CANARY, TWO, share=0.05) == (Deploy("b", TWO, 3),)
    assert plan_canary(CANARY, ONE, share=0.05) == ()


def test_another_canary_loses_its_traffic_first() -> None:
    assert plan_canary(CANARY, THREE, share=0.05)[0] == Shift(PARTS, 0)
    assert plan_promotion(CANARY, THREE, first_count=1, keep=False) == (
        Shift(PARTS, 0),
        Deploy("b", THREE, 3),
        Shift(0, PARTS),
        Retire("a"),
    )


def test_a_release_that_is_kept_comes_back_without_being_started() -> None:
    memory = Memory()
    target = over(memory, keep=True)
    target.promote(ONE)
    target.promote(TWO)
    memory.taken.clear()
    target.promote(ONE)
    assert memory.taken == [Deploy("a", ONE, 2), Shift(PARTS, 0)]
    target.abort_canary()
    assert memory.slots.b == Slot(TWO, 0, 2)


def test_a_first_release_goes_where_it_lies_already() -> None:
    slots = Slots(Slot(ONE, PARTS, 0), Slot(TWO, 0, 0))
    assert plan_promotion(slots, TWO, first_count=2, keep=False) == (Deploy("b", TWO, 2), Shift(0, PARTS))
    assert plan_promotion(slots, THREE, first_count=2, keep=False) == (Deploy("a", THREE, 2), Shift(PARTS, 0))


def test_weights_of_any_scale_become_parts() -> None:
    assert parts_of(1, 0) == (PARTS, 0)
    assert parts_of(0, 0) == (0, 0)
    assert parts_of(0.95, 0.05000000074505806) == (950, 50)
    assert parts_of(1e-9, 1) == (1, 999)
    assert parts_of(1, 1e-9) == (999, 1)


def test_a_change_that_meets_another_stops_before_it_moves_traffic() -> None:
    memory = Memory(RUNNING, meanwhile=Slots(Slot(ONE, PARTS, 3), Slot(THREE, 0, 3)))
    with pytest.raises(TargetError, match="not as this change left it"):
        over(memory).start_canary(TWO, share=0.05)
    assert memory.taken == [Deploy("b", TWO, 3)]


def test_a_change_that_the_platform_did_not_make_is_none() -> None:
    memory = Memory(CANARY, meanwhile=CANARY)
    with pytest.raises(TargetError, match="not as this change left it"):
        over(memory).abort_canary()


def test_scaling_is_nobody_elses_change() -> None:
    grown = Slots(Slot(ONE, 950, 9), Slot(TWO, 50, 1))
    assert is_as_expected(grown, CANARY)
    assert is_as_expected(grown, CANARY, Shift(0, PARTS))
    assert not is_as_expected(Slots(Slot(ONE, 950, 9), Slot(TWO, 50, 0)), CANARY, Shift(0, PARTS))


DIGESTS = st.sampled_from([ONE, TWO, THREE])
CHANGES = st.one_of(
    st.tuples(st.just("promote"), DIGESTS),
    st.tuples(st.just("canary"), DIGESTS),
    st.tuples(st.just("abort"), st.just("")),
)


def change(target: WeightedTarget, what: tuple[str, str]) -> None:
    if what[0] == "promote":
        target.promote(what[1])
    elif what[0] == "canary":
        target.start_canary(what[1], share=0.05)
    else:
        target.abort_canary()


@settings(max_examples=50, deadline=None)
@given(history=st.lists(CHANGES, max_size=4), last=CHANGES, keep=st.booleans(), ending=CHANGES)
def test_a_change_interrupted_anywhere_is_ended_by_any_other(
    history: list[tuple[str, str]], last: tuple[str, str], keep: bool, ending: tuple[str, str]
) -> None:
    start = Memory()
    over(start).promote(ONE)
    for one in history:
        change(over(start, keep=keep), one)
    stable = start.slots.deployment().stable
    for left in itertools.count():
        memory = Memory(start.slots, left=left)
        try:
            change(over(memory, keep=keep), last)
        except StoppedError:
            is_over = False
        else:
            is_over = True
        seen = memory.slots.deployment()
        assert seen.stable in {stable, last[1]}
        assert seen.candidate in {None, start.slots.deployment().candidate, last[1]}
        memory.left = 1_000_000
        change(over(memory, keep=keep), ending)
        after = memory.slots.deployment()
        if ending[0] == "promote":
            assert after == Deployment(ending[1])
        elif ending[0] == "abort":
            assert after == Deployment(seen.stable)
        if is_over:
            break


def test_measurements_are_of_whole_minutes_on_both_sides() -> None:
    assert over(Memory(CANARY)).measure(seconds=600) == Window({"error": [0.0]}, {"error": [1.0]})
    assert over(Memory(RUNNING)).measure(seconds=600) == Window({"error": [0.0]}, {})
    assert over(Memory(CANARY)).measure(seconds=90) == Window({}, {})
    assert over(Memory()).measure(seconds=600) == Window({}, {})


def test_health_is_of_what_takes_traffic() -> None:
    target = over(Memory(Slots(Slot(ONE, PARTS, 1), Slot(TWO, 0, 1))))
    assert target.health(ONE).is_healthy
    assert target.health(TWO).reason == "it takes no traffic"


def test_patience_does_not_wait_for_what_holds() -> None:
    assert Patience(0.001, 60).wait_until(lambda: True)


def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    times = iter([0.0, 1.0, 9.0, 10.5])
    monkeypatch.setattr("pratique.fleet.targets._weighted.time.monotonic", lambda: next(times))
    monkeypatch.setattr("pratique.fleet.targets._weighted.time.sleep", waits.append)
    assert not Patience(10, 5).wait_until(lambda: False)
    assert waits == [5, 1.0]
