"""How many retries a pool is asked for on top of its requests: a token bucket. Pure but for its clock.

Each request pays in a share of a token, time pays in the floor, each retry takes one out. So a pool that fails
everything gets 1 + `share` times its load and `floor_per_second` more, however many clients try how often.
Sources: Google's SRE book, ch. 21 "Handling Overload"; Finagle's RetryBudget; gRPC proposal A6.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pratique.core.clock import Clock

__all__ = ["RetryBudget"]


class RetryBudget:
    """Owned by one event loop; begins full."""

    def __init__(self, *, clock: Clock, share: float, floor_per_second: float, burst: int) -> None:
        """Args: share: tokens per request; floor_per_second: tokens per second; burst: at most so many are kept."""
        self._clock = clock
        self._share = share
        self._floor_per_second = floor_per_second
        self._burst = float(burst)
        self._tokens = self._burst
        self._counted_at = clock.monotonic()

    @property
    def balance(self) -> float:
        """Retries that are allowed now."""
        self._refill()
        return self._tokens

    @property
    def wait_seconds(self) -> float:
        """Until the floor alone allows the next one."""
        return max(0.0, 1.0 - self.balance) / self._floor_per_second

    def requested(self) -> None:
        """A request goes out that is no retry."""
        self._tokens = min(self._burst, self._tokens + self._share)

    def try_spend(self) -> bool:
        """Whether a retry may go out now; a yes counts it."""
        if self.balance < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def _refill(self) -> None:
        now = self._clock.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._counted_at) * self._floor_per_second)
        self._counted_at = now
