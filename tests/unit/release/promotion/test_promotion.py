"""Promotions: from the gate over the canary to all traffic, and what happens where something is in the way."""

from __future__ import annotations

import pytest
from tests.unit.release.promotion.rollout_parts import (
    ENVIRONMENT,
    A,
    B,
    C,
    KilledError,
    Life,
    MortalLedger,
    World,
    no,
    steady,
    subject,
)

from pratique.core.errors import CallerError, RefusedError
from pratique.fleet.targets.interface import TargetError
from pratique.release.errors import UnavailableError
from pratique.release.promotion.errors import (
    CanaryFailedError,
    CanaryInconclusiveError,
    PromotionAbortedError,
    ReleaseUnhealthyError,
    RolloutLostError,
    RolloutOpenError,
)
from pratique.release.promotion.promote import promote, resume
from pratique.release.promotion.rollback import roll_back

pytestmark = pytest.mark.unit


@pytest.fixture
def world() -> World:
    made = World()
    made.released(A)
    return made


def all_traffic_is_at(world: World, digest: str) -> bool:
    target = world.target
    return (target.stable, target.candidate, target.share) == (digest, None, 0.0)


# The way that is hoped for


def test_a_release_that_is_no_worse_gets_all_traffic_after_its_canary(world: World) -> None:
    outcome = promote(world.desk(), subject(B), canary_seconds=300)
    assert (outcome.result, outcome.subject) == ("promoted", subject(B))
    assert outcome.seconds == pytest.approx(300)
    assert all_traffic_is_at(world, B)
    assert world.target.calls == [(0.0, f"start_canary {B} 0.05"), (300.0, f"promote {B}")]
    assert world.ledger.kinds() == ["promotion", "started", "canary", "shifting", "promotion"]
    assert world.gate.asked == [f"admit {B}", f"attest {B}", f"release {B}"]
    assert [one.digest for one in world.history.releases] == [B, A]
    assert world.history.open is None
    assert world.heard.alerts == []


def test_the_canary_that_is_signed_says_what_was_held_against_what(world: World) -> None:
    promote(world.desk(), subject(B), canary_seconds=300)
    (canary,) = world.gate.attested
    assert (canary.baseline, canary.verdict, canary.share) == (A, "pass", 0.05)
    assert (canary.ended_at - canary.started_at).total_seconds() == pytest.approx(300)
    assert {one.metric for one in canary.metrics} == {"error", "latency_seconds"}


def test_the_first_release_has_nothing_to_be_compared_with(world: World) -> None:
    empty = World()
    outcome = promote(empty.desk(), subject(A), canary_seconds=300)
    assert outcome.result == "promoted"
    assert empty.ledger.kinds() == ["started", "shifting", "promotion"]
    assert empty.gate.asked == [f"admit {A}", f"release {A}"]


def test_what_runs_already_and_is_recorded_is_left_alone(world: World) -> None:
    outcome = promote(world.desk(), subject(A), canary_seconds=300)
    assert (outcome.result, outcome.rollout) == ("unchanged", None)
    assert world.gate.asked == []


def test_what_runs_already_and_is_not_recorded_goes_through_the_gate(world: World) -> None:
    world.target.stable = B
    promote(world.desk(), subject(B), canary_seconds=300)
    assert world.gate.asked == [f"admit {B}", f"release {B}"]
    assert world.history.releases[0].digest == B


# Worse, or nobody knows


def test_a_slow_release_is_taken_off_within_a_minute_and_everybody_hears(world: World) -> None:
    world.target.script[B] = steady(1.0, slower=8.0, seed=2)  # the story: P99 above 500 ms on the new set
    with pytest.raises(CanaryFailedError, match="latency_seconds: worse than allowed") as caught:
        promote(world.desk(), subject(B), canary_seconds=900)
    assert all_traffic_is_at(world, A)
    (_, (second, what)) = world.target.calls
    assert (what, second <= 45) == ("abort_canary", True)
    assert world.ledger.kinds() == ["promotion", "started", "canary", "aborted"]
    (alert,) = world.heard.alerts
    started = next(one for one in world.ledger.written if one.kind == "rollout")
    assert (alert.event, alert.rollout, alert.digest, alert.baseline) == ("canary_failed", started.hash, B, A)
    assert {one.metric: one.verdict for one in alert.metrics}["latency_seconds"] == "fail"
    assert caught.value.exit_code == 1
    assert world.history.open is None
    assert [one.digest for one in world.history.releases] == [A]


def test_failing_requests_end_the_canary(world: World) -> None:
    world.target.script[B] = steady(1.0, errors=0.3, seed=2)
    with pytest.raises(CanaryFailedError, match="error: worse than allowed"):
        promote(world.desk(), subject(B), canary_seconds=900)
    assert all_traffic_is_at(world, A)


@pytest.mark.parametrize("measured", [steady(0.1), lambda _: {}], ids=["too few", "nothing"])
def test_a_canary_that_was_hardly_measured_is_not_shipped(world: World, measured: object) -> None:
    world.target.script[B] = measured  # type: ignore[assignment]  # parametrised
    with pytest.raises(CanaryInconclusiveError, match="says nothing") as caught:
        promote(world.desk(), subject(B), canary_seconds=300)
    assert caught.value.exit_code == 3
    assert all_traffic_is_at(world, A)
    assert world.heard.events == ["canary_inconclusive"]


