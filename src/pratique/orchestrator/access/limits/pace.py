"""Counts of one replica that need no store. Pure.

Frames on a socket, requests over HTTP, open connections, what may be done once at a time, new sessions by address.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from pratique.orchestrator.access.limits.interface import LimitExceededError
from pratique.orchestrator.access.limits.memory import tier_of
from pratique.orchestrator.access.limits.policy import Level, buckets_of, drained, wait_seconds
from pratique.orchestrator.access.settings import TierSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pratique.orchestrator.access.principal import Principal
    from pratique.orchestrator.access.settings import LimitsSettings

__all__ = ["CallPace", "Connections", "FramePace", "NewSessions", "OneAtATime"]

_MAX_ADDRESSES: Final = 10_000
_MAX_CALLERS: Final = 10_000
_RETRY_SECONDS: Final = 5.0


class FramePace:
    """How fast frames may come on one socket: so many at once, then so many a second."""

    def __init__(self, settings: LimitsSettings, *, limit: str = "frames") -> None:
        self._limit = limit
        self._rate = settings.frames_per_second
        self._burst = settings.frames_burst
        self._level = 0.0
        self._at = 0.0
        self._num_refused = 0

    def verify(self, now: float) -> None:
        """Count a frame; raise `LimitExceededError` where it is one too many."""
        self._level = max(0.0, self._level - (now - self._at) * self._rate)
        self._at = now
        if self._level + 1 > self._burst:
            self._num_refused += 1
            raise LimitExceededError(
                f"At most {self._rate:g} {self._limit} a second.",
                limit=self._limit,
                retry_after_seconds=(self._level + 1 - self._burst) / self._rate,
                quota=self._burst,
                window_seconds=self._burst / self._rate,
            )
        self._level += 1
        self._num_refused = 0

    @property
    def is_flood(self) -> bool:
        """Whether so many frames in a row were refused that the sender does not listen."""
        return self._num_refused > self._burst


class CallPace:
    """How fast requests may come from each principal: as frames on a socket. The one seen longest ago leaves first."""

    def __init__(self, settings: LimitsSettings) -> None:
        self._settings = settings
        self._paces: OrderedDict[str, FramePace] = OrderedDict()

    def verify(self, principal: Principal, now: float) -> None:
        """Count a request; raise `LimitExceededError` where it is one too many."""
        name = principal.principal_id
        if name not in self._paces:
            self._paces[name] = FramePace(self._settings, limit="requests")
            if len(self._paces) > _MAX_CALLERS:
                self._paces.popitem(last=False)
        self._paces.move_to_end(name)
        self._paces[name].verify(now)


class OneAtATime:
    """What each principal may do once at a time, on this replica."""

    def __init__(self, name: str) -> None:
        """Say by `name` what it is: "exports and erasures"."""
        self._name = name
        self._busy: set[str] = set()

    @contextmanager
    def one(self, principal: Principal) -> Iterator[None]:
        """Do it for as long as the body runs.

        Raises:
            LimitExceededError: it is being done.
        """
        name = principal.principal_id
        if name in self._busy:
            raise LimitExceededError(
                f"Of {self._name}, one at a time.", limit="concurrency", retry_after_seconds=_RETRY_SECONDS, quota=1
            )
        self._busy.add(name)
        try:
            yield
        finally:
            self._busy.discard(name)


class Connections:
    """Open sockets, event streams and requests that wait for a reply, of each principal, on this replica."""

    def __init__(self, settings: LimitsSettings) -> None:
        self._settings = settings
        self._open: dict[str, int] = {}

    @contextmanager
    def one(self, principal: Principal) -> Iterator[None]:
        """Count one connection for as long as the body runs.

        Raises:
            LimitExceededError: the principal has as many as it may.
        """
        self.verify(principal)
        name = principal.principal_id
        self._open[name] = self._open.get(name, 0) + 1
        try:
            yield
        finally:
            self._open[name] -= 1
            if not self._open[name]:
                del self._open[name]

    def verify(self, principal: Principal) -> None:
        """Raise `LimitExceededError` where the principal has as many connections as it may."""
        allowed = tier_of(self._settings, principal).connections
        if allowed and self._open.get(principal.principal_id, 0) >= allowed:
            raise LimitExceededError(
                f"At most {allowed} open connections.",
                limit="connections",
                retry_after_seconds=_RETRY_SECONDS,
                quota=allowed,
            )


class NewSessions:
    """How many sessions each address may have made; bounded in addresses, the one seen longest ago leaves first."""

    def __init__(self, settings: LimitsSettings) -> None:
        self._buckets = buckets_of(TierSettings(requests_per_minute=settings.new_sessions_per_minute))
        self._levels: OrderedDict[str, Level] = OrderedDict()

    def verify(self, address: str, now: float) -> None:
        """Count a new session; raise `LimitExceededError` where the address has had as many as it may."""
        for bucket in self._buckets:
            level = drained(self._levels.get(address, Level()), bucket, now)
            wait = wait_seconds(level, bucket, 1)
            if wait > 0:
                raise LimitExceededError(
                    f"At most {bucket.capacity} new sessions per minute.",
                    limit="sessions",
                    retry_after_seconds=wait,
                    quota=bucket.capacity,
                    window_seconds=bucket.window_seconds,
                )
            self._levels[address] = Level(level + 1, now)
            self._levels.move_to_end(address)
            if len(self._levels) > _MAX_ADDRESSES:
                self._levels.popitem(last=False)
