"""What bounds a principal's use, whichever store counts: errors and the protocol. Reserve, then settle.

A reservation is its maker's: nobody else can settle it, on whichever replica, whatever it is named.
"""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from pratique.core.errors import RefusedError

if TYPE_CHECKING:
    from pratique.orchestrator.access.principal import Principal

__all__ = ["LimitExceededError", "Limiter", "Reservation", "Unlimited"]


class LimitExceededError(RefusedError):
    """The principal's share is used up; nothing was taken from it by this request."""

    code = "rate_limited"

    def __init__(
        self,
        message: str,
        *,
        limit: str,
        retry_after_seconds: float,
        quota: int = 0,
        window_seconds: float | None = None,
    ) -> None:
        super().__init__(message, hint=f"Try again in {max(1, math.ceil(retry_after_seconds))} s.")
        self.limit = limit
        """Which one: "requests", "concurrency", "tokens", "connections", "frames", "sessions"."""
        self.retry_after_seconds = retry_after_seconds
        self.quota = quota
        """How much is allowed; 0: not said."""
        self.window_seconds = window_seconds
        """In how long; None where it is not about time."""


def _new_holder() -> str:
    return secrets.token_hex(16)


@dataclass(frozen=True, kw_only=True)
class Reservation:
    """What one call wants to take, then what it has taken."""

    principal: Principal
    name: str
    """Of what is asked: as long as it is reserved, another call for the same takes nothing."""
    tokens: int
    holder: str = field(default_factory=_new_holder)
    """Of the call."""


class Limiter(Protocol):
    """Counts what principals use. Counts are shared by all replicas where their store is."""

    async def reserve(self, wanted: Reservation) -> bool:
        """Take one request, one stream and so many tokens; return whether this call took them.

        False: another call has reserved the same and has not settled it, or nothing is counted. A reservation that is
        never settled ends by itself, and what it took of the tokens stays taken. Where this call is cancelled, it is
        not known whether it took anything: settle it.

        Raises:
            LimitExceededError: with the limit that is reached first, and when there is room again.
        """
        ...

    async def settle(self, taken: Reservation, *, tokens: int | None) -> None:
        """Give the stream back, and the tokens that were not used. None: it is not known; all stay taken.

        Never raises. What this call did not take, or has settled, changes nothing.
        """
        ...


class Unlimited:
    """A `Limiter` that lets everything through."""

    async def reserve(self, wanted: Reservation) -> bool:  # noqa: ARG002 - as all
        """Do nothing: there is no limit, and nothing to settle."""
        return False

    async def settle(self, taken: Reservation, *, tokens: int | None) -> None:
        """Do nothing: nothing was taken."""