def test_an_impossible_measurement_aborts(world: World) -> None:
    world.target.script[B] = lambda _: {"latency_seconds": [float("nan")]}
    with pytest.raises(RefusedError, match="must be finite"):
        promote(world.desk(), subject(B), canary_seconds=300)
    assert all_traffic_is_at(world, A)
    assert world.heard.events == ["aborted"]


@pytest.mark.parametrize("method", ["start_canary", "measure"])
def test_a_target_that_fails_during_the_canary_aborts(world: World, method: str) -> None:
    world.target.failing.add(method)
    with pytest.raises(TargetError):
        promote(world.desk(), subject(B), canary_seconds=300)
    assert all_traffic_is_at(world, A)
    assert world.ledger.kinds()[-1] == "aborted"


def test_a_user_who_interrupts_leaves_no_canary_behind(world: World) -> None:
    def interrupt(method: str) -> None:
        if method == "measure":
            raise KeyboardInterrupt

    world.target.before = interrupt
    with pytest.raises(KeyboardInterrupt):
        promote(world.desk(), subject(B), canary_seconds=300)
    assert all_traffic_is_at(world, A)
    assert "it was interrupted: KeyboardInterrupt" in world.heard.alerts[0].summary


def test_a_canary_that_somebody_else_changed_is_aborted(world: World) -> None:
    def change(method: str) -> None:
        if method == "measure":
            world.target.candidate = C

    world.target.before = change
    with pytest.raises(PromotionAbortedError, match="somebody changed it"):
        promote(world.desk(), subject(B), canary_seconds=300)
    assert all_traffic_is_at(world, A)


def test_a_canary_that_cannot_be_aborted_is_cried_out_and_stays_open(world: World) -> None:
    world.target.failing.update({"measure", "abort_canary"})
    with pytest.raises(TargetError, match="abort_canary"):
        promote(world.desk(), subject(B), canary_seconds=300)
    assert world.heard.events == ["failed"]
    assert "the canary cannot be aborted" in world.heard.alerts[0].summary
    assert world.history.open is not None
    world.target.failing.clear()
    assert resume(world.desk()).result == "aborted"
    assert all_traffic_is_at(world, A)


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_a_canary_without_time_is_refused(world: World, seconds: float) -> None:
    with pytest.raises(CallerError, match="takes some time"):
        promote(world.desk(), subject(B), canary_seconds=seconds)


# The gate


def test_what_the_gate_does_not_admit_gets_no_traffic_and_begins_nothing(world: World) -> None:
    world.gate.refuses["admit"] = no("unsigned")
    with pytest.raises(RefusedError, match="unsigned"):
        promote(world.desk(), subject(B), canary_seconds=300)
    assert world.target.calls == []
    assert world.ledger.kinds() == ["promotion"]


@pytest.mark.parametrize("method", ["attest", "release"])
@pytest.mark.parametrize("error", [no("revoked meanwhile"), UnavailableError("the registry does not answer")])
def test_a_gate_that_says_no_after_the_canary_gives_the_old_one_the_traffic(
    world: World, method: str, error: RefusedError
) -> None:
    world.gate.refuses[method] = error
    with pytest.raises(type(error)):
        promote(world.desk(), subject(B), canary_seconds=300)
    assert all_traffic_is_at(world, A)
    assert world.ledger.kinds() == ["promotion", "started", "canary", "aborted"]
    assert world.heard.events == ["aborted"]


# All traffic, and not well


def test_a_release_that_is_not_healthy_with_all_traffic_goes_back(world: World) -> None:
    world.target.unhealthy.add(B)
    with pytest.raises(PromotionAbortedError, match=r"not healthy after 60 s: 0 of 1 are ready"):
        promote(world.desk(), subject(B), canary_seconds=300)
    assert all_traffic_is_at(world, A)
    assert world.ledger.kinds() == ["promotion", "started", "canary", "shifting", "aborted"]
    assert world.heard.events == ["unhealthy"]


def test_a_first_release_that_is_not_healthy_has_nothing_to_go_back_to(world: World) -> None:
    empty = World()
    empty.target.unhealthy.add(A)
    with pytest.raises(ReleaseUnhealthyError):
        promote(empty.desk(), subject(A), canary_seconds=300)
    assert empty.ledger.kinds() == ["started", "shifting", "failed"]
    assert empty.history.open is None


def test_a_target_that_does_not_shift_is_asked_for_the_old_one(world: World) -> None:
    def fail_once(method: str) -> None:
        if method == "promote":
            world.target.before = None
            raise TargetError("no capacity")

    world.target.before = fail_once
    with pytest.raises(PromotionAbortedError, match="no capacity"):
        promote(world.desk(), subject(B), canary_seconds=300)
    assert all_traffic_is_at(world, A)
    assert world.history.open is None


