"""How near is the container to the memory limit at which the kernel kills? Readings in, a verdict out. Pure.

Only a limit can be judged. Where there is none the head-room is what the machine has available, and the verdict is
always OK: what fills a whole machine need not be this server, and refusing its requests would not help.

File cache that the kernel can take back counts as used but kills nobody: the working set is what is used without it.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from pratique.core.clock import Clock
from pratique.inference.settings import ContainmentSettings

__all__ = ["GroupMemory", "MemoryReading", "MemoryVerdict", "MemoryWatch", "was_oom_kill"]

_LEAVE_SHARE: Final = 0.97
"""Of a share that was crossed: below it that is over. By default shedding begins at 92 % of the limit, ends at 89 %."""
_MAX_FLAWED_READINGS: Final = 3


class MemoryVerdict(enum.Enum):
    """What is to be done."""

    OK = "ok"
    SHED = "shed"
    """Refuse new requests; what runs goes on."""
    TRIP = "trip"
    """Drop what runs, too, before the kernel ends all of it."""


@dataclass(frozen=True, kw_only=True)
class GroupMemory:
    """One memory cgroup: this process's, or one above it."""

    name: str
    """Its folder."""
    used_bytes: int
    limit_bytes: int | None
    """None: it has none, or one that is larger than the machine."""
    reclaimable_bytes: int = 0
    """Inactive file cache."""

    @property
    def working_set_bytes(self) -> int:
        """What is used and cannot simply be taken back."""
        return max(self.used_bytes - self.reclaimable_bytes, 0)

    @property
    def headroom_bytes(self) -> int | None:
        """What is left below the limit; None without one."""
        return None if self.limit_bytes is None else max(self.limit_bytes - self.working_set_bytes, 0)

    @property
    def share(self) -> float:
        """Working set to limit; 0 without a limit, 1 or more where nothing is left."""
        if self.limit_bytes is None:
            return 0.0
        return self.working_set_bytes / self.limit_bytes if self.limit_bytes > 0 else 1.0


@dataclass(frozen=True, kw_only=True)
class MemoryReading:
    """What could be read at one moment."""

    groups: tuple[GroupMemory, ...] = ()
    """This process's own first, then those above it."""
    available_bytes: int | None = None
    """Of the machine (MemAvailable)."""
    num_oom_kills: int | None = None
    """Processes of the own group that the kernel killed for memory, ever."""
    problems: tuple[str, ...] = ()
    """What could not be read, and why."""

    @property
    def tightest(self) -> GroupMemory | None:
        """The group that is nearest to its limit, where there is a limit at all."""
        limited = [group for group in self.groups if group.limit_bytes is not None]
        return max(limited, key=lambda group: group.share, default=None)

    @property
    def headroom_bytes(self) -> int | None:
        """What may still be used before the first limit, or the machine, is reached; None where nothing is known."""
        rooms = [group.headroom_bytes for group in self.groups] + [self.available_bytes]
        return min((room for room in rooms if room is not None), default=None)

    def snapshot(self) -> dict[str, object]:
        """Return what /status shows; bytes."""
        group = self.tightest or next(iter(self.groups), None)
        return {
            "cgroup": None if group is None else group.name,
            "used_bytes": None if group is None else group.used_bytes,
            "limit_bytes": None if group is None else group.limit_bytes,
            "working_set_bytes": None if group is None else group.working_set_bytes,
            "headroom_bytes": self.headroom_bytes,
            "available_bytes": self.available_bytes,
            "oom_kills": self.num_oom_kills,
            "problems": list(self.problems),
        }


class MemoryWatch:
    """Judges readings one after another.

    `settings` give `shed_share`, `trip_share`, and `cooldown_seconds`: the time that a trip has to show an effect.
    """

    def __init__(self, clock: Clock, settings: ContainmentSettings) -> None:
        self._clock = clock
        self._shed_share = min(settings.shed_share, settings.trip_share)
        self._trip_share = settings.trip_share
        self._cooldown_seconds = settings.cooldown_seconds
        self._tripped_at: float | None = None
        self._is_shedding = False
        self._num_flawed = 0

    @property
    def is_shedding(self) -> bool:
        """Whether new requests are to be refused, as of the last reading."""
        return self._is_shedding

    def assess(self, reading: MemoryReading) -> MemoryVerdict:
        """Judge one reading.

        TRIP comes when the share is crossed, and again after each cool-down in which it was not left; between them it
        is SHED. A reading with problems does not end shedding, for three in a row: what it lacks may be the very group
        that is short. After that it counts as it is, because a watchdog that lost its sight must not keep a server
        closed for ever.
        """
        self._num_flawed = self._num_flawed + 1 if reading.problems else 0
        is_held = self._is_shedding and 0 < self._num_flawed <= _MAX_FLAWED_READINGS
        share = 0.0 if reading.tightest is None else reading.tightest.share
        enough = self._shed_share * _LEAVE_SHARE if self._is_shedding else self._shed_share
        self._is_shedding = is_held or share >= enough
        if share < self._trip_share * _LEAVE_SHARE and not is_held:
            self._tripped_at = None
        if share >= self._trip_share and self._has_cooled_down():
            self._tripped_at = self._clock.monotonic()
            return MemoryVerdict.TRIP
        return MemoryVerdict.SHED if self._is_shedding else MemoryVerdict.OK

    def _has_cooled_down(self) -> bool:
        return self._tripped_at is None or self._clock.monotonic() - self._tripped_at >= self._cooldown_seconds


def was_oom_kill(before: int | None, after: int | None) -> bool:
    """Whether the kernel killed for memory between two counts (`MemoryReading.num_oom_kills`); an unknown one is no."""
    return before is not None and after is not None and after > before
