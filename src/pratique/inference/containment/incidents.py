"""What went wrong and what was done about it: the last of it with times, for /status; and why an engine died.

The record is bounded, in number and in length of text. Counting is the metrics' business, which forget nothing.
"""

from __future__ import annotations

import enum
import re
import signal
from collections import deque
from dataclasses import dataclass
from typing import Final

from pratique.core.clock import Clock
from pratique.inference.containment.memory import was_oom_kill
from pratique.inference.errors import DeathCause

__all__ = ["Incident", "IncidentKind", "Incidents", "classify"]

_MAX_KEPT: Final = 100
_MAX_DETAIL_CHARACTERS: Final = 300
_MAX_SAID_CHARACTERS: Final = 1 << 16

_OUT_OF_MEMORY: Final = re.compile(
    r"""
      \bOutOfMemoryError\b                                    # torch (cuda, xpu, mps)
    | \b(?:CUDA|HIP|XPU|MPS|NCCL)\b[^\n]{0,80}\bout\ of\ memory\b
    | \bcudaErrorMemoryAllocation\b | \bCUDA_ERROR_OUT_OF_MEMORY\b
    | \b(?:CUBLAS|CUDNN|CUSPARSE|CUSOLVER)_STATUS_ALLOC_FAILED\b
    | \bDefaultCPUAllocator:[^\n]{0,20}\b(?:not\ enough|can't\ allocate)\ memory\b
    | \bcan(?:'t|not)\ allocate\ memory\b                     # errno ENOMEM, and others' words for it
    | \b_?(?:Array)?MemoryError\b                             # Python, numpy
    | \bstd::bad_alloc\b                                      # C++
    | \bmemory\ allocation\ of\ \d+\ bytes\ failed\b          # Rust
    | \bRESOURCE_EXHAUSTED\b
    | \bunable\ to\ allocate\ shared\ memory\b                # torch over a full /dev/shm
    | \bNo\ available\ memory\ for\ the\ cache\ blocks\b      # vLLM: nothing is left for KV blocks
    | \bFree\ memory\ on\ device\b[^\n]{0,120}\bis\ less\ than\ desired\b  # vLLM: somebody else holds it
    """,
    re.VERBOSE | re.IGNORECASE,
)
_KILLS: Final = frozenset(
    {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGXCPU}
)
"""Signals that come from outside. The others (SIGSEGV, SIGABRT, SIGBUS …) are a process's own failure."""
_SHELL_BASE: Final = 128
"""A shell, and a container's runtime, reports death by signal n as exit code 128 + n."""


class IncidentKind(enum.Enum):
    """What happened."""

    TRIP = "trip"
    """The breaker opened."""
    ESCALATION = "escalation"
    """Trips were too many in too short a time."""
    FLUSH = "flush"
    """The engine was made to drop everything that ran."""
    RESTART = "restart"
    """The engine was started anew in this process."""
    RESTART_FAILED = "restart_failed"
    RECOVERY = "recovery"
    """The breaker closed again."""


@dataclass(frozen=True, kw_only=True)
class Incident:
    """One thing that happened."""

    number: int
    """Counted from 1, the dropped ones too."""
    kind: IncidentKind
    at_epoch: float
    """Seconds since 1970 UTC."""
    cause: DeathCause | None
    detail: str
    seconds: float | None
    """How long it took, for what takes time."""


class Incidents:
    """The last incidents, oldest first."""

    def __init__(self, clock: Clock, *, max_kept: int = _MAX_KEPT) -> None:
        self._clock = clock
        self._kept: deque[Incident] = deque(maxlen=max_kept)
        self.num_recorded = 0

    @property
    def kept(self) -> tuple[Incident, ...]:
        return tuple(self._kept)

    def record(
        self, kind: IncidentKind, *, cause: DeathCause | None = None, detail: str = "", seconds: float | None = None
    ) -> Incident:
        """Add what happened now; the oldest is forgotten where there are too many."""
        self.num_recorded += 1
        incident = Incident(
            number=self.num_recorded,
            kind=kind,
            at_epoch=self._clock.epoch(),
            cause=cause,
            detail=_shortened(detail),
            seconds=seconds,
        )
        self._kept.append(incident)
        return incident

    def snapshot(self) -> list[dict[str, object]]:
        """Return what /status shows."""
        return [
            {
                "number": incident.number,
                "kind": incident.kind.value,
                "at_epoch": round(incident.at_epoch, 3),
                "cause": None if incident.cause is None else incident.cause.value,
                "detail": incident.detail,
                "seconds": None if incident.seconds is None else round(incident.seconds, 3),
            }
            for incident in self._kept
        ]


def classify(
    exit_code: int | None, said: str, *, oom_kills_before: int | None, oom_kills_after: int | None
) -> DeathCause:
    """Say why an engine's process ended, as far as it can be told.

    Args:
        exit_code: as Python's `subprocess` and `multiprocessing` give it (-9 for SIGKILL) or as shells do (137); None
            where it is unknown, or the process itself goes on and only its loop ended.
        said: the last of what it wrote or raised. Only an allocator's own words count, so that a prompt which speaks of
            memory and ended up in a log is not taken for one. The last 64 Ki characters are read.
        oom_kills_before: `MemoryReading.num_oom_kills` when it was last known to live; None where unknown.
        oom_kills_after: the same after its end.

    A hung engine is not recognised here: whoever ended it for that knows the cause.
    """
    if _OUT_OF_MEMORY.search(said[-_MAX_SAID_CHARACTERS:]):
        return DeathCause.OUT_OF_MEMORY
    number = _signal_of(exit_code)
    # Without an exit code a new kill is the best explanation there is.
    could_be_kernel = exit_code is None or number == signal.SIGKILL
    if could_be_kernel and was_oom_kill(oom_kills_before, oom_kills_after):
        return DeathCause.OUT_OF_MEMORY
    return DeathCause.KILLED if number in _KILLS else DeathCause.CRASHED


def _signal_of(exit_code: int | None) -> int | None:
    if exit_code is None:
        return None
    if exit_code < 0:
        return -exit_code
    return exit_code - _SHELL_BASE if exit_code > _SHELL_BASE else None


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _MAX_DETAIL_CHARACTERS else line[: _MAX_DETAIL_CHARACTERS - 1] + "…"
