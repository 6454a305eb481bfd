"""Looking again and again, for a bounded time, also where a test has stopped the clock or made `time.sleep` do nothing.

What bounds it is the pauses, which are counted and real, and the clock, for looks that take long themselves.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["looks"]

_NEVER: Final = threading.Event()
"""Waiting for it is a pause that no patch of the module `time` touches."""


def looks(within_seconds: float, *, first: float, longest: float) -> Iterator[None]:
    """Yield at once, and again after each pause; the pauses double up to the longest."""
    deadline = time.monotonic() + within_seconds
    paused, pause = 0.0, first
    yield
    while paused < within_seconds and time.monotonic() <= deadline:
        _NEVER.wait(pause)
        paused += pause
        pause = min(longest, pause * 2)
        yield
