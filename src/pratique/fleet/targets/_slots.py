"""Two slots that share the traffic by weight, and the steps that bring them where they should be. Pure.

A release stays in its slot for life; what moves is the weight. The weights are the whole state: the slot with the
greater one has the stable release, the other one, where it has any, the candidate. So there is no second place that
could say something else, and one write moves the traffic.

A plan is made anew from what runs, so whatever an interrupted one left is finished or taken back by the next. Traffic
that has to go back goes first; a slot gets traffic only after what is in it is ready.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from pratique.core.errors import CallerError
from pratique.fleet.targets.interface import Deployment, TargetError

__all__ = [
    "OTHER",
    "PARTS",
    "SLOTS",
    "Deploy",
    "Retire",
    "Shift",
    "Slot",
    "SlotName",
    "Slots",
    "Step",
    "apply",
    "is_as_expected",
    "parts_of",
    "plan_abort",
    "plan_canary",
    "plan_promotion",
    "require_digest",
]

SlotName = Literal["a", "b"]
SLOTS: Final[tuple[SlotName, SlotName]] = ("a", "b")
OTHER: Final[dict[SlotName, SlotName]] = {"a": "b", "b": "a"}
PARTS: Final = 1000
"""What all traffic is divided into."""
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Slot:
    """What is in a slot."""

    digest: str | None = None
    """None: nothing, or an image that is not named by its digest."""
    weight: int = 0
    """Of `PARTS`."""
    count: int = 0
    """Tasks or instances that should run; 0: nothing does."""

    @property
    def has_traffic(self) -> bool:
        return self.weight > 0 and self.count > 0


@dataclass(frozen=True, slots=True)
class Slots:
    """Both slots."""

    a: Slot = Slot()
    b: Slot = Slot()

    def at(self, name: SlotName) -> Slot:
        return self.a if name == "a" else self.b

    @property
    def weights(self) -> dict[SlotName, int]:
        return {"a": self.a.weight, "b": self.b.weight}

    def live(self) -> SlotName | None:
        """Return the slot of the stable release; None where nothing takes traffic.

        Raises:
            TargetError: the weights do not say which it is, or it runs an image by a tag.
        """
        if not (self.a.has_traffic or self.b.has_traffic):
            return None
        name: SlotName = "a" if self.a.weight > self.b.weight else "b"
        if self.a.weight == self.b.weight or not self.at(name).has_traffic:
            raise TargetError(
                f"the weights {self.weights} of slots with {self.a.count} and {self.b.count} replicas do not say which"
                " release is stable: expected it to run, with the greater weight",
                hint="Give the release that you trust all traffic, by hand.",
            )
        if self.at(name).digest is None:
            raise TargetError(
                f"slot '{name}' runs an image that is not named by its digest",
                hint="Deploy what runs by repository@sha256:… first.",
            )
        return name

    def holding(self, digest: str) -> SlotName | None:
        """Return the slot where a digest takes traffic."""
        return next((name for name in SLOTS if self.at(name).digest == digest and self.at(name).has_traffic), None)

    def deployment(self) -> Deployment:
        """Return what takes traffic.

        Raises:
            TargetError: it cannot be told.
        """
        live = self.live()
        if live is None:
            return Deployment(None)
        other = self.at(OTHER[live])
        if not other.has_traffic:
            return Deployment(self.at(live).digest)
        if other.digest is None:
            raise TargetError(f"slot '{OTHER[live]}' has traffic and an image that is not named by its digest")
        return Deployment(self.at(live).digest, other.digest, other.weight / PARTS)


@dataclass(frozen=True, slots=True)
class Deploy:
    """Have a digest ready in a slot, without traffic unless the slot has it already."""

    slot: SlotName
    digest: str
    count: int


@dataclass(frozen=True, slots=True)
class Shift:
    """Share the traffic."""

    a: int
    b: int

    def weight(self, name: SlotName) -> int:
        return self.a if name == "a" else self.b


@dataclass(frozen=True, slots=True)
class Retire:
    """Let what is in a slot without traffic finish its requests, and end it."""

    slot: SlotName


Step = Deploy | Shift | Retire


def require_digest(digest: str) -> None:
    """Refuse what is no digest, above all a tag.

    Raises:
        CallerError: it is none.
    """
    if not _DIGEST.fullmatch(digest):
        raise CallerError(f"expected a digest, sha256: and 64 hexadecimal digits, got '{digest}'")


def parts_of(a: float, b: float) -> tuple[int, int]:
    """Return two weights in `PARTS`; what is more than 0 stays so."""
    total = a + b
    if total <= 0:
        return 0, 0
    part = round(a / total * PARTS)
    if a > 0 and b > 0:
        part = min(max(part, 1), PARTS - 1)
    return part, PARTS - part


def plan_canary(slots: Slots, digest: str, *, share: float) -> tuple[Step, ...]:
    """Return the steps to a digest beside the stable one, with a share of the traffic.

    Raises:
        TargetError: nothing runs that it could be beside, or the share cannot be told from the stable one's.
    """
    part = round(share * PARTS) if 0 < share < 1 else 0
    if not 0 < part < PARTS / 2:
        raise TargetError(f"the share of a canary must be between 0 and 1/2, in parts of 1/{PARTS}, got {share:g}")
    live = slots.live()
    if live is None:
        raise TargetError("there is nothing to run a canary beside", hint="Promote a first release.")
    if slots.at(live).digest == digest:
        return ()
    other = OTHER[live]
    canary = _shift({live: PARTS - part, other: part})
    steps: list[Step] = [Deploy(other, digest, slots.at(live).count), canary]
    if slots.at(other).weight and slots.at(other).digest != digest:
        return (_all_to(live), *steps)
    return tuple(steps) if canary != _now(slots) else (steps[0],)


def plan_promotion(slots: Slots, digest: str, *, first_count: int, keep: bool) -> tuple[Step, ...]:
    """Return the steps to all traffic for a digest.

    Args:
        slots: what runs.
        digest: what should.
        first_count: how many replicas it gets where nothing runs that says how many.
        keep: whether what had the traffic stays, without any, ready to get it back.
    """
    live = slots.live()
    if live is None:
        slot: SlotName = "b" if slots.b.digest == digest else "a"
        return (Deploy(slot, digest, first_count), _all_to(slot))
    if slots.at(live).digest == digest:
        return plan_abort(slots, keep=keep)
    slot = OTHER[live]
    back = (_all_to(live),) if slots.at(slot).weight and slots.at(slot).digest != digest else ()
    count = max(slots.at(live).count, slots.at(slot).count)
    retire = () if keep else (Retire(live),)
    return (*back, Deploy(slot, digest, count), _all_to(slot), *retire)


def plan_abort(slots: Slots, *, keep: bool) -> tuple[Step, ...]:
    """Return the steps to all traffic for the stable one; what has none already is ended unless it is kept."""
    live = slots.live()
    if live is None:
        return ()
    other = slots.at(OTHER[live])
    if other.weight:
        return (_all_to(live), Retire(OTHER[live])) if other.count else (_all_to(live),)
    return (Retire(OTHER[live]),) if other.count and not keep else ()


def apply(slots: Slots, step: Step) -> Slots:
    """Return what should run after a step."""
    if isinstance(step, Shift):
        return Slots(replace(slots.a, weight=step.a), replace(slots.b, weight=step.b))
    before = slots.at(step.slot)
    if isinstance(step, Deploy):
        after = replace(before, digest=step.digest, count=max(before.count, step.count))
    else:
        after = replace(before, count=0)
    return Slots(a=after, b=slots.b) if step.slot == "a" else Slots(a=slots.a, b=after)


def is_as_expected(seen: Slots, expected: Slots, step: Step | None = None) -> bool:
    """Whether the traffic goes where it should, and what a step would give traffic to is what was made ready.

    Where nothing should have traffic yet, whatever has it is left to the step.
    """
    if isinstance(step, Shift):
        for name in SLOTS:
            if step.weight(name) and (seen.at(name).digest, seen.at(name).count > 0) != (
                expected.at(name).digest,
                True,
            ):
                return False
    wanted = _traffic(expected)
    return not wanted or _traffic(seen) == wanted


def _traffic(slots: Slots) -> dict[SlotName, tuple[str | None, int]]:
    return {name: (slots.at(name).digest, slots.at(name).weight) for name in SLOTS if slots.at(name).has_traffic}


def _now(slots: Slots) -> Shift:
    return Shift(slots.a.weight, slots.b.weight)


def _all_to(name: SlotName) -> Shift:
    return _shift({name: PARTS, OTHER[name]: 0})


def _shift(weights: Mapping[SlotName, int]) -> Shift:
    return Shift(weights["a"], weights["b"])
