"""Real processes under the supervisor's library."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from pratique.fleet.processes.child import Program
from pratique.fleet.processes.guard import Guard
from pratique.fleet.processes.logs import ServiceLog
from pratique.fleet.processes.marker import MARKER
from pratique.fleet.processes.policy import RestartPolicy
from pratique.fleet.processes.probes import Health
from pratique.fleet.processes.service import Service, ServiceSpec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path


class FileProbe:
    """Ready while a file is there."""

    def __init__(self, path: Path) -> None:
        self.path = path

    async def ask(self) -> Health:
        return Health(ready=self.path.exists(), detail="waits for its file")


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., Program]:
    def make(source: str) -> Program:
        environment = {**os.environ, MARKER: f"tests:{tmp_path.name}"}
        return Program(command=(sys.executable, "-c", source), environment=environment, folder=tmp_path)

    return make


@pytest.fixture
async def guard(tmp_path: Path) -> AsyncIterator[Guard]:
    async with Guard(f"tests:{tmp_path.name}") as started:
        yield started


@pytest.fixture
def make_service(tmp_path: Path, guard: Guard, program: Callable[..., Program]) -> Callable[..., Service]:
    def make(source: str, *, deadline: float | None = 10.0, grace: float = 5.0, **more: object) -> Service:
        spec = ServiceSpec(
            name="sample",
            kind="sample",
            program=program(source),
            address="none",
            grace_seconds=grace,
            ready_deadline_seconds=deadline,
            policy=RestartPolicy(first_delay_seconds=0.01, max_delay_seconds=0.05),
        )
        log = ServiceLog(tmp_path / "logs" / "sample.log", "sample")
        probe = FileProbe(tmp_path / "ready")
        return Service(spec, probe=probe, log=log, guard=guard, **more)  # type: ignore[arg-type]  # tests pass by name

    return make
