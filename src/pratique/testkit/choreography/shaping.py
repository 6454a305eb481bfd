"""What a faulty connection does to the bytes that pass: decided here, without a socket or a clock.

A direction is a link that sends at some rate (`bytes_per_second`) into a delay line (`latency_seconds`, plus up to
`jitter_seconds`). Invariants: order is kept whatever the jitter; the delay line takes no throughput away, as long as
what is under way fits into its bound; a shorter delay also shortens the way of what has set out already.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from pratique.testkit.errors import TestkitUsageError
from pratique.testkit.timing import is_number

if TYPE_CHECKING:
    from random import Random

__all__ = [
    "MAX_CHUNK_BYTES",
    "Direction",
    "Faults",
    "Shape",
    "arrival",
    "buffer_bytes",
    "change",
    "chunk_bytes",
    "delay_seconds",
    "read_directions",
    "require_count",
    "require_rate",
    "sending_seconds",
]

MAX_CHUNK_BYTES: Final = 64 * 1024
_PLAIN_BUFFER_BYTES: Final = 256 * 1024
_DELAY_LINE_BYTES: Final = 8 * 1024 * 1024
_SLICES_PER_SECOND: Final = 50
"""A slow link sends in slices of this part of a second, so that a switch is felt soon and the flow is even."""


class Direction(enum.StrEnum):
    """Which way bytes go: `up` from the client to the target, `down` back."""

    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What happens in one direction."""

    latency_seconds: float = 0.0
    jitter_seconds: float = 0.0
    bytes_per_second: float | None = None
    is_blackhole: bool = False


@dataclass(frozen=True, kw_only=True)
class Faults:
    """What happens in both directions, and to connections as a whole."""

    shapes: dict[Direction, Shape] = field(default_factory=lambda: dict.fromkeys(Direction, Shape()))
    cut_after_bytes: int | None = None
    """Reset a connection when so many bytes have gone down."""
    is_refusing: bool = False


def change(faults: Faults, directions: tuple[Direction, ...], **fields: Any) -> Faults:  # noqa: ANN401 - fields of Shape
    """Return the faults with some fields of some directions changed."""
    changed = {direction: replace(faults.shapes[direction], **fields) for direction in directions}
    return replace(faults, shapes={**faults.shapes, **changed})


def chunk_bytes(shape: Shape) -> int:
    """Return how much to read at once."""
    if shape.bytes_per_second is None:
        return MAX_CHUNK_BYTES
    return max(1, min(MAX_CHUNK_BYTES, int(shape.bytes_per_second / _SLICES_PER_SECOND)))


def sending_seconds(shape: Shape, size_bytes: int) -> float:
    """Return how long the link is busy with a chunk."""
    return 0.0 if shape.bytes_per_second is None else size_bytes / shape.bytes_per_second


def buffer_bytes(shape: Shape) -> int:
    """Return how much may be under way. A delay line holds more: else it would throttle."""
    return _DELAY_LINE_BYTES if shape.latency_seconds or shape.jitter_seconds else _PLAIN_BUFFER_BYTES


def delay_seconds(shape: Shape, source: Random) -> float:
    """Draw the delay of one chunk: the latency, plus or minus the jitter, never below zero."""
    if not shape.jitter_seconds:
        return shape.latency_seconds
    return max(0.0, shape.latency_seconds + source.uniform(-shape.jitter_seconds, shape.jitter_seconds))


def arrival(planned: float, set_out: float, shape: Shape, changed_at: float) -> float:
    """Return when a chunk arrives that set out when another shape may have held: this one holds since `changed_at`."""
    if set_out >= changed_at:
        return planned
    return min(planned, changed_at + shape.latency_seconds + shape.jitter_seconds)


def read_directions(text: str) -> tuple[Direction, ...]:
    """Read `up`, `down` or `both`.

    Raises:
        TestkitUsageError: it is another word.
    """
    if text == "both":
        return tuple(Direction)
    if text in set(Direction):
        return (Direction(text),)
    raise TestkitUsageError(f"There is no direction {text!r}.", hint="Expected one of: up, down, both.")


def require_rate(value: float) -> float:
    """Return a rate that gets on.

    Raises:
        TestkitUsageError: it is zero or less, or no number.
    """
    if not is_number(value) or value <= 0:
        raise TestkitUsageError(
            f"bytes_per_second is {value!r}.", hint="Expected more than zero; blackhole() lets nothing through."
        )
    return float(value)


def require_count(name: str, value: object) -> int:
    """Return a number of bytes.

    Raises:
        TestkitUsageError: it is negative, or no whole number.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TestkitUsageError(f"{name} is {value!r}.", hint="Expected a whole number of bytes, zero or more.")
    return value
