"""The edge in front of a local target: two pools of one replica each, and the share of the second. Asks what holds."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from pratique.fleet.edge import (
    Affinity,
    EdgeConfig,
    EdgeFiles,
    Endpoint,
    Gate,
    HealthCheck,
    Pool,
    Share,
    find_envoy,
)
from pratique.fleet.targets._marked import MarkedPrograms
from pratique.fleet.targets.interface import TargetError

__all__ = ["LOOPBACK", "TwoPools", "get", "wait_until"]

LOOPBACK: Final = "127.0.0.1"
_ROLE: Final = "edge"
_GATE: Final = "public"
_PARTS: Final = 10_000
_PAUSE_SECONDS: Final = 0.02
_ADMIN_SECONDS: Final = 2.0
_FOLLOW_SECONDS: Final = 10.0
_MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024


def get(port: int, path: str, *, seconds: float) -> tuple[int, bytes] | None:
    """Ask something on this machine; None where it does not answer in time."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=seconds)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read(_MAX_ANSWER_BYTES)
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def wait_until(holds: Callable[[], bool], *, seconds: float) -> bool:
    """Ask again and again; return whether it held before the time was up."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_PAUSE_SECONDS)
    return True


@dataclass(frozen=True, slots=True)
class TwoPools:
    """Envoy over two pools, whose names are those of the slots."""

    folder: Path
    programs: MarkedPrograms
    port: int
    admin_port: int
    slot_ports: Mapping[str, int]
    health_path: str
    affinity: Affinity

    @property
    def log(self) -> Path:
        return self.folder / "access.log"

    def bring(self, weights: Mapping[str, float], there: Mapping[str, bool]) -> None:
        """Have Envoy run with these shares of the traffic and these replicas, and see that it follows.

        Raises:
            TargetError: it does not.
        """
        files = EdgeFiles(self.folder / "edge")
        files.write(self._config(weights, there))
        if _ROLE not in self.programs.running():
            self.programs.start(_ROLE, files.command(find_envoy()), {}, self.log)
        wanted = {slot: _parts(weight) for slot, weight in weights.items()}
        if not wait_until(lambda: self._weights() == wanted, seconds=_FOLLOW_SECONDS):
            raise TargetError(
                f"Envoy does not follow: expected the weights {wanted}, it has {self._weights()}",
                hint=f"See {self.log.with_suffix('.err')}.",
            )

    def is_ready(self, slot: str) -> bool:
        """Whether Envoy finds a pool's replica healthy."""
        return self._statistic(slot, "membership_healthy") == 1

    def num_active(self, slot: str) -> int:
        """Return how many requests and WebSockets a pool has; 0 where Envoy does not say."""
        return self._statistic(slot, "upstream_rq_active")

    def _config(self, weights: Mapping[str, float], there: Mapping[str, bool]) -> EdgeConfig:
        health = HealthCheck(path=self.health_path)
        pools = tuple(
            Pool(name=slot, endpoints=(Endpoint(name=slot, port=port),) if there[slot] else (), health=health)
            for slot, port in self.slot_ports.items()
        )
        shares = tuple(Share(pool=slot, weight=_parts(weight)) for slot, weight in weights.items())
        gate = Gate(name=_GATE, port=self.port, shares=shares, affinity=self.affinity, is_public=True)
        return EdgeConfig(gates=(gate,), pools=pools, admin_port=self.admin_port)

    def _weights(self) -> dict[str, int] | None:
        config = self._ask("/config_dump?resource=dynamic_route_configs")
        try:
            (route,) = config["configs"]
            action = route["route_config"]["virtual_hosts"][0]["routes"][-1]["route"]
            return {one["name"]: one.get("weight", 0) for one in action["weighted_clusters"]["clusters"]}
        except (KeyError, IndexError, TypeError, ValueError):
            return None

    def _statistic(self, slot: str, name: str) -> int:
        found = self._ask(f"/stats?format=json&filter=^cluster\\.{slot}\\.{name}$")
        try:
            return int(found["stats"][0]["value"])
        except (KeyError, IndexError, TypeError, ValueError):
            return 0

    def _ask(self, path: str) -> Any:  # noqa: ANN401 - Envoy's own JSON, looked into with care
        answer = get(self.admin_port, path, seconds=_ADMIN_SECONDS)
        if answer is None:
            return None
        try:
            return msgspec.json.decode(answer[1])
        except msgspec.MsgspecError:
            return None


def _parts(weight: float) -> int:
    return round(weight * _PARTS)
