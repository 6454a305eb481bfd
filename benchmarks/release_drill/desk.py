"""The keyboard of who is on call: real commands, each held against the exit code that is expected; and a clock."""

from __future__ import annotations

import contextlib
import enum
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pratique.core.errors import PratiqueError

__all__ = ["Desk", "DrillError", "Part", "Said", "Step", "expect"]


class DrillError(PratiqueError):
    """A command ended otherwise than the drill expects, or said something else."""

    code = "drill_failed"


@dataclass(frozen=True, slots=True)
class Said:
    """What a command said."""

    out: str
    err: str

    @property
    def told(self) -> Any:  # noqa: ANN401 - each command has its own form
        """Standard output as JSON."""
        return json.loads(self.out)


class Part(enum.StrEnum):
    """When a step is taken; only the night is counted."""

    BEFORE = "before"
    NIGHT = "night"
    AFTER = "after"


@dataclass(slots=True)
class Step:
    """A step of the drill, with what it showed."""

    name: str
    part: Part
    seconds: float = 0.0
    shows: list[str] = field(default_factory=list)
    commands: list[tuple[str, float]] = field(default_factory=list)
    """With the seconds that each took."""


class Desk:
    """Runs commands in the drill's folder, and takes the time of each step."""

    def __init__(self, folder: Path, *, seconds: float) -> None:
        self.folder = folder
        self.steps: list[Step] = []
        self._limit = seconds

    @contextlib.contextmanager
    def step(self, name: str, part: Part = Part.NIGHT) -> Iterator[Step]:
        """Time what happens inside; say it to people."""
        step = Step(name, part)
        self.steps.append(step)
        print(f"{name} …", file=sys.stderr, flush=True)
        began = time.monotonic()
        try:
            yield step
        finally:
            step.seconds = time.monotonic() - began
            print(f"  {step.seconds:.1f} s: {'; '.join(step.shows)}", file=sys.stderr, flush=True)

    def pratique(self, *words: str, code: int = 0) -> Said:
        """Run a command of pratique with the drill's settings."""
        return self.run(sys.executable, "-m", "pratique.cli.main", *words, code=code, shown=("pratique", *words))

    def run(self, *words: str, code: int = 0, shown: tuple[str, ...] | None = None) -> Said:
        """Run a program.

        Raises:
            DrillError: it ended with another code, or not in time.
        """
        command = " ".join(shown or words)
        began = time.monotonic()
        try:
            done = subprocess.run(
                words, cwd=self.folder, capture_output=True, text=True, timeout=self._limit, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise DrillError(f"'{command}' did not end within {self._limit:g} s") from error
        if self.steps:
            took = round(time.monotonic() - began, 2)
            self.steps[-1].commands.append((command, took))
            print(f"    {took:6.1f} s  {command[:110]}", file=sys.stderr, flush=True)
        if done.returncode != code:
            said = f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
            raise DrillError(f"'{command}' ended with {done.returncode}, expected {code}", hint=said)
        return Said(done.stdout, done.stderr)


def expect(*, holds: bool, what: str) -> None:
    """Refuse to go on where something is not as the drill says.

    Raises:
        DrillError: it does not hold.
    """
    if not holds:
        raise DrillError(f"expected: {what}")
