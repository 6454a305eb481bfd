"""The stack under test: `pratique up`'s own supervisor, with a proxy on every connection between two parts.

Everything is on loopback and in a folder of its own. The supervisor runs in this process, so its guardian ends every
process of the stack should this one die, however it dies.
"""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

import pratique
from pratique.core.events import configure_events
from pratique.core.settings import SettingsError
from pratique.fleet.processes.guard import become_subreaper
from pratique.fleet.stack.prepare import StackRequest
from pratique.fleet.stack.settings import StackSettings
from pratique.fleet.stack.supervisor import Stack
from pratique.testkit.choreography.tcp import TcpFaults, TcpProxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from pratique.fleet.edge import EdgeConfig, Pool
    from pratique.fleet.stack.plan import Plan, PlannedService

__all__ = ["REPLY_TOKENS", "House", "drill_settings"]

REPLY_TOKENS: Final = 60
"""Of the simulated engine's replies."""
_START_SECONDS: Final = 120.0
_VALKEY_URL: Final = "PRATIQUE_ORCHESTRATOR_VALKEY_URL"


class House:
    """A running stack, its links and its processes."""

    def __init__(self, settings: StackSettings, folder: Path) -> None:
        self.links: dict[str, TcpProxy] = {}
        self.url = ""
        self.folder = folder
        self._settings = settings
        self._faults = TcpFaults()
        request = StackRequest(settings=settings, state_dir=str(folder))
        self._paths = request.paths
        self._stack = Stack(request, _environment(settings), configure_log=_keep_log, alter=self._reroute)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the stack around the body, from when it takes traffic; nothing of it is left afterwards.

        Raises:
            PratiqueError: it did not start.
        """
        become_subreaper()
        life = asyncio.create_task(self._stack.run())
        ready = asyncio.create_task(self._stack.became_ready.wait())
        try:
            async with asyncio.timeout(_START_SECONDS):
                await asyncio.wait({life, ready}, return_when=asyncio.FIRST_COMPLETED)
                if life.done():
                    await life
            await self._all_ready()
            yield
        finally:
            ready.cancel()
            self._stack.stop()
            try:
                await life
            finally:
                await asyncio.to_thread(self._faults.close)

    @property
    def database(self) -> Path:
        return self.folder / "conversations.db"

    @property
    def logs(self) -> Path:
        return self._paths.logs

    @property
    def api_key(self) -> str:
        return self._paths.api_key.read_text(encoding="utf-8").strip()

    def pid(self, name: str) -> int | None:
        """Return the process of a service, which leads a process group; None while it has none."""
        return next((found.pid for found in self._stack.status().services if found.name == name), None)

    def address(self, name: str) -> tuple[str, int]:
        """Return where a service listens, past the proxies."""
        found = next(found.address for found in self._stack.status().services if found.name == name)
        host, _, port = found.rpartition("://")[2].rpartition("@")[2].split("/")[0].rpartition(":")
        return host, int(port)

    def restart(self, name: str) -> None:
        """Have a service drained and started again."""
        self._stack.restart(name)

    def is_ready(self, name: str) -> bool:
        """Whether its supervisor finds it ready."""
        return any(found.ready for found in self._stack.status().services if found.name == name)

    def inward(self, name: str) -> tuple[TcpProxy, ...]:
        """Return the links that lead to a service."""
        return tuple(proxy for link, proxy in self.links.items() if link.endswith(f"> {name}"))

    def heal(self) -> None:
        """End every fault of a connection."""
        for proxy in self.links.values():
            proxy.heal()

    async def _all_ready(self) -> None:
        async with asyncio.timeout(_START_SECONDS):
            while not all(found.ready for found in self._stack.status().services):  # noqa: ASYNC110 - asks others
                await asyncio.sleep(0.1)

    def _reroute(self, plan: Plan) -> Plan:
        """Lead every connection through a proxy of its own."""
        self.url = self._link("clients > edge", plan.url)
        return replace(
            plan,
            edge=self._edge(plan.edge),
            services=tuple(self._service(planned, plan) for planned in plan.services),
        )

    def _edge(self, edge: EdgeConfig) -> EdgeConfig:
        return replace(edge, pools=tuple(self._pool(pool) for pool in edge.pools))

    def _pool(self, pool: Pool) -> Pool:
        endpoints = []
        for endpoint in pool.endpoints:
            name = f"edge > {endpoint.name}"
            self._link(name, f"http://{endpoint.host}:{endpoint.port}")
            endpoints.append(replace(endpoint, port=self.links[name].port))
        return replace(pool, endpoints=tuple(endpoints))

    def _service(self, planned: PlannedService, plan: Plan) -> PlannedService:
        if planned.spec.kind != "orchestrator":
            return planned
        url = self._link(f"{planned.name} > valkey", plan.valkey_url)
        program = planned.spec.program
        environment: Mapping[str, str] = {**program.environment, _VALKEY_URL: url}
        return replace(planned, spec=replace(planned.spec, program=replace(program, environment=environment)))

    def _link(self, name: str, url: str) -> str:
        self.links[name] = self._faults(url, probe_seconds=None)
        return self.links[name].url


def drill_settings(*, orchestrators: int, inference: int, engine: str) -> StackSettings:
    """Return the stack of a drill: on free ports, with quick goodbyes.

    Raises:
        SettingsError: there is no such engine, or a number is out of bounds.
    """
    fields = {"port": 0, "orchestrators": orchestrators, "inference": inference, "engine": engine}
    try:
        return msgspec.convert(fields, StackSettings)
    except msgspec.ValidationError as error:
        raise SettingsError(f"The drill's stack cannot be made: {error}.") from error


def _environment(settings: StackSettings) -> dict[str, str]:
    """Return what the parts are started with: ours, without what would change them, at the drill's speed."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PRATIQUE_", "COVERAGE_"))}
    # The services run in a folder of their own: a relative path would lead elsewhere there.
    kept["PYTHONPATH"] = str(Path(pratique.__file__).resolve().parents[1])
    if settings.engine == "simulated":
        kept["PRATIQUE_INFERENCE_SIMULATED"] = json.dumps({"token_seconds": 0.03, "reply_tokens": REPLY_TOKENS})
    return kept


def _keep_log(path: Path) -> None:
    configure_events(service="supervisor", stream=path.open("a", encoding="utf-8", buffering=1))