def test_a_target_that_brings_neither_back_is_cried_out(world: World) -> None:
    world.target.failing.update({"promote", "health"})
    with pytest.raises(TargetError):
        promote(world.desk(), subject(B), canary_seconds=300)
    assert "the one before does not come back" in world.heard.alerts[0].summary
    assert world.history.open is not None


def test_a_health_check_that_cannot_be_asked_is_not_healthy(world: World) -> None:
    world.target.failing.add("health")
    with pytest.raises(PromotionAbortedError, match="health was scripted to fail"):
        promote(world.desk(), subject(B), canary_seconds=300)
    assert all_traffic_is_at(world, A)


# Two at once


def test_of_two_promotions_at_once_one_begins(world: World) -> None:
    def other() -> None:
        world.gate.refuses["release"] = EndsHereError()
        with pytest.raises(RefusedError):
            promote(world.desk(), subject(C), canary_seconds=300)
        world.gate.refuses.clear()

    world.ledger.before_append = other
    promote(world.desk(), subject(B), canary_seconds=300)
    assert world.history.releases[0].digest == B
    assert world.ledger.kinds().count("started") == 2


class EndsHereError(RefusedError):
    def __init__(self) -> None:
        super().__init__("the other one ends here")


def test_a_promotion_while_another_is_open_is_refused(world: World) -> None:
    seen: list[int] = []

    def other(method: str) -> None:
        if method == "measure" and not seen:
            seen.append(1)
            with pytest.raises(RolloutOpenError, match="is not finished"):
                promote(world.desk(), subject(C), canary_seconds=300)

    world.target.before = other
    promote(world.desk(), subject(B), canary_seconds=300)
    assert all_traffic_is_at(world, B)
    assert seen


def test_other_entries_between_reading_and_writing_do_not_stop_a_promotion(world: World) -> None:
    world.ledger.before_append = lambda: world.ledger.append("evidence", C, {}, actor="scanner")
    promote(world.desk(), subject(B), canary_seconds=300)
    assert all_traffic_is_at(world, B)


def test_a_ledger_that_never_stands_still_leaves_it_undecided(world: World) -> None:
    def write() -> None:
        world.ledger.append("evidence", C, {}, actor="scanner")
        world.ledger.before_append = write

    world.ledger.before_append = write
    with pytest.raises((UnavailableError, RecursionError)):
        promote(world.desk(), subject(B), canary_seconds=300)
    assert world.target.calls == []


def test_a_canary_that_nobody_recorded_is_not_built_upon(world: World) -> None:
    world.target.candidate, world.target.share = C, 0.05
    with pytest.raises(RolloutOpenError, match="the ledger does not know"):
        promote(world.desk(), subject(B), canary_seconds=300)


def test_a_process_that_was_thought_dead_moves_no_traffic(world: World) -> None:
    taken: list[int] = []

    def take_over(method: str) -> None:
        if method == "measure" and not taken:
            taken.append(1)
            assert resume(world.desk()).result == "aborted"

    world.target.before = take_over
    with pytest.raises(RolloutLostError):
        promote(world.desk(), subject(B), canary_seconds=300)
    assert all_traffic_is_at(world, A)
    assert world.ledger.kinds()[-2:] == ["taken_over", "aborted"]


def test_nothing_unfinished_cannot_be_resumed(world: World) -> None:
    with pytest.raises(PromotionAbortedError, match=f"nothing is unfinished in '{ENVIRONMENT}'"):
        resume(world.desk())


def test_a_target_that_was_changed_meanwhile_is_left_to_a_person(world: World) -> None:
    _die(world, 3)
    world.target.stable = C
    with pytest.raises(PromotionAbortedError, match="neither as before"):
        resume(world.desk())
    assert world.ledger.kinds()[-1] == "failed"
    assert world.heard.events == ["failed"]
    assert world.history.open is None


# Killed at every step


def _die(world: World, step: int) -> bool:
    """Run a promotion of B whose process dies at a step; return whether it died."""
    life = Life(dies_at=step)
    mortal = MortalLedger(written=world.ledger.written, life=life)

    def before(method: str) -> None:
        if method != "deployment":
            life.step()

    world.target.before = before
    try:
        promote(world.desk(ledger=mortal), subject(B), canary_seconds=60)
    except KilledError:
        return True
    finally:
        world.target.before = None
    return False


@pytest.mark.parametrize("then", ["resume", "roll back"])
@pytest.mark.parametrize("step", range(18))
def test_a_promotion_that_was_killed_at_any_step_is_brought_to_an_end(step: int, then: str) -> None:
    world = World()
    world.released(C, A)
    world.target.script[B] = steady(2.0, seed=2)
    died = _die(world, step)
    was_open = world.history.open
    if then == "roll back":
        roll_back(world.desk(), reason="killed")
    elif was_open is not None:
        resume(world.desk())
    assert world.history.open is None
    assert world.target.candidate is None
    running = world.target.stable
    assert running == world.history.releases[0].digest
    if running == B:
        assert f"release {B}" in world.gate.asked
        assert world.gate.attested[0].verdict == "pass"
    if not died:
        assert step >= 15
        assert running == (B if then == "resume" else A)
