"""When a reply is late: a running estimate of a high percentile of the time to first text. Pure."""

from __future__ import annotations

import math
from collections import deque

__all__ = ["LatePoint"]

_KEPT = 200
_LEAST_SAMPLES = 20


class LatePoint:
    """The 95th percentile of the last 200 times; unknown before 20 of them.

    Source of hedging after it: J. Dean, L. A. Barroso, "The Tail at Scale", CACM 56(2), 2013.
    """

    def __init__(self, *, least_seconds: float, quantile: float = 0.95) -> None:
        self._least_seconds = least_seconds
        self._quantile = quantile
        self._samples: deque[float] = deque(maxlen=_KEPT)

    def observe(self, seconds: float) -> None:
        """Count one time to first text."""
        self._samples.append(seconds)

    @property
    def seconds(self) -> float | None:
        """After so long without text a reply is late; None where too little is known."""
        if len(self._samples) < _LEAST_SAMPLES:
            return None
        ordered = sorted(self._samples)
        return max(self._least_seconds, ordered[math.ceil(self._quantile * len(ordered)) - 1])
