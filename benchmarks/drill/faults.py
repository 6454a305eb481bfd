"""What is broken, and when: a schedule drawn from a seed. Pure, so that a run can be repeated by its seed."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Fault", "Kind", "Part", "draw_faults", "parts_of"]


class Kind(enum.Enum):
    """How a part is broken."""

    KILL = "kill"
    """SIGKILL; its supervisor starts it again."""
    RESTART = "restart"
    """SIGTERM, drain, start: what a rollout does."""
    PAUSE = "pause"
    """SIGSTOP, later SIGCONT: a machine that swaps, a hung disk, a long garbage collection."""
    CUT = "cut"
    """Connections are reset and new ones refused."""
    SILENCE = "silence"
    """Packets vanish both ways; no reset tells anybody."""
    HALF_OPEN = "half_open"
    """Packets vanish on the way back only: requests arrive, answers do not."""
    DELAY = "delay"
    """Each way takes long."""
    LOCK = "lock"
    """Somebody else holds the store's write lock."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """What can be broken: a process, a link between two, or the store."""

    name: str
    role: str
    """Names all parts that play the same part: "orchestrator", "edge > orchestrator"."""
    kinds: tuple[Kind, ...]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that is broken for a while. Seconds since the load began."""

    number: int
    kind: Kind
    part: Part
    begins: float
    lasts: float
    """0 for what is over at once, and only its consequences last."""

    @property
    def label(self) -> str:
        """What it is counted under."""
        return f"{self.kind.value} {self.part.role}"


_PROCESS: Final = (Kind.KILL, Kind.RESTART, Kind.PAUSE)
_LINK: Final = (Kind.CUT, Kind.SILENCE, Kind.HALF_OPEN, Kind.DELAY)
_LASTING_SECONDS: Final = (0.5, 6.0)
_QUIET_SECONDS: Final = (2.0, 5.0)
_CHANCE_OF_TWO: Final = 0.2
_FIRST_SECONDS: Final = 2.0


def parts_of(*, orchestrators: int, inference: int) -> tuple[Part, ...]:
    """Return what a stack of that size consists of."""
    replicas = [f"orchestrator-{number}" for number in range(orchestrators)]
    servers = [f"inference-{number}" for number in range(inference)]
    return (
        *(Part(name=name, role="orchestrator", kinds=_PROCESS) for name in replicas),
        *(Part(name=name, role="inference", kinds=_PROCESS) for name in servers),
        Part(name="valkey", role="valkey", kinds=_PROCESS),
        Part(name="edge", role="edge", kinds=_PROCESS),
        Part(name="clients > edge", role="clients > edge", kinds=_LINK),
        *(Part(name=f"edge > {name}", role="edge > orchestrator", kinds=_LINK) for name in replicas),
        *(Part(name=f"edge > {name}", role="edge > inference", kinds=_LINK) for name in servers),
        *(Part(name=f"{name} > valkey", role="orchestrator > valkey", kinds=_LINK) for name in replicas),
        Part(name="store", role="store", kinds=(Kind.LOCK,)),
    )


def draw_faults(parts: Sequence[Part], *, seed: int, seconds: float) -> tuple[Fault, ...]:
    """Return faults that have begun and ended within so many seconds.

    Every kind of fault comes once before any comes again; one in five begins while another one lasts.
    """
    dice = Random(seed)  # noqa: S311 - repeatable
    kinds = _deck(parts, dice)
    faults: list[Fault] = []
    begins = _FIRST_SECONDS
    while True:
        kind, role = next(kinds)
        part = dice.choice([part for part in parts if part.role == role])
        lasts = 0.0 if kind in {Kind.KILL, Kind.RESTART} else round(dice.uniform(*_LASTING_SECONDS), 2)
        if begins + lasts > seconds:
            return tuple(faults)
        faults.append(Fault(number=len(faults) + 1, kind=kind, part=part, begins=round(begins, 2), lasts=lasts))
        is_double = dice.random() < _CHANCE_OF_TWO
        quiet = dice.uniform(*_QUIET_SECONDS)
        begins += min(lasts, 1.0) / 2 if is_double else lasts + quiet


def _deck(parts: Sequence[Part], dice: Random) -> Iterator[tuple[Kind, str]]:
    cards = sorted({(kind.value, part.role) for part in parts for kind in part.kinds})
    while True:
        dice.shuffle(cards)
        for kind, role in cards:
            yield Kind(kind), role
