"""A server in a container, by testcontainers."""

from __future__ import annotations

from pathlib import Path

from pratique.testkit.errors import ServiceMissingError
from pratique.testkit.host.launch import ContainerLaunch, Running

__all__ = ["ContainerServer", "require_engine"]


def require_engine() -> None:
    """Look for a container engine.

    Raises:
        ServiceMissingError: none answers.
    """
    raise ServiceMissingError("no container engine answers")


class ContainerServer:
    """One container."""

    def __init__(self, key: str, launch: ContainerLaunch, *, folder: Path) -> None:
        self.key = key
        self._launch = launch
        self._folder = folder

    async def start(self) -> Running:
        raise NotImplementedError

    async def stop(self) -> None: ...

    def abandon(self) -> None: ...

    def is_alive(self) -> bool:
        return False

    async def act(self, action: str) -> Running | None:
        raise NotImplementedError(action)

    def tail(self, lines: int) -> str:
        return ""[:lines]
