"""`pratique up --detach` and the commands beside it, over real services and the simulated engine."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import stat
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest
from redis import Redis
from tests.integration.fleet.stack.conftest import until

from pratique.fleet.errors import SupervisorLostError
from pratique.fleet.stack.control import ControlClient

if TYPE_CHECKING:
    from tests.integration.fleet.stack.conftest import Home

pytestmark = [pytest.mark.integration]

NAMES = ["api-key", "inference-0", "inference-1", "valkey", "edge", "orchestrator-0", "orchestrator-1"]


def get(url: str, **headers: str) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as response:  # noqa: S310 - ours
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_status_names_every_service_with_state_address_and_memory(stack: Home) -> None:
    status = stack.status()
    assert (status["schema_version"], status["state"], status["engine"]) == (1, "ready", "simulated")
    assert [service["name"] for service in status["services"]] == NAMES
    for service in status["services"][1:]:
        assert service["ready"]
        assert service["pid"] > 0
        assert service["memory_bytes"] > 1_000_000
    assert stack.service("inference-1")["lifecycle"] == "traffic_ready"
    assert stack.service("inference-1")["timings"]["ready"] > 0
    shown = stack.run("status")
    assert shown.returncode == 0
    assert all(name in shown.stdout for name in NAMES)


def test_edge_leads_to_the_chat_and_its_inside_is_private(stack: Home) -> None:
    url = stack.status()["url"]
    assert get(f"{url}/livez") == 200
    assert [get(f"{url}{path}") for path in ("/readyz", "/metrics")] == [404, 404]
    key = (stack.root / "api-key").read_text(encoding="utf-8").strip()
    assert get(f"{url}/v1/models", authorization=f"Bearer {key}") == 200
    assert get(f"{url}/v1/models", authorization="Bearer pk_wrong") == 401
    for name in ("api-key", "stack.json", "session-secret", "valkey/valkey.conf", "supervisor.sock"):
        assert stat.S_IMODE((stack.root / name).stat().st_mode) & 0o077 == 0, name
    assert stat.S_IMODE(stack.root.stat().st_mode) == 0o700


def test_valkey_wants_its_password_and_keeps_nothing_on_disk(stack: Home) -> None:
    url = json.loads((stack.root / "stack.json").read_bytes())["addresses"]["valkey"]
    with Redis.from_url(url) as client:
        assert client.config_get("save") == {b"save": b""} or client.config_get("save") == {"save": ""}
    with socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1].split("/")[0]))) as stranger:
        stranger.sendall(b"PING\r\n")
        assert stranger.recv(100).startswith(b"-NOAUTH")


@pytest.mark.parametrize("name", ["orchestrator-0", "inference-1", "valkey", "edge"])
def test_killed_service_comes_back_where_it_was(stack: Home, name: str) -> None:
    before = stack.service(name)
    os.kill(before["pid"], signal.SIGKILL)
    until(lambda: stack.service(name)["restarts"] == before["restarts"] + 1, f"{name} is restarted")
    until(lambda: all(service["ready"] for service in stack.status()["services"]), "all is well again")
    after = stack.service(name)
    assert after["address"] == before["address"]
    assert after["pid"] != before["pid"]
    assert after["last_exit"] == "was killed by SIGKILL"


async def test_restart_is_asked_for_over_the_control_socket(stack: Home) -> None:
    before = await asyncio.to_thread(stack.service, "edge")
    client = ControlClient(stack.root / "supervisor.sock")
    await client.ask("restart", service="edge")
    async with asyncio.timeout(20):
        while (after := await asyncio.to_thread(stack.service, "edge"))["pid"] == before["pid"] or not after["ready"]:  # noqa: ASYNC110 - another process changes
            await asyncio.sleep(0.05)
    assert after["restarts"] == before["restarts"] + 1
    with pytest.raises(SupervisorLostError, match="'nobody' is no service") as refused:
        await client.ask("restart", service="nobody")
    assert "orchestrator-1" in str(refused.value.hint)


def test_second_up_is_refused_and_says_how_to_stop_the_first(stack: Home) -> None:
    for flags in ((), ("--detach",)):
        refused = stack.up(*flags)
        assert refused.returncode == 1
        assert "error: A stack already runs in" in refused.stderr
        assert "pratique down --state-dir" in refused.stderr
    assert stack.status()["state"] == "ready"


def test_logs_of_all_and_of_one(stack: Home) -> None:
    everything = stack.run("logs", "-n", "500").stdout
    assert "orchestrator-0" in everything
    assert "supervisor" in everything
    one = stack.run("logs", "edge", "--json", "-n", "3").stdout.splitlines()
    assert len(one) <= 3
    assert all(json.loads(line)["event"] for line in one)
    unknown = stack.run("logs", "nobody")
    assert unknown.returncode == 2
    assert "edge" in unknown.stderr


def test_supervisor_that_hangs_is_not_waited_for_without_end(stack: Home) -> None:
    pid = stack.status()["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        asked = stack.run("status")
        assert asked.returncode == 3
        assert "does not answer" in asked.stderr
    finally:
        os.kill(pid, signal.SIGCONT)


async def test_affinity_key_reaches_one_replica(stack: Home) -> None:
    url = (await asyncio.to_thread(stack.status))["url"]

    def replica(key: str) -> str:
        request = urllib.request.Request(f"{url}/api/status", headers={"x-pratique-affinity": key})  # noqa: S310 - ours
        with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310 - ours
            return str(json.loads(response.read())["replica"])

    by_key = {key: {replica(key) for _ in range(5)} for key in ("one", "two", "three", "four", "five", "six")}
    assert all(len(replicas) == 1 for replicas in by_key.values())
    assert len(set.union(*by_key.values())) == 2
