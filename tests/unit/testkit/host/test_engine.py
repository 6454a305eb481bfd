"""Where the container engine is, and the requests that must not hang."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pratique.testkit.errors import ServiceMissingError
from pratique.testkit.host import engine
from pratique.testkit.host.engine import candidate_addresses, list_owned, remove_container, require_engine

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.unit


def test_named_engine_is_the_only_candidate() -> None:
    named = {"DOCKER_HOST": "tcp://127.0.0.1:2375", "CONTAINER_HOST": "unix:///x"}
    assert candidate_addresses(named, uid=0) == ["tcp://127.0.0.1:2375"]
    assert candidate_addresses({"CONTAINER_HOST": "unix:///x"}, uid=0) == ["unix:///x"]


def test_usual_sockets_of_docker_come_before_podmans_and_roots_only_for_root() -> None:
    user = candidate_addresses({"XDG_RUNTIME_DIR": "/run/user/7", "HOME": "/home/a"}, uid=7)
    assert user[0] == "unix:///var/run/docker.sock"
    assert user[-1] == "unix:///run/user/7/podman/podman.sock"
    assert "unix:///home/a/.docker/run/docker.sock" in user
    assert candidate_addresses({}, uid=0)[-1] == "unix:///run/podman/podman.sock"


def test_engine_that_answers_is_found(fake_engine: Any) -> None:
    assert require_engine() == fake_engine.address


def test_missing_socket_is_named_with_how_to_get_an_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(ServiceMissingError, match=r"not there: unix://.*none\.sock") as caught:
        require_engine()
    assert "podman system service" in (caught.value.hint or "")


@pytest.mark.parametrize("address", ["tcp://build.example:2375", "ssh://me@build.example", "npipe:////./pipe/docker"])
def test_engine_of_another_machine_is_refused_with_the_reason(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", address)
    with pytest.raises(ServiceMissingError, match="on another machine"):
        require_engine()


def test_engine_that_answers_with_an_error_is_not_taken(fake_engine: Any) -> None:
    fake_engine.ping_status = 500
    with pytest.raises(ServiceMissingError, match="answers 500 to a ping"):
        require_engine()


def test_engine_without_its_python_package_is_no_back_end(fake_engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str, *, extra: str) -> str:
        raise ServiceMissingError(f"{name} {extra}")

    monkeypatch.setattr(engine, "find_python_package", missing)
    with pytest.raises(ServiceMissingError, match="testcontainers testkit-containers"):
        require_engine()
    assert fake_engine.removed == []


@pytest.fixture
def mute(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server that takes connections and says nothing."""
    monkeypatch.setattr(engine, "_LOOK_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        monkeypatch.setenv("DOCKER_HOST", address)
        yield address


def test_engine_that_never_answers_does_not_hold_up_the_header(mute: str) -> None:
    began = time.monotonic()
    with pytest.raises(ServiceMissingError, match="timed out"):
        require_engine()
    assert time.monotonic() - began < 2


def test_time_is_shared_by_all_candidates(mute: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "candidate_addresses", lambda *_, **__: [mute, mute])
    with pytest.raises(ServiceMissingError, match="the time was up"):
        require_engine()


def test_something_else_than_an_engine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def babble() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"220 mail\r\n")

        thread = threading.Thread(target=babble)
        thread.start()
        monkeypatch.setenv("DOCKER_HOST", f"tcp://localhost:{listener.getsockname()[1]}")
        with pytest.raises(ServiceMissingError, match="does not speak HTTP"):
            require_engine()
        thread.join()


@pytest.mark.parametrize("status", [200, 204, 404, 409])
def test_removal_of_what_is_gone_or_going_is_done(fake_engine: Any, status: int) -> None:
    fake_engine.delete_status = status
    remove_container(fake_engine.address, "c1", seconds=1)
    assert fake_engine.removed == ["c1"]


def test_refused_removal_is_an_error(fake_engine: Any) -> None:
    fake_engine.delete_status = 500
    with pytest.raises(OSError, match="500 to the removal of c1"):
        remove_container(fake_engine.address, "c1", seconds=1)


def test_owned_containers_are_listed_with_their_owner(fake_engine: Any) -> None:
    fake_engine.containers = {"c1": "me"}
    assert list_owned(fake_engine.address, seconds=1) == {"c1": "me"}


@pytest.mark.parametrize("body", [b"nonsense", b'{"message":"no"}', b"[{}]", b"[1]"])
def test_list_that_is_none_is_an_error(fake_engine: Any, body: bytes) -> None:
    fake_engine.list_body = body
    with pytest.raises(OSError, match="not with one"):
        list_owned(fake_engine.address, seconds=1)


def test_engine_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        remove_container(f"unix://{tmp_path}/gone.sock", "c1", seconds=1)
