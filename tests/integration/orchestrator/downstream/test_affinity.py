"""Inside each pool a conversation stays with one model server, through a real Envoy with a gate for each pool."""

from __future__ import annotations

import asyncio
import ctypes
import signal
import subprocess
from contextlib import AsyncExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from pratique.core.clock import SystemClock
from pratique.core.ids import ConversationId
from pratique.core.metrics import Metrics
from pratique.fleet.edge import Affinity, EdgeConfig, EdgeFiles, Endpoint, Gate, HealthCheck, Pool, Share, find_envoy
from pratique.orchestrator.models.catalogue import build_catalogue
from pratique.orchestrator.models.settings import ModelsSettings, PoolSettings
from pratique.orchestrator.settings import OrchestratorSettings
from pratique.orchestrator.upstream.build import build_upstream
from pratique.orchestrator.upstream.interface import UpstreamRequest, UpstreamUnavailableError
from pratique.orchestrator.upstream.scripted import ScriptedUpstream
from pratique.orchestrator.upstream.scripted_server import ScriptedModelServer
from pratique.testkit.ports import reserved_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pratique.orchestrator.upstream.interface import Upstream

pytestmark = pytest.mark.integration

POOLS = ("small", "large")
CONVERSATIONS = [f"conv_{number}" for number in range(12)]
TIMES = 4


def pool_of(name: str, servers: list[ScriptedModelServer]) -> Pool:
    endpoints = tuple(
        Endpoint(name=f"{name}-{number}", port=int(server.url.rpartition(":")[2]))
        for number, server in enumerate(servers)
    )
    return Pool(name=name, endpoints=endpoints, health=HealthCheck(path="/status", interval_seconds=0.1))


def gate_of(name: str, port: int) -> Gate:
    return Gate(name=name, port=port, shares=(Share(pool=name),), affinity=Affinity(header="x-pratique-conversation"))


@contextmanager
def envoy(folder: Path, config: EdgeConfig) -> Iterator[None]:
    files = EdgeFiles(folder)
    files.write(config)
    with (folder / "access.log").open("wb") as log:
        process = subprocess.Popen(
            files.command(find_envoy(), workers=1),
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - async-signal-safe: one prctl
            stdout=log,
        )
    try:
        yield
    finally:
        process.kill()
        process.wait(10)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


async def ask(upstream: Upstream, conversation: str, pool: str) -> None:
    request = UpstreamRequest(request_id="req", conversation_id=ConversationId(conversation), query="hello", model=pool)
    async with upstream.open(request) as stream:
        async for _ in stream:
            pass


async def wait_for_all(upstream: Upstream, servers: dict[str, list[ScriptedModelServer]]) -> None:
    """Return once the edge sends requests to every server."""
    async with asyncio.timeout(10):
        for pool, members in servers.items():
            number = 0
            while not all(server.upstream.requests for server in members):
                number += 1
                try:
                    await ask(upstream, f"probe_{number}", pool)
                except UpstreamUnavailableError:
                    await asyncio.sleep(0.05)


async def test_conversation_stays_with_one_server_of_each_pool(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        servers = {
            pool: [
                await stack.enter_async_context(ScriptedModelServer(ScriptedUpstream(words=1)).running())
                for _ in range(2)
            ]
            for pool in POOLS
        }
        ports = {pool: stack.enter_context(reserved_port()) for pool in POOLS}
        admin = stack.enter_context(reserved_port())
        gates = tuple(gate_of(pool, port) for pool, port in ports.items())
        pools = tuple(pool_of(pool, members) for pool, members in servers.items())
        stack.enter_context(envoy(tmp_path, EdgeConfig(gates=gates, pools=pools, admin_port=admin)))
        models = ModelsSettings(
            pools=tuple(PoolSettings(name=pool, url=f"http://127.0.0.1:{port}") for pool, port in ports.items())
        )
        settings = OrchestratorSettings(models=models)
        catalogue = build_catalogue(models, inference_url="")
        upstream = build_upstream(settings, clock=SystemClock(), metrics=Metrics(), models=catalogue)
        stack.push_async_callback(upstream.aclose)
        await wait_for_all(upstream, servers)

        for _ in range(TIMES):
            for conversation in CONVERSATIONS:
                for pool in POOLS:
                    await ask(upstream, conversation, pool)

        for pool in POOLS:
            seen = [
                {request.conversation_id for request in server.upstream.requests} & set(CONVERSATIONS)
                for server in servers[pool]
            ]
            assert seen[0] | seen[1] == set(CONVERSATIONS)
            assert seen[0] & seen[1] == set()
            assert seen[0]
            assert seen[1]
