"""A stack's settings, site and snapshots, made up."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pratique.fleet.processes.lifecycle import Phase
from pratique.fleet.processes.service import Snapshot
from pratique.fleet.stack.plan import Ports, Site
from pratique.fleet.stack.settings import StackPaths

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path("/state")


@pytest.fixture
def make_site() -> Callable[..., Site]:
    def make(**changes: Any) -> Site:
        fields: dict[str, Any] = {
            "paths": StackPaths(root=ROOT, model_root=ROOT / "models"),
            "ports": Ports(public=8080, internal=1, admin=2, valkey=3, orchestrators=(4, 5), inference=(6, 7)),
            "config": Path("/etc/app/pratique.toml"),
            "python": "/venv/bin/python",
            "envoy": Path("/bin/envoy"),
            "valkey_server": Path("/bin/valkey-server"),
            "marker": "key:run",
            "password": "sesame",
            "environment": {"HOME": "/home/a"},
        }
        return Site(**{**fields, **changes})

    return make


@pytest.fixture
def snapshot() -> Callable[..., Snapshot]:
    def make(name: str, phase: Phase = Phase.READY, **fields: Any) -> Snapshot:
        kind = name.rsplit("-", 1)[0]
        return Snapshot(name=name, kind=kind, address="here", phase=phase, since=0.0, **fields)

    return make
