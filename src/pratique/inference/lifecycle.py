"""The lifecycle of a model server: which states there are, which steps between them, and when each was taken.

starting → process_alive → model_loaded → traffic_ready → (degraded ⇄ traffic_ready | draining) → stopped; failed ends
every path. Traffic is admitted in `traffic_ready`, and in `degraded` for those of several models that are not under
repair. Pure but for the clock that is passed in.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pratique.core.clock import Clock
from pratique.inference.errors import IllegalTransitionError

__all__ = ["Lifecycle", "State", "Transition"]


class State(enum.Enum):
    """Where a model server stands."""

    STARTING = "starting"
    PROCESS_ALIVE = "process_alive"
    MODEL_LOADED = "model_loaded"
    TRAFFIC_READY = "traffic_ready"
    DEGRADED = "degraded"
    DRAINING = "draining"
    STOPPED = "stopped"
    FAILED = "failed"


_STEPS: Final[dict[State, frozenset[State]]] = {
    State.STARTING: frozenset({State.PROCESS_ALIVE, State.FAILED}),
    State.PROCESS_ALIVE: frozenset({State.MODEL_LOADED, State.DRAINING, State.FAILED}),
    State.MODEL_LOADED: frozenset({State.TRAFFIC_READY, State.DRAINING, State.FAILED}),
    State.TRAFFIC_READY: frozenset({State.DEGRADED, State.DRAINING, State.FAILED}),
    State.DEGRADED: frozenset({State.TRAFFIC_READY, State.DRAINING, State.FAILED}),
    State.DRAINING: frozenset({State.STOPPED, State.FAILED}),
    State.STOPPED: frozenset(),
    State.FAILED: frozenset(),
}


@dataclass(frozen=True)
class Transition:
    """One step: the state entered, and when, in seconds since the process began."""

    state: State
    at_seconds: float


class Lifecycle:
    """The present state and the way to it."""

    def __init__(self, clock: Clock, *, age_seconds: float = 0.0) -> None:
        """Begin in STARTING; `age_seconds` is how long the process had been running by then."""
        self._clock = clock
        self._origin = clock.monotonic() - age_seconds
        self._transitions = [Transition(State.STARTING, 0.0)]
        self._listeners: list[Callable[[Transition], None]] = []

    @property
    def state(self) -> State:
        return self._transitions[-1].state

    @property
    def is_ready(self) -> bool:
        return self.state is State.TRAFFIC_READY

    @property
    def has_ended(self) -> bool:
        return not _STEPS[self.state]

    @property
    def transitions(self) -> tuple[Transition, ...]:
        return tuple(self._transitions)

    def age_seconds(self) -> float:
        """Seconds since the process began."""
        return self._clock.monotonic() - self._origin

    def since_seconds(self) -> float:
        """Seconds in the present state."""
        return self.age_seconds() - self._transitions[-1].at_seconds

    def listen(self, listener: Callable[[Transition], None]) -> None:
        """Call `listener` after every step from now on."""
        self._listeners.append(listener)

    def advance(self, to: State) -> None:
        """Take a step.

        Raises:
            IllegalTransitionError: naming the present state, the one asked for, and those that are possible.
        """
        if to not in _STEPS[self.state]:
            possible = ", ".join(sorted(state.value for state in _STEPS[self.state])) or "none, it has ended"
            raise IllegalTransitionError(
                f"The lifecycle cannot go from '{self.state.value}' to '{to.value}'; possible: {possible}."
            )
        step = Transition(to, self.age_seconds())
        self._transitions.append(step)
        for listener in self._listeners:
            listener(step)
