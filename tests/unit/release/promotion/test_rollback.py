"""Rollbacks: back to what had all traffic before, by its digest, if it may still be trusted."""

from __future__ import annotations

import pytest
from tests.unit.release.promotion.rollout_parts import A, B, C, D, KilledError, Life, MortalLedger, World, no, subject

from pratique.release.errors import UnavailableError
from pratique.release.promotion.errors import NothingBeforeError, ReleaseUnhealthyError, RolloutLostError
from pratique.release.promotion.history import HistoryUnreadableError
from pratique.release.promotion.promote import promote, resume
from pratique.release.promotion.rollback import roll_back
from pratique.release.values import Digest

pytestmark = pytest.mark.unit


@pytest.fixture
def world() -> World:
    made = World()
    made.released(A, B, C)
    return made


def back(world: World) -> Digest:
    return roll_back(world.desk(), reason="slow").subject.digest


def test_the_release_before_gets_all_traffic_by_its_digest_and_everybody_hears(world: World) -> None:
    outcome = roll_back(world.desk(), reason="slow")
    assert (outcome.result, outcome.subject.digest, outcome.notes) == ("rolled_back", B, ())
    assert world.target.calls == [(0.0, f"promote {B}")]
    assert world.gate.asked == [f"trust {B}"]
    assert world.ledger.kinds()[3:] == ["started", "shifting", "rollback"]
    assert world.heard.events == ["rolled_back"]
    assert world.history.open is None


def test_a_second_rollback_goes_further_back_and_not_forth(world: World) -> None:
    assert [back(world), back(world)] == [B, A]
    with pytest.raises(NothingBeforeError, match="the ledger has no release before it"):
        back(world)
    assert world.target.stable == A


def test_after_a_rollback_and_a_promotion_one_goes_back_to_what_was_rolled_back_to(world: World) -> None:
    back(world)
    world.released(D)
    assert [one.digest for one in world.history.releases] == [D, B, A]
    assert back(world) == B


def test_a_release_that_was_promoted_again_is_there_once(world: World) -> None:
    world.released(A)
    assert [one.digest for one in world.history.releases] == [A, C, B]


def test_a_revoked_release_is_passed_over_for_the_one_before_it(world: World) -> None:
    world.gate.refuses[f"trust {B}"] = no("it was revoked")
    outcome = roll_back(world.desk(), reason="slow")
    assert outcome.subject.digest == A
    assert outcome.notes == (f"{B} is passed over: it was revoked",)


def test_where_all_are_revoked_nothing_is_deployed(world: World) -> None:
    world.gate.refuses["trust"] = no("it was revoked")
    with pytest.raises(NothingBeforeError, match="it was revoked") as caught:
        back(world)
    assert caught.value.exit_code == 1
    assert world.target.calls == []


def test_where_trust_cannot_be_found_out_nothing_is_deployed(world: World) -> None:
    world.gate.refuses[f"trust {B}"] = UnavailableError("the registry does not answer")
    with pytest.raises(UnavailableError):
        back(world)
    assert world.target.calls == []
    assert world.history.open is None


def test_without_a_ledger_nothing_is_deployed() -> None:
    world = World()
    world.target.stable = A
    with pytest.raises(NothingBeforeError):
        back(world)


def test_what_runs_without_the_ledger_knowing_goes_back_to_what_it_knows(world: World) -> None:
    world.target.stable = D
    assert back(world) == C


def test_a_release_that_is_not_healthy_after_a_rollback_stays_and_is_cried_out(world: World) -> None:
    world.target.unhealthy.add(B)
    with pytest.raises(ReleaseUnhealthyError, match="not healthy"):
        back(world)
    assert (world.target.stable, world.ledger.kinds()[-1]) == (B, "failed")
    assert world.heard.events == ["unhealthy"]


def test_a_rollback_during_a_canary_ends_the_canary_and_no_more(world: World) -> None:
    world.target.script[C] = world.target.script[A]
    done: list[Digest] = []

    def during(method: str) -> None:
        if method == "measure" and not done:
            done.append(back(world))

    world.target.before = during
    with pytest.raises(RolloutLostError):
        promote(world.desk(), subject(D), canary_seconds=300)
    assert done == [C]
    assert (world.target.stable, world.target.candidate) == (C, None)
    assert world.heard.events == ["aborted"]


def test_an_entry_that_cannot_be_read_stops_everything(world: World) -> None:
    world.ledger.append("promotion", D, {"unknown": 1}, environment="production", actor="x")
    with pytest.raises(HistoryUnreadableError, match="entry 3 of the ledger, of the kind 'promotion'") as caught:
        back(world)
    assert caught.value.exit_code == 3
    assert world.target.calls == []


def test_entries_of_other_environments_count_for_nothing(world: World) -> None:
    world.ledger.append("promotion", D, {"unknown": 1}, environment="staging", actor="x")
    assert back(world) == B


@pytest.mark.parametrize("then", ["resume", "roll back"])
@pytest.mark.parametrize("step", range(10))
def test_a_rollback_that_was_killed_at_any_step_is_brought_to_an_end(step: int, then: str) -> None:
    world = World()
    world.released(A, B, C)
    life = Life(dies_at=step)

    def before(method: str) -> None:
        if method != "deployment":
            life.step()

    world.target.before = before
    mortal = MortalLedger(written=world.ledger.written, life=life)
    try:
        roll_back(world.desk(ledger=mortal), reason="slow")
        died = False
    except KilledError:
        died = True
    world.target.before = None
    if then == "roll back":
        back(world)
    elif world.history.open is not None:
        assert resume(world.desk()).result == "rolled_back"
    assert world.history.open is None
    assert world.target.stable == world.history.releases[0].digest
    assert died or step >= 8


def test_a_target_that_does_not_shift_leaves_a_rollback_failed(world: World) -> None:
    world.target.failing.add("promote")
    with pytest.raises(ReleaseUnhealthyError, match="did not give it all traffic"):
        back(world)
    assert world.history.open is None
    world.target.failing.clear()
    assert back(world) == B
