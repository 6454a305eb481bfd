"""When to reconnect, over which transport, and when to give up. Decides; waits and opens nothing.

Back-off: 100 ms, doubling to 5 s, the upper half of each delay random, so that the clients of a fallen replica do not
come back in step. It starts over with every sign of progress. WebSocket first; after 5 losses in a row the client
goes on with server-sent events for the rest of its life, because something between it and the server cuts sockets.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from pratique.client.settings import ClientSettings

__all__ = ["Backoff", "Link", "LinkLostError", "TransportChoice", "TransportKind"]

_LARGEST_EXPONENT = 62


class LinkLostError(Exception):
    """A connection could not be opened or broke; never leaves the package.

    `is_blameless`: the transport has no part in it (the server drains, refuses, or is not there at all), so another
    transport would have met the same.
    """

    def __init__(self, reason: str, *, is_blameless: bool = False, retry_after_seconds: float = 0.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_blameless = is_blameless
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """Delays in seconds that double up to a cap."""

    first_seconds: float
    cap_seconds: float

    def delay_seconds(self, attempt: int, unit_random: float) -> float:
        """Return the delay before attempt 0, 1, 2 …; `unit_random` is in [0, 1)."""
        full = min(self.cap_seconds, self.first_seconds * 2.0 ** min(attempt, _LARGEST_EXPONENT))
        return full / 2 + unit_random * full / 2


class TransportKind(enum.Enum):
    """How events come."""

    WEBSOCKET = "websocket"
    SSE = "sse"


class TransportChoice:
    """One per client: which transport the next connection uses."""

    def __init__(self, settings: ClientSettings) -> None:
        self._allowed_losses = settings.websocket_losses
        self._stable_seconds = settings.stable_seconds
        self._losses = 0
        self.kind = TransportKind.WEBSOCKET

    def lost(self, *, lived_seconds: float, is_blameless: bool) -> None:
        """Count a connection that was lost before its reply ended."""
        if is_blameless:
            return
        self._losses = 1 if lived_seconds >= self._stable_seconds else self._losses + 1
        if self._losses >= self._allowed_losses:
            self.kind = TransportKind.SSE

    def succeeded(self) -> None:
        """A reply came to its end over one connection."""
        self._losses = 0


class Link:
    """One per reply: how long to wait before the next connection, and for how long to go on trying."""

    def __init__(self, settings: ClientSettings, *, random: Callable[[], float]) -> None:
        self._backoff = Backoff(first_seconds=settings.backoff_first_seconds, cap_seconds=settings.backoff_cap_seconds)
        self._patience_seconds = settings.reconnect_timeout_seconds
        self._random = random
        self._attempt = 0
        self._lost_since: float | None = None
        self.reconnects = 0

    @property
    def attempt(self) -> int:
        """How many connections were tried since the last sign of progress."""
        return self._attempt

    def progressed(self) -> None:
        """Something that only a working connection brings has arrived."""
        self._attempt = 0
        self._lost_since = None

    def next_delay_seconds(self, now: float, lost: LinkLostError) -> float | None:
        """Return how long to wait before connecting again; None where it is time to give up."""
        self._lost_since = now if self._lost_since is None else self._lost_since
        delay = max(self._backoff.delay_seconds(self._attempt, self._random()), lost.retry_after_seconds)
        if now + delay - self._lost_since > self._patience_seconds:
            return None
        self._attempt += 1
        self.reconnects += 1
        return delay
