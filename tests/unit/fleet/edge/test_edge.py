"""Edge configuration as values and as files, without Envoy."""

from __future__ import annotations

import importlib.util
import json
import socket
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pratique.core.errors import CallerError
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
from pratique.fleet.edge.render import render_clusters, render_listeners, render_routes
from pratique.fleet.errors import ProgramMissingError

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.unit

HEALTH = HealthCheck(path="/readyz")
KEY = Affinity(header="x-key")


def pool(name: str = "chat", *ports: int) -> Pool:
    endpoints = tuple(Endpoint(name=f"{name}-{number}", port=port) for number, port in enumerate(ports or (1, 2)))
    return Pool(name=name, endpoints=endpoints, health=HEALTH)


def gate(*shares: Share, name: str = "public", affinity: Affinity = KEY) -> Gate:
    return Gate(name=name, port=8080, shares=shares or (Share(pool="chat"),), affinity=affinity)


def edge(*gates: Gate, pools: tuple[Pool, ...] | None = None) -> EdgeConfig:
    return EdgeConfig(gates=gates or (gate(),), pools=pools or (pool(),), admin_port=9901)


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: edge(pools=(pool(), pool())), "Each pool needs its own name; 'chat'"),
        (lambda: edge(gate(), gate()), "Each gate"),
        (lambda: edge(gate(Share(pool="nowhere"))), "'nowhere', which does not exist"),
        (lambda: edge(gate(Share(pool="chat", weight=0))), "weights"),
        (lambda: edge(gate(Share(pool="chat", weight=2), Share(pool="chat", weight=-1))), "weights"),
        (
            lambda: edge(
                pools=(Pool(name="chat", endpoints=(Endpoint(name="a", port=1),) * 2, health=HEALTH),),
            ),
            "'a' is there twice",
        ),
    ],
)
def test_wrong_configuration_is_refused_with_the_name(build: object, said: str) -> None:
    assert callable(build)
    with pytest.raises(CallerError, match=said):
        build()


def test_one_share_is_a_cluster_and_several_are_weights_chosen_by_key(tmp_path: Path) -> None:
    def action(*shares: Share, affinity: Affinity = KEY) -> dict[str, object]:
        rendered = render_routes(gate(*shares, affinity=affinity))
        route: dict[str, object] = rendered["resources"][0]["virtual_hosts"][0]["routes"][0]["route"]
        return route

    assert action()["cluster"] == "chat"
    weighted = action(Share(pool="a", weight=95), Share(pool="b", weight=5))
    assert weighted["weighted_clusters"] == {
        "use_hash_policy": True,
        "clusters": [{"name": "a", "weight": 95}, {"name": "b", "weight": 5}],
    }
    assert action(affinity=Affinity(header="h", cookie="c"))["hash_policy"] == [
        {"header": {"header_name": "h"}, "terminal": True},
        {"cookie": {"name": "c"}, "terminal": True},
    ]


def test_a_public_gate_shuts_what_is_for_those_who_run_it() -> None:
    def shut(*, is_public: bool) -> dict[str, int]:
        routes = render_routes(replace(gate(), is_public=is_public))["resources"][0]["virtual_hosts"][0]["routes"]
        assert routes[-1]["match"] == {"prefix": "/"}
        return {route["match"]["path"]: route["direct_response"]["status"] for route in routes[:-1]}

    assert shut(is_public=True) == {"/metrics": 404, "/readyz": 404}
    assert shut(is_public=False) == {}


def test_strangers_connections_do_not_rest_for_long(tmp_path: Path) -> None:
    def idle(*, is_public: bool) -> str:
        config = replace(edge(), gates=(replace(gate(), is_public=is_public),))
        manager = render_listeners(config, tmp_path)["resources"][0]["filter_chains"][0]["filters"][0]["typed_config"]
        return str(manager["common_http_protocol_options"]["idle_timeout"])

    assert (idle(is_public=True), idle(is_public=False)) == ("120s", "3600s")


def test_strangers_who_take_nothing_are_cut(tmp_path: Path) -> None:
    def options(*, is_public: bool) -> list[Any]:
        config = replace(edge(), gates=(replace(gate(), is_public=is_public),))
        found: list[Any] = render_listeners(config, tmp_path)["resources"][0]["socket_options"]
        return found

    assert options(is_public=False) == []
    [option] = options(is_public=True)
    assert (option["level"], option["name"]) == (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
    assert option["int_value"] == 60_000


def test_streams_have_no_time_limit_and_pools_no_panic(tmp_path: Path) -> None:
    config = edge()
    manager = render_listeners(config, tmp_path)["resources"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    assert (manager["stream_idle_timeout"], manager["request_timeout"]) == ("0s", "0s")
    assert manager["delayed_close_timeout"] == "0.010s", "a cut stream reaches its reader at once"
    assert manager["upgrade_configs"] == [{"upgrade_type": "websocket"}]
    cluster = render_clusters(config, tmp_path)["resources"][0]
    assert cluster["common_lb_config"]["healthy_panic_threshold"] == {"value": 0.0}
    assert cluster["ignore_health_on_host_removal"] is True
    assert cluster["health_checks"][0]["no_traffic_interval"] == cluster["health_checks"][0]["interval"] == "0.250s"


def test_only_what_changed_is_written_again(tmp_path: Path) -> None:
    files = EdgeFiles(tmp_path / "edge")
    files.write(edge())
    before = {path.name: path.stat().st_ino for path in (tmp_path / "edge").iterdir()}
    files.write(edge(pools=(pool("chat", 7, 8),)))
    after = {path.name: path.stat().st_ino for path in (tmp_path / "edge").iterdir()}
    assert {name for name in after if after[name] != before[name]} == {"endpoints-chat.json"}
    assert all(json.loads(path.read_bytes()) for path in (tmp_path / "edge").iterdir())


def test_command_names_the_bootstrap(tmp_path: Path) -> None:
    command = EdgeFiles(tmp_path).command(tmp_path / "envoy", workers=3)
    assert command[:3] == (str(tmp_path / "envoy"), "--config-path", str(tmp_path / "bootstrap.json"))
    assert "--disable-hot-restart" in command


def test_envoy_of_the_wheel_is_found() -> None:
    assert find_envoy().name == "envoy"


def test_envoy_is_looked_for_on_the_path_and_its_absence_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ProgramMissingError) as missing:
        find_envoy(str(tmp_path))
    assert "pip install" in str(missing.value.hint)
    program = tmp_path / "envoy"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert find_envoy(str(tmp_path)) == program


def test_wheel_without_its_program_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_loader("envoy", None, is_package=True)
    assert spec is not None
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(ProgramMissingError):
        find_envoy(str(tmp_path))
