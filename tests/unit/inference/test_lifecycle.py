from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pratique.core.clock import ManualClock
from pratique.inference.errors import IllegalTransitionError
from pratique.inference.lifecycle import Lifecycle, State, Transition

pytestmark = pytest.mark.unit

LEGAL = {
    "starting": {"process_alive", "failed"},
    "process_alive": {"model_loaded", "draining", "failed"},
    "model_loaded": {"traffic_ready", "draining", "failed"},
    "traffic_ready": {"degraded", "draining", "failed"},
    "degraded": {"traffic_ready", "draining", "failed"},
    "draining": {"stopped", "failed"},
    "stopped": set(),
    "failed": set(),
}
WAYS: dict[State, list[State]] = {
    State.STARTING: [],
    State.PROCESS_ALIVE: [State.PROCESS_ALIVE],
    State.MODEL_LOADED: [State.PROCESS_ALIVE, State.MODEL_LOADED],
    State.TRAFFIC_READY: [State.PROCESS_ALIVE, State.MODEL_LOADED, State.TRAFFIC_READY],
    State.DEGRADED: [State.PROCESS_ALIVE, State.MODEL_LOADED, State.TRAFFIC_READY, State.DEGRADED],
    State.DRAINING: [State.PROCESS_ALIVE, State.DRAINING],
    State.STOPPED: [State.PROCESS_ALIVE, State.DRAINING, State.STOPPED],
    State.FAILED: [State.FAILED],
}


def at(state: State) -> Lifecycle:
    lifecycle = Lifecycle(ManualClock())
    for step in WAYS[state]:
        lifecycle.advance(step)
    return lifecycle


@pytest.mark.parametrize(("origin", "to"), list(itertools.product(State, State)))
def test_exactly_the_legal_steps_are_possible(origin: State, to: State) -> None:
    lifecycle = at(origin)
    if to.value in LEGAL[origin.value]:
        lifecycle.advance(to)
        assert lifecycle.state is to
        return
    with pytest.raises(IllegalTransitionError) as caught:
        lifecycle.advance(to)
    assert f"'{origin.value}'" in caught.value.message
    assert f"'{to.value}'" in caught.value.message
    assert all(possible in caught.value.message for possible in LEGAL[origin.value])
    assert lifecycle.state is origin


@pytest.mark.parametrize("state", list(State))
def test_traffic_is_admitted_in_one_state_only(state: State) -> None:
    assert at(state).is_ready == (state is State.TRAFFIC_READY)


@pytest.mark.parametrize("state", list(State))
def test_it_has_ended_where_no_step_is_left(state: State) -> None:
    assert at(state).has_ended == (not LEGAL[state.value])


async def test_transitions_carry_the_seconds_since_the_process_began() -> None:
    clock = ManualClock()
    lifecycle = Lifecycle(clock, age_seconds=0.4)
    heard: list[Transition] = []
    lifecycle.listen(heard.append)
    await clock.advance(1)
    lifecycle.advance(State.PROCESS_ALIVE)
    await clock.advance(2)
    lifecycle.advance(State.MODEL_LOADED)
    assert [(step.state.value, step.at_seconds) for step in lifecycle.transitions] == [
        ("starting", 0.0),
        ("process_alive", pytest.approx(1.4)),
        ("model_loaded", pytest.approx(3.4)),
    ]
    assert heard == list(lifecycle.transitions[1:])
    await clock.advance(0.5)
    assert lifecycle.since_seconds() == pytest.approx(0.5)
    assert lifecycle.age_seconds() == pytest.approx(3.9)


@given(st.lists(st.sampled_from(State), max_size=12))
def test_no_order_of_attempts_reaches_traffic_unwarmed(attempts: list[State]) -> None:
    lifecycle = Lifecycle(ManualClock())
    for attempt in attempts:
        try:
            lifecycle.advance(attempt)
        except IllegalTransitionError:
            continue
    states = [step.state for step in lifecycle.transitions]
    if State.TRAFFIC_READY in states:
        first = states.index(State.TRAFFIC_READY)
        assert states[:first] == [State.STARTING, State.PROCESS_ALIVE, State.MODEL_LOADED]
