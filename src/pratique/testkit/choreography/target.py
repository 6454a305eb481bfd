"""Where a proxy leads to: read from whatever a test has in hand, and looked up."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from pratique.testkit.errors import TargetUnreachableError, TestkitUsageError

__all__ = ["Target", "reach", "read_target"]

_DEFAULT_PORTS: Final = {"http": 80, "https": 443, "redis": 6379, "rediss": 6379, "valkey": 6379}
_HINT: Final = "Expected an endpoint or namespace with a url, a URL, 'host:port', or (host, port)."
_PAIR: Final = 2


@dataclass(frozen=True, kw_only=True)
class Target:
    """A server to stand in front of."""

    host: str
    port: int
    parts: SplitResult

    def url_at(self, host: str, port: int) -> str:
        """Return its URL with another host and port; credentials, path and query as they are."""
        credentials, at, _ = self.parts.netloc.rpartition("@")
        return self.parts._replace(netloc=f"{credentials}{at}{host}:{port}").geturl()


def read_target(target: object) -> Target:
    """Read what a test has in hand.

    Raises:
        TestkitUsageError: it leads nowhere.
    """
    if isinstance(target, tuple) and len(target) == _PAIR:
        host, port = target
        target = f"tcp://[{host}]:{port}" if ":" in str(host) else f"tcp://{host}:{port}"
    url = target if isinstance(target, str) else getattr(target, "url", None)
    if not isinstance(url, str):
        raise TestkitUsageError(f"{target!r} is no target for a proxy.", hint=_HINT)
    parts = urlsplit(url if "://" in url else f"tcp://{url}")
    try:
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)
    except ValueError as error:
        raise TestkitUsageError(f"{url!r} is no target for a proxy: {error}.", hint=_HINT) from error
    if not parts.hostname or not port:
        raise TestkitUsageError(f"{url!r} names no host and port.", hint=_HINT)
    return Target(host=parts.hostname, port=port, parts=parts)


def reach(target: Target, probe_seconds: float | None) -> tuple[socket.AddressFamily, tuple[Any, ...]]:
    """Return the address of a target that answers; the first that its name has, where it is not asked.

    Raises:
        TargetUnreachableError: its name is unknown, or nobody answers.
    """
    try:
        return _look_up(target) if probe_seconds is None else _probe(target, probe_seconds)
    except OSError as error:
        raise TargetUnreachableError(
            f"The proxy's target {target.host}:{target.port} cannot be reached: {error}.",
            hint="Start it first, or pass probe_seconds=None if it comes later.",
        ) from error


def _probe(target: Target, seconds: float) -> tuple[socket.AddressFamily, tuple[Any, ...]]:
    with socket.create_connection((target.host, target.port), timeout=seconds) as probe:
        return probe.family, probe.getpeername()


def _look_up(target: Target) -> tuple[socket.AddressFamily, tuple[Any, ...]]:
    family, _, _, _, address = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)[0]
    return family, address
