"""The memory breaker: how much context requests get after an engine ran out of memory. Pure but for its clock.

closed → (trip) open → (cool-down) half-open → (the test succeeds) closed | (trip, or the test fails) open.

Invariants:
- While closed everyone gets the full context. Otherwise one request at most does: the test, and in half-open only.
- A request that fits in the reduced context anyway proves nothing: it is never the test, and never counts as reduced.
- What an admission from before the last trip comes to changes nothing. Each trip, each test that ended and each
  closing begins a new epoch; only the test of the present one is listened to. So settling one twice does no harm.
- Time alone leads from open to half-open. It is noticed when somebody asks, and dated to when it was due.

Owned by one event loop; no call here awaits, so that a thousand waiting requests cannot slip in between.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pratique.core.clock import Clock
from pratique.inference.errors import DeathCause
from pratique.inference.settings import ContainmentSettings

__all__ = ["Admission", "Breaker", "BreakerState", "BreakerTransition", "Trip"]


class BreakerState(enum.Enum):
    """How much context there is."""

    CLOSED = "closed"
    """All of it."""
    OPEN = "open"
    """The reduced one, until the cool-down is over."""
    HALF_OPEN = "half_open"
    """The reduced one, and all of it for a single request as the test."""


@dataclass(frozen=True, kw_only=True)
class Admission:
    """What one request may use. It is to be settled once: `succeeded`, `failed` or `abandoned`."""

    limit_tokens: int | None
    """Of prompt and reply together; None is the full context."""
    is_test: bool
    is_reduced: bool
    """Whether it wanted more than it gets."""
    epoch: int


@dataclass(frozen=True, kw_only=True)
class Trip:
    """The breaker opened, or was kept open for longer."""

    cause: DeathCause
    number: int
    """1 for the first since the server began."""
    is_escalation: bool
    """Whether it is one too many in too short a time: once in `escalation_seconds`, however many follow."""


@dataclass(frozen=True, kw_only=True)
class BreakerTransition:
    """A change of state, at a time of the clock (`monotonic`)."""

    previous: BreakerState
    state: BreakerState
    at_seconds: float


class Breaker:
    """The state, and the counters of one model. The engine's own counters die with it; these do not."""

    def __init__(self, clock: Clock, settings: ContainmentSettings, *, max_model_len: int | None = None) -> None:
        """Begin closed.

        Args:
            clock: its monotonic time is read, never waited for.
            settings: `reduced_tokens`, `cooldown_seconds`, `escalation_trips`, `escalation_seconds`.
            max_model_len: the model's context. The reduced one is at most half of it: where every request fitted in
                the reduced context there would be no test, and the breaker could never close again.
        """
        self._clock = clock
        self._settings = settings
        half = settings.reduced_tokens if max_model_len is None else max_model_len // 2
        self.reduced_tokens: Final = min(settings.reduced_tokens, half)
        self.trips = 0
        self.trips_by_cause: dict[DeathCause, int] = {}
        self.recoveries = 0
        self.reduced = 0
        self.escalations = 0
        self.last_cause: DeathCause | None = None
        self._state = BreakerState.CLOSED
        self._epoch = 0
        self._is_testing = False
        self._half_open_at = 0.0
        self._recent_trips: deque[float] = deque(maxlen=settings.escalation_trips)
        self._escalated_at: float | None = None
        self._listeners: list[Callable[[BreakerTransition], None]] = []

    @property
    def state(self) -> BreakerState:
        """The state now; asking notices that the cool-down is over."""
        if self._state is BreakerState.OPEN and self._clock.monotonic() >= self._half_open_at:
            self._enter(BreakerState.HALF_OPEN, self._half_open_at)
        return self._state

    @property
    def is_testing(self) -> bool:
        """Whether the test request is on its way."""
        return self._is_testing

    @property
    def seconds_until_half_open(self) -> float:
        """What is left of the cool-down; 0 in every other state."""
        if self.state is not BreakerState.OPEN:
            return 0.0
        return self._half_open_at - self._clock.monotonic()

    def listen(self, listener: Callable[[BreakerTransition], None]) -> None:
        """Call `listener` after every change of state from now on."""
        self._listeners.append(listener)

    def admit(self, wanted_tokens: int) -> Admission:
        """Say what a request gets.

        `wanted_tokens` are those of prompt and reply together if nothing were left out.
        """
        wants_more = wanted_tokens > self.reduced_tokens
        is_test = wants_more and self.state is BreakerState.HALF_OPEN and not self._is_testing
        if is_test:
            self._is_testing = True
        if is_test or self.state is BreakerState.CLOSED:
            return Admission(limit_tokens=None, is_test=is_test, is_reduced=False, epoch=self._epoch)
        self.reduced += wants_more
        return Admission(limit_tokens=self.reduced_tokens, is_test=False, is_reduced=wants_more, epoch=self._epoch)

    def still_holds(self, admission: Admission) -> bool:
        """Whether an admission may still be used: a trip takes back the full context of those that have not begun.

        To be asked where something was waited for between `admit` and the engine. Where it does not hold: settle it as
        abandoned, admit again.
        """
        return admission.limit_tokens is not None or admission.epoch == self._epoch

    def succeeded(self, admission: Admission) -> None:
        """Settle a request that got its whole reply; if it was the test, the breaker closes."""
        if self._end_test(admission):
            self.recoveries += 1
            self._enter(BreakerState.CLOSED, self._clock.monotonic())

    def failed(self, admission: Admission) -> None:
        """Settle a request that the engine's trouble ended; if it was the test, the cool-down begins again.

        That is no trip yet: whoever finds out what the trouble was calls `trip`, before or after.
        """
        if self._end_test(admission):
            self._open()

    def abandoned(self, admission: Admission) -> None:
        """Settle a request whose client left or whose deadline passed; if it was the test, the next one is."""
        self._end_test(admission)

    def trip(self, cause: DeathCause) -> Trip:
        """Open, or begin the cool-down again. To be called once for each death or shortage, not for each victim."""
        self.trips += 1
        self.trips_by_cause[cause] = self.trips_by_cause.get(cause, 0) + 1
        self.last_cause = cause
        is_escalation = self._escalates()
        self.escalations += is_escalation
        self._open()
        return Trip(cause=cause, number=self.trips, is_escalation=is_escalation)

    def snapshot(self) -> dict[str, object]:
        """Return what /status shows."""
        return {
            "state": self.state.value,
            "seconds_until_half_open": round(self.seconds_until_half_open, 3),
            "is_testing": self._is_testing,
            "reduced_tokens": self.reduced_tokens,
            "trips": self.trips,
            "trips_by_cause": {cause.value: count for cause, count in self.trips_by_cause.items()},
            "last_cause": None if self.last_cause is None else self.last_cause.value,
            "reduced": self.reduced,
            "recoveries": self.recoveries,
            "escalations": self.escalations,
        }

    def _end_test(self, admission: Admission) -> bool:
        """Free the test's place; whether the admission was the test of this epoch."""
        is_mine = admission.is_test and admission.epoch == self._epoch
        if is_mine:
            self._begin_epoch()
        return is_mine

    def _begin_epoch(self) -> None:
        self._epoch += 1
        self._is_testing = False

    def _open(self) -> None:
        now = self._clock.monotonic()
        self._begin_epoch()
        # First what was due: whoever listens hears of a half-open state that nobody asked for in time.
        before = self.state
        self._half_open_at = now + self._settings.cooldown_seconds
        if before is not BreakerState.OPEN:
            self._enter(BreakerState.OPEN, now)

    def _escalates(self) -> bool:
        now, window = self._clock.monotonic(), self._settings.escalation_seconds
        self._recent_trips.append(now)
        is_full = len(self._recent_trips) == self._settings.escalation_trips
        if not is_full or now - self._recent_trips[0] >= window:
            return False
        if self._escalated_at is not None and now - self._escalated_at < window:
            return False
        self._escalated_at = now
        return True

    def _enter(self, state: BreakerState, at_seconds: float) -> None:
        transition = BreakerTransition(previous=self._state, state=state, at_seconds=at_seconds)
        self._state = state
        for listener in self._listeners:
            listener(transition)
