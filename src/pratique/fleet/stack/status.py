"""What a stack says of itself: the schema of `pratique status --json`, and how it is made from snapshots. Pure.

Version 1. Fields are added, never changed; a program ignores those that it does not know.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from pratique.fleet.processes.lifecycle import Phase

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pratique.fleet.processes.service import Snapshot

__all__ = [
    "SCHEMA_VERSION",
    "ServiceStatus",
    "StackState",
    "StackStatus",
    "Startup",
    "StartupVerdict",
    "assess_startup",
    "assess_state",
    "make_service_status",
]

SCHEMA_VERSION: Final = 1
_HOPELESS_FAILURES: Final = 3
"""Failures in a row without having been ready once: what is wrong will not go away while somebody waits for it."""


class StackState(enum.Enum):
    """The stack as a whole."""

    STARTING = "starting"
    READY = "ready"
    """At least one of each service takes traffic: a person can chat."""
    DEGRADED = "degraded"
    """It was ready, and now some kind of service has none that takes traffic."""
    STOPPING = "stopping"
    STOPPED = "stopped"


class ServiceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One service. Durations in seconds."""

    name: str
    kind: str
    state: str
    """Its supervisor's view: waiting, starting, ready, unready, backing_off, stopping, stopped, failed."""
    ready: bool
    address: str
    pid: int | None = None
    detail: str = ""
    progress: float | None = None
    """0…1 of the present phase."""
    eta_seconds: float | None = None
    since_seconds: float = 0.0
    restarts: int = 0
    failures: int = 0
    restart_in_seconds: float | None = None
    last_exit: str = ""
    last_log: str = ""
    memory_bytes: int | None = None
    """Of the process and all it started; shared pages counted once."""
    lifecycle: str | None = None
    """A model server's own state, for example model_loaded."""
    model: str | None = None
    timings: dict[str, float] = {}
    """A model server's start: seconds by phase."""


class StackStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The whole stack."""

    schema_version: int = SCHEMA_VERSION
    state: StackState
    state_dir: str
    pid: int | None = None
    url: str = ""
    engine: str = ""
    started_at: float | None = None
    uptime_seconds: float = 0.0
    supervisor_memory_bytes: int | None = None
    services: tuple[ServiceStatus, ...] = ()


def make_service_status(snapshot: Snapshot, now: float, memory_bytes: int | None) -> ServiceStatus:
    """Return what is published of a snapshot."""
    model = snapshot.model
    return ServiceStatus(
        name=snapshot.name,
        kind=snapshot.kind,
        state=snapshot.phase.value,
        ready=snapshot.phase is Phase.READY,
        address=snapshot.address,
        pid=snapshot.pid,
        detail=snapshot.detail,
        progress=snapshot.progress,
        eta_seconds=snapshot.eta_seconds,
        since_seconds=round(now - snapshot.since, 3),
        restarts=snapshot.restarts,
        failures=snapshot.failures,
        restart_in_seconds=None if snapshot.restart_at is None else round(max(snapshot.restart_at - now, 0), 3),
        last_exit=snapshot.last_exit,
        last_log=snapshot.last_log,
        memory_bytes=memory_bytes,
        lifecycle=model.state if model else None,
        model=model.model if model else None,
        timings=model.timings if model else {},
    )


def assess_state(snapshots: Iterable[Snapshot], *, was_ready: bool, is_stopping: bool) -> StackState:
    """Return the state of the whole from the states of its parts."""
    if is_stopping:
        return StackState.STOPPING
    if not was_ready:
        return StackState.STARTING
    return StackState.READY if all(_by_kind_ready(snapshots).values()) else StackState.DEGRADED


class Startup(enum.Enum):
    """How far a start is."""

    PENDING = "pending"
    SERVING = "serving"
    """Every kind of service has one that is ready; whether the edge lets them be reached is asked next."""
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class StartupVerdict:
    """The answer, and the service that keeps the stack from starting."""

    startup: Startup
    culprit: Snapshot | None = None


def assess_startup(snapshots: Iterable[Snapshot], was_ready: Mapping[str, bool]) -> StartupVerdict:
    """Decide whether a start has come to its end.

    It failed where every service of some kind has failed for good or again and again, never having been ready;
    those that still wait for one of them count with it.
    """
    taken = list(snapshots)
    if all(_by_kind_ready(taken).values()):
        return StartupVerdict(startup=Startup.SERVING)
    for kind in {snapshot.kind for snapshot in taken}:
        started = [found for found in taken if found.kind == kind and found.phase is not Phase.WAITING]
        if started and all(_is_hopeless(found) and not was_ready[found.name] for found in started):
            return StartupVerdict(startup=Startup.FAILED, culprit=started[0])
    return StartupVerdict(startup=Startup.PENDING)


def _is_hopeless(snapshot: Snapshot) -> bool:
    return snapshot.phase is Phase.FAILED or snapshot.failures >= _HOPELESS_FAILURES


def _by_kind_ready(snapshots: Iterable[Snapshot]) -> dict[str, bool]:
    ready: dict[str, bool] = {}
    for snapshot in snapshots:
        ready[snapshot.kind] = ready.get(snapshot.kind, False) or snapshot.phase is Phase.READY
    return ready
