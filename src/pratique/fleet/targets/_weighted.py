"""A target of two weighted slots on a platform: reads what runs, plans, takes one step after the other.

Nothing is remembered between two calls, and before each step what runs is read again: where it is not what the plan
began with, somebody else is at it, and nothing more is done. No platform here has conditional writes for its weights,
so this narrows the race and does not close it; that two promotions never run at once is the ledger's promise.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from pratique.fleet.targets._cloudwatch import Metrics
from pratique.fleet.targets._slots import (
    Deploy,
    SlotName,
    Slots,
    Step,
    apply,
    is_as_expected,
    plan_abort,
    plan_canary,
    plan_promotion,
    require_digest,
)
from pratique.fleet.targets.interface import Deployment, Health, TargetError, Window

__all__ = ["Patience", "Platform", "WeightedTarget"]


@dataclass(frozen=True, slots=True)
class Patience:
    """How long something is waited for, and how often it is asked whether it holds."""

    seconds: float
    pause_seconds: float

    def wait_until(self, holds: Callable[[], bool]) -> bool:
        """Return whether it held before the time was up."""
        deadline = time.monotonic() + self.seconds
        while not holds():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(self.pause_seconds, left))
        return True


class Platform(Protocol):
    """What a platform can do with two slots. Each raises TargetError where it does not do it within its time."""

    @property
    def name(self) -> str:
        """As the ledger calls it."""
        ...

    def read(self) -> Slots:
        """Say what runs."""
        ...

    def settle(self) -> Slots:
        """Wait until the platform takes changes, and say what runs."""
        ...

    def take(self, step: Step, slots: Slots) -> None:
        """Take a step from what runs; return when it is done."""
        ...

    def health(self, slot: SlotName) -> Health:
        """Ask for the health of what is in a slot."""
        ...

    def measure(self, metrics: Metrics, slot: SlotName) -> dict[str, list[float]]:
        """Return what was measured of a slot."""
        ...


@dataclass(frozen=True, slots=True)
class WeightedTarget:
    """A target over a platform."""

    platform: Platform
    first_count: int
    """How many replicas a first release gets."""
    keep: bool
    """Whether a release that lost its traffic to a promotion stays ready."""
    lag_seconds: float
    """How long measurements take to be whole."""
    clock: Callable[[], float] = time.time

    @property
    def name(self) -> str:
        """As the ledger calls it."""
        return self.platform.name

    def deployment(self) -> Deployment:
        """Say what takes traffic, as the platform says it."""
        return self.platform.read().deployment()

    def start_canary(self, digest: str, *, share: float) -> None:
        """Run a digest in the other slot, with a share of the traffic below one half."""
        require_digest(digest)
        self._change(lambda slots: plan_canary(slots, digest, share=share))

    def promote(self, digest: str) -> None:
        """Give a digest all traffic."""
        require_digest(digest)
        self._change(lambda slots: plan_promotion(slots, digest, first_count=self.first_count, keep=self.keep))

    def abort_canary(self) -> None:
        """Give the stable one all traffic, then end the candidate."""
        self._change(lambda slots: plan_abort(slots, keep=self.keep))

    def health(self, digest: str) -> Health:
        """Ask for the health of a digest that takes traffic."""
        slot = self.platform.read().holding(digest)
        if slot is None:
            return Health(is_healthy=False, num_ready=0, num_wanted=0, reason="it takes no traffic")
        return self.platform.health(slot)

    def measure(self, *, seconds: float) -> Window:
        """Return what CloudWatch has of both, for the whole minutes among the last seconds."""
        slots = self.platform.read()
        live = slots.live()
        metrics = Metrics.during(seconds, now=self.clock(), lag_seconds=self.lag_seconds)
        if live is None or metrics is None:
            return Window({}, {})
        other: SlotName = "b" if live == "a" else "a"
        candidate = self.platform.measure(metrics, other) if slots.at(other).has_traffic else {}
        return Window(self.platform.measure(metrics, live), candidate)

    def _change(self, plan: Callable[[Slots], Sequence[Step]]) -> None:
        expected = self.platform.settle()
        steps = plan(expected)
        for number, step in enumerate(steps):
            if number:
                self._require(expected, step)
            self.platform.take(step, expected)
            expected = apply(expected, step)
        if steps and not isinstance(steps[-1], Deploy):
            self._require(expected, None)

    def _require(self, expected: Slots, step: Step | None) -> None:
        seen = self.platform.read()
        if not is_as_expected(seen, expected, step):
            raise TargetError(
                f"'{self.name}' is not as this change left it: expected {_say(expected)}, got {_say(seen)}",
                hint="Somebody else changes it at the same time. See who; then promote or roll back again.",
            )


def _say(slots: Slots) -> str:
    return " and ".join(
        f"{name}: {slot.digest or 'nothing'} with {slot.weight} of 1000 parts, {slot.count} replicas"
        for name, slot in (("a", slots.a), ("b", slots.b))
    )
