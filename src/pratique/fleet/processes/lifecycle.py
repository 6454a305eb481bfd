"""The phases of a supervised service, and which may follow which. Pure."""

from __future__ import annotations

import enum
from typing import Final

__all__ = ["IllegalPhaseError", "Phase", "follow"]


class Phase(enum.Enum):
    """Where a service is, seen from its supervisor. What happens inside is for the service's own status to say."""

    WAITING = "waiting"
    """For another service, before its first start."""
    STARTING = "starting"
    READY = "ready"
    UNREADY = "unready"
    """Runs and was ready, and says now that it is not."""
    BACKING_OFF = "backing_off"
    """Ended, will be started again."""
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"
    """Ended, will not be started again by itself."""


_RUNNING_ENDS: Final = {Phase.BACKING_OFF, Phase.FAILED, Phase.STOPPING}
_FOLLOWS: Final[dict[Phase, set[Phase]]] = {
    Phase.WAITING: {Phase.STARTING, Phase.STOPPED},
    Phase.STARTING: {Phase.READY} | _RUNNING_ENDS,
    Phase.READY: {Phase.UNREADY} | _RUNNING_ENDS,
    Phase.UNREADY: {Phase.READY} | _RUNNING_ENDS,
    Phase.BACKING_OFF: {Phase.STARTING, Phase.STOPPED},
    Phase.STOPPING: {Phase.STOPPED},
    Phase.STOPPED: {Phase.STARTING},
    Phase.FAILED: {Phase.STARTING, Phase.STOPPED},
}


class IllegalPhaseError(RuntimeError):
    """The supervisor has lost track of a service: a programming error."""


def follow(current: Phase, wanted: Phase) -> Phase:
    """Return `wanted`, or raise where it cannot come after `current`."""
    if wanted is not current and wanted not in _FOLLOWS[current]:
        expected = ", ".join(sorted(phase.value for phase in _FOLLOWS[current]))
        raise IllegalPhaseError(f"After '{current.value}' comes one of {expected}; not '{wanted.value}'.")
    return wanted
