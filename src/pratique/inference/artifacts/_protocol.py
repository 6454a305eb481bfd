"""What the importing and the sandboxed process say to each other: a task as an argument, then JSON lines back."""

from __future__ import annotations

import sys
from typing import Final

import msgspec

from pratique.inference.artifacts._confine import Bounds

__all__ = ["NOT_SANDBOXED", "Said", "Task", "say"]

NOT_SANDBOXED: Final = 77
"""Exit code: what the task must have could not be enforced; nothing was read."""


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What the sandboxed process is to do."""

    kind: str
    sources: tuple[str, ...]
    out: str
    bounds: Bounds
    parent: int
    must_have: tuple[str, ...] = ()
    wants_licence: bool = False


class Said(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of the sandboxed process."""

    sandbox: dict[str, str] | None = None
    phase: str = ""
    progress: float = 0.0
    licence: str = ""
    unsafe: str = ""
    """Why a file is refused that would run code."""
    failed: str = ""
    """Why a file cannot be converted."""


def say(said: Said) -> None:
    """Write a line to the importing process."""
    sys.stdout.buffer.write(msgspec.json.encode(said) + b"\n")
    sys.stdout.buffer.flush()
