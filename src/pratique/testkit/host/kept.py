"""The servers that hosts of this user keep for the next run, as people and programs want to see them."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from pratique.testkit.host.ownership import started_at
from pratique.testkit.host.reuse import reused_hosts

__all__ = ["KeptServer", "list_kept", "up_seconds"]


class KeptServer(msgspec.Struct, frozen=True, kw_only=True):
    """One server."""

    label: str
    """For whom it runs, as `SERVICE/PROVIDER`; several where they share it."""
    address: str
    pid: int
    """0 for a container."""
    up_seconds: float | None
    """None where it is not known, as of a container."""
    host_pid: int
    log: str


def list_kept() -> list[KeptServer]:
    """Return them; none where no host waits to be reused."""
    clock = Path("/proc/uptime").read_text("ascii").split()[0]
    return [
        KeptServer(
            label=", ".join(status.labels.get(server.key, ())) or server.key,
            address=f"{server.host}:{server.port}",
            pid=server.pid,
            up_seconds=up_seconds(started_at(server.pid), float(clock)) if server.pid else None,
            host_pid=status.pid,
            log=server.log,
        )
        for status in reused_hosts()
        for server in status.servers
    ]


def up_seconds(started: str, clock: float) -> float | None:
    """Return how long a process has run: `started` in ticks since the boot, `clock` in seconds since it."""
    return round(clock - int(started) / os.sysconf("SC_CLK_TCK"), 2) if started.isdecimal() else None
