"""What bounds a principal's use, whichever store counts: errors and the protocol. Reserve, then settle."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

from pratique.core.errors import RefusedError

if TYPE_CHECKING:
    from pratique.orchestrator.access.principal import Principal

__all__ = ["LimitExceededError", "Limiter", "Unlimited"]


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


class Limiter(Protocol):
    """Counts what principals use. Counts are shared by all replicas where their store is."""

    async def reserve(self, principal: Principal, reservation_id: str, *, tokens: int) -> bool:
        """Take one request, one stream and so many tokens; return whether this call took them.

        Repeating an id that is reserved or settled changes nothing and is False: who reserved it settles it.
        A reservation that is never settled ends by itself, and what it took of the tokens stays taken.

        Raises:
            LimitExceededError: with the limit that is reached first, and when there is room again.
        """
        ...

    async def settle(self, principal: Principal, reservation_id: str, *, tokens: int | None) -> None:
        """Give the stream back, and the tokens that were not used. None: it is not known; all stay taken.

        An id that was settled is remembered, so that what is sent again is not charged again; one that used nothing
        (0 tokens) is forgotten, so that it is. Never raises; settling twice changes nothing.
        """
        ...


class Unlimited:
    """A `Limiter` that lets everything through."""

    async def reserve(self, principal: Principal, reservation_id: str, *, tokens: int) -> bool:  # noqa: ARG002 - as all
        """Do nothing: there is no limit, and nothing to settle."""
        return False

    async def settle(self, principal: Principal, reservation_id: str, *, tokens: int | None) -> None:
        """Do nothing: nothing was taken."""
