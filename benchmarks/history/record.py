"""What a history is made of, and its file: one JSON line when an operation begins and one when it ends.

- Times are `time.monotonic()`, which all processes of one machine share: files of several may be read as one history.
- An operation that has only its first line (whoever asked was killed) ended `unknown`, at no time.
- `fail` means: certainly not done. Whoever cannot be certain records `unknown`.
"""

from __future__ import annotations

import enum
import itertools
import math
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

__all__ = ["Kind", "Operation", "Recorder", "Result", "SeenEvent", "SeenTurn", "load_history"]


class Kind(enum.Enum):
    """What was asked."""

    SEND = "send"
    """Store a user turn; the same message id again is another operation."""
    REPLY = "reply"
    """Watch a reply, from its beginning or from a cursor: what came over one connection."""
    READ = "read"
    CANCEL = "cancel"
    DELETE = "delete"


class Result(enum.Enum):
    """How it ended, as far as whoever asked can know."""

    OK = "ok"
    FAIL = "fail"
    UNKNOWN = "unknown"


class SeenTurn(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A turn as a read showed it."""

    turn_id: str
    role: str
    text: str
    generation_id: str = ""


class SeenEvent(msgspec.Struct, frozen=True, array_like=True):
    """A numbered event of a reply: a token's text, or how it ended, or neither (started, continued)."""

    seq: int
    text: str | None = None
    finish_reason: str | None = None


class Operation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One operation. Which fields are set depends on its kind and its result."""

    worker: str
    number: int
    """With the worker's name unique in a history."""
    kind: Kind
    began_at: float
    source: str = ""
    """Who was asked: a replica and which life of it, or "store"."""
    ended_at: float | None = None
    """None: it never did, as far as anybody knows."""
    result: Result = Result.UNKNOWN
    error: str = ""
    conversation_id: str = ""
    message_id: str = ""
    text: str = ""
    """Of what is sent. Different for every message id, so that a stored turn tells which message it is."""
    user_turn_id: str = ""
    generation_id: str = ""
    duplicate: bool = False
    version: int = 0
    turns: tuple[SeenTurn, ...] = ()
    active_generation_id: str = ""
    events: tuple[SeenEvent, ...] = ()
    is_disowned: bool = False
    """Of a reply: its watcher was told at the end that what was shown of it, then and before, counts for nothing."""
    is_final: bool = False
    """A read of the store itself after everything was healed: the truth that the rest is compared with."""

    @property
    def end(self) -> float:
        """When it had certainly ended; infinity where nobody knows."""
        return math.inf if self.ended_at is None else self.ended_at


class Recorder:
    """Appends to one file. Each line is one write, so that it is whole or absent when the process is killed."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._clock = clock
        self._numbers = itertools.count(1)

    def begin(self, worker: str, kind: Kind, **asked: object) -> Operation:
        """Record that `worker` asks now. `asked`: the operation's other fields."""
        line = {"worker": worker, "number": next(self._numbers), "kind": kind, "began_at": self._clock(), **asked}
        return self._keep(msgspec.convert(line, Operation, from_attributes=True))

    def end(self, operation: Operation, result: Result, **answered: object) -> Operation:
        """Record how it ended. `answered`: the fields that the answer told."""
        # Unknown may still take effect later: it has no end that anything could be after.
        ended_at = None if result is Result.UNKNOWN else self._clock()
        return self._keep(msgspec.structs.replace(operation, result=result, ended_at=ended_at, **answered))

    def close(self) -> None:
        os.close(self._file)

    def _keep(self, operation: Operation) -> Operation:
        os.write(self._file, msgspec.json.encode(operation) + b"\n")
        return operation


def load_history(paths: Iterable[Path]) -> list[Operation]:
    """Return the operations of these files, by when they began. A last line that was cut short counts as unwritten."""
    found: dict[tuple[str, str, int], Operation] = {}
    for path in paths:
        for line in path.read_bytes().split(b"\n")[:-1]:
            operation = msgspec.json.decode(line, type=Operation)
            found[str(path), operation.worker, operation.number] = operation
    return sorted(found.values(), key=lambda operation: operation.began_at)
