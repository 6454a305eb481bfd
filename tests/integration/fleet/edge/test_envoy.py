"""The rendered configuration in a real Envoy: affinity, health, retries, streams, changes while it runs."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from typing import TYPE_CHECKING

import aiohttp
import pytest
from yarl import URL

from pratique.fleet.edge import Share, find_envoy

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.integration.fleet.edge.conftest import Client, Edge, Replica

pytestmark = [pytest.mark.integration, pytest.mark.fast]


def test_envoy_accepts_the_bootstrap(tmp_path: Path, make_edge: Callable[[Path], Edge]) -> None:
    edge = make_edge(tmp_path)
    edge.write()
    command = [*edge.files.command(find_envoy()), "--mode", "validate"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")


async def test_envoy_accepts_every_resource(client: Client) -> None:
    statistics = await client.statistics()
    rejected = {name: value for name, value in statistics.items() if name.endswith("update_rejected") and value}
    assert rejected == {}
    assert statistics["listener_manager.listener_create_failure"] == 0


@pytest.mark.parametrize("carrier", ["header", "cookie"])
async def test_one_key_stays_on_one_replica(client: Client, carrier: str) -> None:
    seen = set()
    for _ in range(200):
        seen.add(await (client.who("somebody") if carrier == "header" else client.who(cookie="somebody")))
    assert len(seen) == 1


async def test_header_wins_over_cookie(client: Client) -> None:
    by_key = {key: await client.who(key) for key in (f"key-{number}" for number in range(8))}
    here = next(key for key, replica in by_key.items() if replica == "replica-0")
    there = next(key for key, replica in by_key.items() if replica == "replica-1")
    assert await client.who(here, cookie=there) == "replica-0"


async def test_replica_that_is_not_ready_gets_nothing_and_comes_back(client: Client, replicas: list[Replica]) -> None:
    replicas[0].ready = False
    await client.wait_until(lambda answers: set(answers) == {"replica-1"})
    before = replicas[0].requests
    assert set(await client.sample(50)) == {"replica-1"}
    assert replicas[0].requests == before
    replicas[0].ready = True
    await client.wait_until(lambda answers: set(answers) == {"replica-0", "replica-1"})


async def test_replica_that_was_never_ready_never_gets_a_request(
    edge: Edge, client: Client, replicas: list[Replica], ports: Callable[[], int]
) -> None:
    late = type(replicas[0])("replica-2", ports())
    late.ready = False
    await late.start()
    try:
        edge.pools = (edge.pool("replicas", [*replicas, late]),)
        edge.write()
        answers = [await client.who(f"key-{number}") for number in range(200)]
        assert set(answers) == {"replica-0", "replica-1"}
        assert late.requests == 0
        late.ready = True
        await client.wait_until(lambda found: "replica-2" in found)
    finally:
        await late.stop()


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_refused_connection_is_retried_on_the_other_replica(
    client: Client, replicas: list[Replica], method: str
) -> None:
    await replicas[0].stop()
    answers = [await client.who(f"key-{number}", method=method) for number in range(40)]
    assert set(answers) == {"replica-1"}


async def test_no_replica_is_a_503_with_a_code(edge: Edge, client: Client, replicas: list[Replica]) -> None:
    for replica in replicas:
        replica.ready = False
    await client.wait_until(lambda answers: set(answers) == {"status 503"})
    async with client.session.get(f"{edge.url}/who") as response:
        assert (await response.json())["error"]["code"] == "no_replica"
        assert response.headers["retry-after"] == "1"


async def test_first_event_arrives_before_the_last_is_sent(edge: Edge, client: Client, replicas: list[Replica]) -> None:
    async with client.session.get(f"{edge.url}/stream") as response:
        assert await response.content.readuntil(b"\n\n") == b"data: first\n\n"
        for replica in replicas:
            replica.go_on.set()
        assert await response.content.readuntil(b"\n\n") == b"data: last\n\n"


async def test_websocket_passes_and_stays_while_its_replica_drains(
    edge: Edge, client: Client, replicas: list[Replica]
) -> None:
    async with client.session.ws_connect(f"{edge.url}/ws", headers={"x-pratique-affinity": "somebody"}) as channel:
        await channel.send_str("hello")
        name, _, text = str(await channel.receive_str(timeout=5)).partition(": ")
        assert text == "hello"
        next(replica for replica in replicas if replica.name == name).ready = False
        await client.wait_until(lambda answers: name not in answers)
        await channel.send_str("again")
        assert await channel.receive_str(timeout=5) == f"{name}: again"


async def test_websocket_to_a_dead_replica_opens_on_the_other(
    edge: Edge, client: Client, replicas: list[Replica]
) -> None:
    by_key = {key: await client.who(key) for key in (f"key-{number}" for number in range(8))}
    key = next(key for key, replica in by_key.items() if replica == "replica-0")
    await replicas[0].stop()
    async with client.session.ws_connect(f"{edge.url}/ws", headers={"x-pratique-affinity": key}) as channel:
        await channel.send_str("hello")
        assert await channel.receive_str(timeout=5) == "replica-1: hello"


async def test_removed_endpoint_is_out_at_once_and_its_stream_goes_on(
    edge: Edge, client: Client, replicas: list[Replica]
) -> None:
    async with client.session.get(f"{edge.url}/stream", headers={"x-pratique-affinity": "somebody"}) as response:
        await response.content.readuntil(b"\n\n")
        name = await client.who("somebody")
        serving = next(replica for replica in replicas if replica.name == name)
        other = next(replica for replica in replicas if replica is not serving)
        edge.pools = (edge.pool("replicas", [other]),)
        started = time.monotonic()
        edge.write()
        while await client.who("somebody") != other.name:  # noqa: ASYNC110 - another process changes
            await asyncio.sleep(0.001)
        assert time.monotonic() - started < 0.5
        serving.go_on.set()
        assert await response.content.readuntil(b"\n\n") == b"data: last\n\n"


async def test_changed_weights_move_only_who_must_move(edge: Edge, client: Client, replicas: list[Replica]) -> None:
    edge.pools = (edge.pool("stable", [replicas[0]]), edge.pool("canary", [replicas[1]]))
    edge.shares = (Share(pool="stable", weight=95), Share(pool="canary", weight=5))
    edge.write()
    await client.wait_until(lambda answers: answers.count("replica-0") > 4)
    keys = [f"person-{number}" for number in range(100)]
    before = {key: await client.who(key) for key in keys}
    edge.shares = (Share(pool="stable", weight=80), Share(pool="canary", weight=20))
    started = time.monotonic()
    edge.write()
    moving = [key for key in keys if before[key] == "replica-0"]
    while all([await client.who(key) == "replica-0" for key in moving]):
        assert time.monotonic() - started < 5
    after = {key: await client.who(key) for key in keys}
    assert all(after[key] == "replica-1" for key in keys if before[key] == "replica-1")
    assert 5 < list(after.values()).count("replica-1") < 40


async def test_broken_file_keeps_the_last_good_one(edge: Edge, client: Client) -> None:
    for name in ("routes-public.json", "endpoints-replicas.json", "listeners.json", "clusters.json"):
        draft = edge.folder / "draft"
        draft.write_text('{"resources": [{"@type": "nonsense"', encoding="utf-8")
        draft.replace(edge.folder / name)
    await asyncio.sleep(0.1)
    assert set(await client.sample(20)) == {"replica-0", "replica-1"}


async def test_forged_request_id_and_long_headers(edge: Edge, client: Client) -> None:
    async with client.session.get(f"{edge.url}/who", headers={"x-request-id": "mine"}) as response:
        assert response.headers["x-request-id"] == response.headers["x-seen-request-id"]
    async with client.session.get(f"{edge.url}/who", headers={"x-long": "a" * 40_000}) as response:
        assert response.status == 431


@pytest.mark.parametrize("path", ["/metrics", "/readyz", "/metrics?a=b", "/x/../metrics", "/%6detrics"])
async def test_figures_and_probes_of_replicas_are_not_public(client: Client, edge: Edge, path: str) -> None:
    async with client.session.get(URL(f"{edge.url}{path}", encoded=True)) as response:
        assert response.status == 404


async def test_every_request_is_a_json_line(edge: Edge, client: Client) -> None:
    async with client.session.get(f"{edge.url}/who?secret=1") as response:
        request_id = response.headers["x-request-id"]

    def lines() -> list[dict[str, object]]:
        return [json.loads(line) for line in (edge.folder / "access.log").read_text(encoding="utf-8").splitlines()]

    async with asyncio.timeout(20):  # Envoy flushes its log every 10 seconds
        while not (found := [x for x in lines() if x.get("request_id") == request_id]):  # noqa: ASYNC110 - a file
            await asyncio.sleep(0.1)
    assert found[0]["path"] == "/who"
    assert found[0]["status"] == 200


async def test_connection_cut_in_the_middle_of_a_stream_is_not_repeated(
    edge: Edge, client: Client, replicas: list[Replica]
) -> None:
    async with client.session.get(f"{edge.url}/stream") as response:
        await response.content.readuntil(b"\n\n")
        served = sum(replica.requests for replica in replicas)
        for replica in replicas:
            await replica.stop()
        with pytest.raises(aiohttp.ClientError):
            await response.content.read()
        assert sum(replica.requests for replica in replicas) == served
