"""What a model server says of itself: phases with their times, progress, an estimate of what is left.

Progress inside a state is the share of the time that the same phases took in the last start of this model on this
machine: an estimate, never 100 % before the state is over. Where there was no last start it is what the phase itself
counts (weights read, shapes warmed), or unknown.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec
import psutil

from pratique.core.clock import Clock
from pratique.inference.engines.interface import EnginePhase
from pratique.inference.lifecycle import Lifecycle
from pratique.inference.settings import InferenceSettings

__all__ = [
    "PHASES",
    "MemoryMeter",
    "Phases",
    "load_last_timings",
    "render_lifecycle",
    "render_phases",
    "render_settings",
    "save_timings",
]

PHASES: Final = (*(phase.value for phase in EnginePhase), "warmup")
"""Those of every start, in order. The import of a model that is not there yet comes before them, once."""
_PHASES_OF_A_STATE: Final = (PHASES[:-1], PHASES[-1:])
_MOST_PROGRESS: Final = 0.99


class Phases:
    """Which phase the start is in, and how long the ones before took."""

    def __init__(
        self,
        clock: Clock,
        *,
        expected_seconds: Mapping[str, float],
        closed: Callable[[str, float], None] = lambda _name, _seconds: None,
    ) -> None:
        """Begin in no phase; `closed` hears each phase that is over, with its seconds."""
        self._clock = clock
        # What a start that became ready wrote has its last phase; anything else is no start to go by.
        is_whole = PHASES[-1] in expected_seconds
        self._expected = {phase: expected_seconds.get(phase, 0.0) for phase in PHASES} if is_whole else {}
        self._closed = closed
        self._current: str | None = None
        self._began = 0.0
        self._detail = "starting"
        self._counted: float | None = None
        self.beside = ""
        """What goes on beside the phase, for people; empty where nothing does."""
        self.timings: dict[str, float] = {}

    @property
    def detail(self) -> str:
        return f"{self._detail}; {self.beside}" if self.beside else self._detail

    def enter(self, phase: str, detail: str, *, counted: float | None = None) -> None:
        """Say what goes on. A new phase ends the one before; `counted` is its own measure of progress, 0…1."""
        if phase != self._current:
            self._close()
            self._current, self._began = phase, self._clock.monotonic()
        self._detail, self._counted = detail, counted

    def finish(self, detail: str) -> None:
        """End the last phase."""
        self._close()
        self._current, self._detail, self._counted, self.beside = None, detail, None, ""

    def note(self, phase: str, seconds: float) -> None:
        """Add what ran beside the phases."""
        self.timings[phase] = round(seconds, 3)
        self._closed(phase, seconds)

    def progress(self) -> float | None:
        """0…1 of the present state, or None where nothing measures it."""
        current = self._current
        phases = next((phases for phases in _PHASES_OF_A_STATE if current in phases), ())
        total = sum(self._expected.get(phase, 0.0) for phase in phases)
        if current is None or not total:
            return None if self._counted is None else min(self._counted, _MOST_PROGRESS)
        past = sum(self._expected[phase] for phase in phases[: phases.index(current)])
        here = min(self._elapsed_seconds(), self._expected[current])
        return min((past + here) / total, _MOST_PROGRESS)

    def eta_seconds(self) -> float | None:
        """Seconds until ready, as the last start went."""
        if self._current not in PHASES or not self._expected:
            return None
        later = PHASES[PHASES.index(self._current) + 1 :]
        here = self._expected[self._current] - self._elapsed_seconds()
        return round(max(here, 0.0) + sum(self._expected[phase] for phase in later), 1)

    def _elapsed_seconds(self) -> float:
        return self._clock.monotonic() - self._began

    def _close(self) -> None:
        if self._current is not None:
            # A phase can come again (weights of a second file, a restart): the last time counts.
            self.note(self._current, self._elapsed_seconds())


class MemoryMeter:
    """Resident memory of this process and all below it; shared pages count once for each.

    Kept for a moment: probes come often, and a walk over all processes takes milliseconds of the loading engine's time.
    """

    def __init__(self, clock: Clock, *, keep_seconds: float = 2.0) -> None:
        self._clock = clock
        self._keep_seconds = keep_seconds
        self._measured: tuple[float, int] | None = None

    def read(self) -> int:
        """Bytes."""
        now = self._clock.monotonic()
        if self._measured is None or now - self._measured[0] >= self._keep_seconds:
            self._measured = (now, _resident_bytes())
        return self._measured[1]


def _resident_bytes() -> int:
    total = 0
    me = psutil.Process()
    for process in [me, *me.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += process.memory_info().rss
    return total


def render_phases(phases: Phases) -> dict[str, object]:
    """Return what /status says of a start."""
    progress = phases.progress()
    return {
        "detail": phases.detail,
        "progress": None if progress is None else round(progress, 3),
        "eta_seconds": phases.eta_seconds(),
        "timings": phases.timings,
    }


def render_lifecycle(lifecycle: Lifecycle) -> dict[str, object]:
    """Return what /status says of the lifecycle."""
    return {
        "state": lifecycle.state.value,
        "since_seconds": round(lifecycle.since_seconds(), 3),
        "transitions": [
            {"state": step.state.value, "at_seconds": round(step.at_seconds, 3)} for step in lifecycle.transitions
        ],
    }


def render_settings(settings: InferenceSettings) -> object:
    """Return the configuration in effect, as it could stand in a file."""
    return msgspec.to_builtins(settings, enc_hook=str)


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
