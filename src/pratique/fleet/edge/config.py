"""What the edge is told, as values: gates (listeners) that lead to pools (clusters) of endpoints.

Pure. Invariants: names are unique; every gate leads to pools that exist; the weights of a gate's shares are not all 0.
A value that was built is one that Envoy accepts; `render` turns it into Envoy's own words.
"""

from __future__ import annotations

from dataclasses import dataclass

from pratique.core.errors import CallerError

__all__ = ["Affinity", "EdgeConfig", "Endpoint", "Gate", "HealthCheck", "Pool", "Share"]

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One replica. The name is its place on the hash ring, so it keeps its clients when its port changes."""

    name: str
    port: int
    host: str = LOOPBACK


@dataclass(frozen=True, kw_only=True)
class HealthCheck:
    """Active checks, the same with and without traffic.

    A 503 takes the replica out at the next check. `unhealthy_threshold` counts what could also be bad luck: time-outs
    and refused connections.
    """

    path: str
    interval_seconds: float = 0.25
    timeout_seconds: float = 1.0
    unhealthy_threshold: int = 2
    healthy_threshold: int = 1


@dataclass(frozen=True, kw_only=True)
class Affinity:
    """What keeps a client on its replica: a key that the application issued, in a header or else in a cookie.

    A request with neither goes anywhere.
    """

    header: str
    cookie: str = ""


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Replicas of one service that take each other's place."""

    name: str
    endpoints: tuple[Endpoint, ...]
    health: HealthCheck
    connect_timeout_seconds: float = 1.0
    idle_timeout_seconds: float = 3.0
    """Of an unused upstream connection. Shorter than the replica's own keep-alive, or requests meet a closing one."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """The part of a gate's traffic that a pool gets, relative to the gate's other shares."""

    pool: str
    weight: int = 1


@dataclass(frozen=True, kw_only=True)
class Gate:
    """A listener that sends what comes in to one pool, or to several by weight.

    By weight, a client stays with its pool as with its replica: both are chosen by its affinity key.
    """

    name: str
    port: int
    shares: tuple[Share, ...]
    affinity: Affinity
    host: str = LOOPBACK
    is_public: bool = False
    """Clients are strangers: their forwarding headers are not believed, and slow headers are cut."""
    unavailable_message: str = "No replica takes traffic right now."


@dataclass(frozen=True, kw_only=True)
class EdgeConfig:
    """The whole edge."""

    gates: tuple[Gate, ...]
    pools: tuple[Pool, ...]
    admin_port: int
    max_connections: int = 20_000
    buffer_bytes: int = 256 * 1024
    """Of one connection and direction: what a slow peer can make the edge hold."""

    def __post_init__(self) -> None:
        _check_unique("pool", [pool.name for pool in self.pools])
        _check_unique("gate", [gate.name for gate in self.gates])
        for pool in self.pools:
            _check_unique(f"endpoint of the pool '{pool.name}'", [endpoint.name for endpoint in pool.endpoints])
        known = {pool.name for pool in self.pools}
        for gate in self.gates:
            if missing := [share.pool for share in gate.shares if share.pool not in known]:
                raise CallerError(f"The gate '{gate.name}' leads to the pool '{missing[0]}', which does not exist.")
            if sum(share.weight for share in gate.shares) <= 0 or any(share.weight < 0 for share in gate.shares):
                raise CallerError(f"The gate '{gate.name}' needs weights ≥ 0 of which one is above 0.")


def _check_unique(what: str, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise CallerError(f"Each {what} needs its own name; '{twice[0]}' is there twice.")
