"""What a model server says of itself: phases with their times, progress, an estimate of what is left.

Progress inside a phase is the share of the time that the same phase took in the last start of this model on this
machine: an estimate, never 100 % before the phase is over.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import psutil

from pratique.core.clock import Clock
from pratique.inference.lifecycle import Lifecycle

__all__ = ["PHASES", "Phases", "load_last_timings", "memory_bytes", "render_status", "save_timings"]

PHASES: Final = ("imports", "load", "warmup")
_MOST_PROGRESS: Final = 0.99


class Phases:
    """Which phase the start is in, and how long the ones before took."""

    def __init__(self, clock: Clock, *, expected_seconds: dict[str, float]) -> None:
        self._clock = clock
        self._expected = expected_seconds
        self._current: str | None = None
        self._began = 0.0
        self.detail = "starting"
        self.timings: dict[str, float] = {}

    def enter(self, phase: str, detail: str) -> None:
        """Begin a phase, ending the one before."""
        if phase != self._current:
            self._close()
            self._current, self._began = phase, self._clock.monotonic()
        self.detail = detail

    def finish(self, detail: str) -> None:
        """End the last phase."""
        self._close()
        self._current, self.detail = None, detail

    def progress(self) -> float | None:
        """0…1 of the present phase, or None where the last start left no measure."""
        expected = self._expected.get(self._current or "")
        if not expected:
            return None
        return min((self._clock.monotonic() - self._began) / expected, _MOST_PROGRESS)

    def eta_seconds(self) -> float | None:
        """Seconds until ready, as the last start went."""
        if self._current not in PHASES or any(phase not in self._expected for phase in PHASES):
            return None
        later = PHASES[PHASES.index(self._current) + 1 :]
        here = self._expected[self._current] - (self._clock.monotonic() - self._began)
        return max(here, 0.0) + sum(self._expected[phase] for phase in later)

    def _close(self) -> None:
        if self._current is not None:
            self.timings[self._current] = round(self._clock.monotonic() - self._began, 3)


def render_status(
    *,
    name: str,
    model: str,
    engine: str,
    lifecycle: Lifecycle,
    phases: Phases,
    warmup: tuple[Sequence[str], Sequence[str]],
) -> dict[str, object]:
    """Return the body of /status."""
    done, pending = warmup
    return {
        "schema_version": 1,
        "name": name,
        "model": model,
        "engine": engine,
        "state": lifecycle.state.value,
        "detail": phases.detail,
        "progress": phases.progress(),
        "eta_seconds": phases.eta_seconds(),
        "since_seconds": round(lifecycle.since_seconds(), 3),
        "pid": os.getpid(),
        "timings": phases.timings,
        "transitions": [
            {"state": step.state.value, "at_seconds": round(step.at_seconds, 3)} for step in lifecycle.transitions
        ],
        "warmup": {"done": list(done), "pending": list(pending)},
        "memory_bytes": memory_bytes(),
    }


def memory_bytes() -> int:
    """Resident memory of this process and all below it; shared pages count once for each."""
    total = 0
    me = psutil.Process()
    for process in [me, *me.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += process.memory_info().rss
    return total


def load_last_timings(path: Path) -> dict[str, float]:
    """Read the phases' seconds of the last start; none where there was none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, float])
    except (OSError, msgspec.DecodeError):
        return {}


def save_timings(path: Path, timings: dict[str, float]) -> None:
    """Keep them for the next start. Only an estimate depends on them, so a failure is passed over."""
    beside = path.with_suffix(f".{os.getpid()}")
    with contextlib.suppress(OSError):
        beside.write_bytes(msgspec.json.encode(timings))
        beside.replace(path)
