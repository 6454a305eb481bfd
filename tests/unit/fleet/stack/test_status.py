"""What a stack says of itself, and when a start is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from pratique.fleet.processes.lifecycle import Phase
from pratique.fleet.processes.probes import ModelStatus
from pratique.fleet.stack.status import (
    StackState,
    StackStatus,
    Startup,
    assess_startup,
    assess_state,
    make_service_status,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from pratique.fleet.processes.service import Snapshot

pytestmark = pytest.mark.unit
NEVER = dict.fromkeys(("a-0", "a-1", "b-0", "b-1"), False)


def test_one_of_each_kind_is_enough_to_serve(snapshot: Callable[..., Snapshot]) -> None:
    found = [snapshot("a-0"), snapshot("a-1", Phase.STARTING), snapshot("b-0")]
    assert assess_startup(found, NEVER).startup is Startup.SERVING


def test_start_goes_on_while_something_may_still_come(snapshot: Callable[..., Snapshot]) -> None:
    found = [snapshot("a-0"), snapshot("b-0", Phase.BACKING_OFF, failures=2), snapshot("b-1", Phase.WAITING)]
    assert assess_startup(found, NEVER).startup is Startup.PENDING


@pytest.mark.parametrize(
    "broken",
    [{"phase": Phase.FAILED, "failures": 1}, {"phase": Phase.BACKING_OFF, "failures": 3}],
)
def test_kind_that_cannot_start_fails_the_stack_and_is_named(
    snapshot: Callable[..., Snapshot], broken: dict[str, object]
) -> None:
    found = [snapshot("a-0"), snapshot("b-0", **broken), snapshot("b-1", Phase.WAITING)]
    verdict = assess_startup(found, NEVER)
    assert verdict.startup is Startup.FAILED
    assert verdict.culprit is found[1]


def test_replica_that_works_keeps_a_kind_alive(snapshot: Callable[..., Snapshot]) -> None:
    found = [snapshot("a-0", Phase.FAILED), snapshot("a-1", Phase.STARTING), snapshot("b-0")]
    assert assess_startup(found, NEVER).startup is Startup.PENDING


def test_service_that_was_ready_once_is_not_hopeless(snapshot: Callable[..., Snapshot]) -> None:
    found = [snapshot("a-0", Phase.BACKING_OFF, failures=3), snapshot("b-0")]
    assert assess_startup(found, {**NEVER, "a-0": True}).startup is Startup.PENDING


def test_state_of_the_whole(snapshot: Callable[..., Snapshot]) -> None:
    whole = [snapshot("a-0"), snapshot("a-1", Phase.BACKING_OFF)]
    broken = [snapshot("a-0", Phase.UNREADY), snapshot("b-0")]
    assert assess_state(whole, was_ready=False, is_stopping=False) is StackState.STARTING
    assert assess_state(whole, was_ready=True, is_stopping=False) is StackState.READY
    assert assess_state(broken, was_ready=True, is_stopping=False) is StackState.DEGRADED
    assert assess_state(whole, was_ready=True, is_stopping=True) is StackState.STOPPING


def test_published_status_survives_json(snapshot: Callable[..., Snapshot]) -> None:
    model = ModelStatus(state="model_loaded", model="small", timings={"load": 1.5}, detail="warming up")
    made = make_service_status(
        snapshot("inference-0", Phase.STARTING, pid=7, restart_at=12.0, model=model), now=10.0, memory_bytes=5
    )
    assert (made.state, made.ready, made.lifecycle, made.model) == ("starting", False, "model_loaded", "small")
    assert (made.since_seconds, made.restart_in_seconds, made.timings) == (10.0, 2.0, {"load": 1.5})
    status = StackStatus(state=StackState.READY, state_dir="/state", services=(made,))
    decoded = msgspec.json.decode(msgspec.json.encode(status), type=StackStatus)
    assert decoded == status
    assert msgspec.to_builtins(status)["schema_version"] == 1


def test_service_without_a_model_has_no_lifecycle_of_its_own(snapshot: Callable[..., Snapshot]) -> None:
    made = make_service_status(snapshot("edge"), now=1.0, memory_bytes=None)
    assert (made.ready, made.lifecycle, made.restart_in_seconds, made.memory_bytes) == (True, None, None, None)
