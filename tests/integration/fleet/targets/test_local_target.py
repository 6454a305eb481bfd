"""The local target: real programs behind a real Envoy."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest
from msgspec.structs import replace
from tests.integration.fleet.targets.conftest import Load, Stage, ask
from tests.unit.fleet.targets.target_contract import TargetContract

from pratique.fleet.targets._marked import MarkedPrograms
from pratique.fleet.targets.interface import Deployment, TargetError
from pratique.fleet.targets.local import LocalTarget

pytestmark = pytest.mark.integration

ONE = "sha256:" + "1" * 64
TWO = "sha256:" + "2" * 64
THREE = "sha256:" + "3" * 64


class TestLocalTarget(TargetContract):
    first = ONE
    second = TWO


def test_traffic_is_shared_moved_back_and_nobody_notices(target: LocalTarget, load: Load, stage: Stage) -> None:
    target.promote(ONE)
    load.answers.clear()
    target.start_canary(TWO, share=0.2)
    load.answers.clear()
    time.sleep(3)
    seen = dict(load.answers)
    assert set(seen) == {ONE, TWO}
    assert 0.08 < seen[TWO] / sum(seen.values()) < 0.4
    window = target.measure(seconds=3)
    assert 0.05 < len(window.candidate["error"]) / len(window.stable["error"]) < 0.6
    assert (
        set(window.stable)
        == set(window.candidate)
        == {"error", "client_error", "latency_seconds", "first_token_seconds"}
    )
    assert max(window.candidate["error"]) == 0

    target.abort_canary()
    load.answers.clear()
    time.sleep(0.5)
    assert set(load.answers) == {ONE}

    target.promote(TWO)
    load.answers.clear()
    time.sleep(0.5)
    assert set(load.answers) == {TWO}


def test_a_candidate_that_fails_is_seen_as_it_is(target: LocalTarget, load: Load, stage: Stage) -> None:
    stage.make(TWO, "slow", "0.3")
    stage.make(THREE, "bad")
    target.promote(ONE)
    target.start_canary(TWO, share=0.5)
    time.sleep(2)
    window = target.measure(seconds=2)
    assert min(window.candidate["latency_seconds"]) >= 0.3
    assert sorted(window.stable["latency_seconds"])[len(window.stable["latency_seconds"]) // 2] < 0.3
    target.abort_canary()
    target.start_canary(THREE, share=0.5)
    time.sleep(1)
    window = target.measure(seconds=1)
    assert min(window.candidate["error"]) == 1
    assert window.candidate["latency_seconds"] == []


def test_what_an_aborted_candidate_was_answering_is_answered(target: LocalTarget, stage: Stage) -> None:
    stage.make(TWO, "slow", "1.5")
    target.promote(ONE)
    target.start_canary(TWO, share=0.9)
    answers: list[str] = []
    clients = [threading.Thread(target=lambda: answers.append(ask(stage.settings.port))) for _ in range(12)]
    for client in clients:
        client.start()
    time.sleep(0.5)
    target.abort_canary()
    for client in clients:
        client.join(20)
    assert TWO in answers
    assert set(answers) <= {ONE, TWO}
    assert len(answers) == 12


def test_a_candidate_that_is_never_ready_gets_no_traffic(target: LocalTarget, stage: Stage) -> None:
    stage.make(TWO, "ill")
    made = LocalTarget(replace(stage.settings, ready_seconds=1.0))
    made.promote(ONE)
    with pytest.raises(TargetError, match=f"{TWO} is not ready: not within 1 s"):
        made.start_canary(TWO, share=0.5)
    made.abort_canary()
    assert made.deployment() == Deployment(ONE)
    assert {ask(stage.settings.port) for _ in range(10)} == {ONE}


def test_a_program_that_ended_is_started_again_by_the_next_change(target: LocalTarget, stage: Stage) -> None:
    target.promote(ONE)
    for pid in MarkedPrograms(str(stage.settings.folder.resolve())).running()[f"a {ONE}"]:
        os.kill(pid, signal.SIGKILL)
    assert not target.health(ONE).is_healthy
    target.promote(ONE)
    assert target.health(ONE).is_healthy
    assert ask(stage.settings.port) == ONE


def test_another_process_finds_what_runs_and_finishes_what_was_interrupted(target: LocalTarget, stage: Stage) -> None:
    target.promote(ONE)
    target.start_canary(TWO, share=0.5)
    (stage.settings.folder / "state.json").write_bytes(b'{"live":"a","digests":{"a":"%s"}}' % ONE.encode())
    other = LocalTarget(stage.settings)  # the first one was killed before it wrote down that a canary runs
    other.abort_canary()
    assert {ask(stage.settings.port) for _ in range(20)} == {ONE}
    assert set(MarkedPrograms(str(stage.settings.folder.resolve())).running()) == {f"a {ONE}", "edge"}


def test_of_two_changes_at_once_one_waits_and_gives_up(target: LocalTarget, stage: Stage) -> None:
    impatient = LocalTarget(replace(stage.settings, lock_seconds=0.1))
    stage.make(ONE, "ill")
    first = threading.Thread(target=lambda: target.promote(ONE))
    first.start()
    time.sleep(0.5)
    try:
        with pytest.raises(TargetError, match="another change"):
            impatient.promote(TWO)
    finally:
        (stage.programs / "1111.ill").unlink()
        first.join(30)
    assert target.deployment() == Deployment(ONE)


def test_a_program_that_ends_at_once_is_not_waited_for(target: LocalTarget, stage: Stage) -> None:
    made = LocalTarget(replace(stage.settings, command=("false",), environment={"PATH": "/usr/bin:/bin"}))
    began = time.monotonic()
    with pytest.raises(TargetError, match="its program has ended"):
        made.promote(ONE)
    assert time.monotonic() - began < stage.settings.ready_seconds / 2


def test_a_program_that_does_not_exist_says_so(target: LocalTarget, stage: Stage) -> None:
    made = LocalTarget(replace(stage.settings, command=("no-such-program",)))
    with pytest.raises(TargetError, match="'no-such-program' cannot be started"):
        made.promote(ONE)


def test_a_state_that_cannot_be_read_is_no_state(target: LocalTarget, stage: Stage) -> None:
    (stage.settings.folder / "state.json").write_text("{")
    with pytest.raises(TargetError, match="cannot be read"):
        target.deployment()
    (stage.settings.folder / "state.json").unlink()
