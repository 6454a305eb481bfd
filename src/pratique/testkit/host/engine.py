"""The container engine of this machine: where it is, and the few requests that must be quick and certain.

Standard library only. Looking for an engine happens while pytest prints its header, removing containers while the host
dies: neither has time for an import, a lock or a retry. Everything here is one request with one deadline.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlencode, urlsplit

from pratique.testkit.errors import ServiceMissingError
from pratique.testkit.services.tools import find_python_package

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["OWNER_LABEL", "candidate_addresses", "list_owned", "remove_container", "require_engine"]

OWNER_LABEL: Final = "pratique.testkit.owner"
_LOOK_SECONDS: Final = 1.0
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_TCP_PORT: Final = 2375
_ANSWER_BYTES: Final = 16 * 1024 * 1024
_GONE: Final = frozenset({200, 204, 404, 409})
"""Removed, not there, or being removed by somebody else."""
_HINT: Final = (
    "Start Docker, or `podman system service --time=0 unix:///run/podman/podman.sock`, or say where one is: "
    "DOCKER_HOST=unix:///path/to.sock."
)


def candidate_addresses(environment: Mapping[str, str], *, uid: int) -> list[str]:
    """Return where an engine may be, in order. One that was named is the only one."""
    for name in ("DOCKER_HOST", "CONTAINER_HOST"):
        if environment.get(name):
            return [environment[name]]
    runtime = environment.get("XDG_RUNTIME_DIR") or f"/run/user/{uid}"
    home = environment.get("HOME") or "/root"
    sockets = (
        "/var/run/docker.sock",
        f"{runtime}/docker.sock",
        f"{home}/.docker/run/docker.sock",
        f"{home}/.docker/desktop/docker.sock",
        f"{runtime}/podman/podman.sock",
        *(("/run/podman/podman.sock",) if uid == 0 else ()),
    )
    return [f"unix://{path}" for path in sockets]


def require_engine() -> str:
    """Return the address of an engine that answers, within about a second whatever happens.

    Raises:
        ServiceMissingError: none does, or what talks to it is not installed; with what was tried.
    """
    find_python_package("testcontainers", extra="testkit-containers")
    tried: list[str] = []
    absent: list[str] = []
    deadline = time.monotonic() + _LOOK_SECONDS
    for address in candidate_addresses(os.environ, uid=os.getuid()):
        if _is_absent(address):
            absent.append(address)
        elif why_not := _why_not(address, deadline):
            tried.append(f"{address} ({why_not})")
        else:
            return address
    words = [*tried, *([f"not there: {', '.join(absent)}"] if absent else [])]
    raise ServiceMissingError(f"no container engine answers: {'; '.join(words)}", hint=_HINT)


def remove_container(address: str, name: str, *, seconds: float) -> None:
    """Kill and remove a container with its volumes; one that is not there is fine.

    Raises:
        OSError: the engine did not do it in this time.
    """
    path = f"/containers/{quote(name, safe='')}?force=true&v=true"
    status, body = _request(address, "DELETE", path, seconds=seconds)
    if status not in _GONE:
        raise OSError(f"the engine answered {status} to the removal of {name}: {body[:300].decode('utf-8', 'replace')}")


def list_owned(address: str, *, seconds: float) -> dict[str, str]:
    """Return every container that a test kit made on this engine: id → its owner's label.

    Raises:
        OSError: the engine did not answer in this time, or with something else.
    """
    words = urlencode({"all": "true", "filters": json.dumps({"label": [OWNER_LABEL]})})
    status, body = _request(address, "GET", f"/containers/json?{words}", seconds=seconds)
    try:
        return {one["Id"]: one["Labels"][OWNER_LABEL] for one in json.loads(body)}
    except (ValueError, KeyError, TypeError) as error:
        raise OSError(f"the engine answered {status} to a list of containers, and not with one") from error


def _is_absent(address: str) -> bool:
    parts = urlsplit(address)
    return parts.scheme == "unix" and not Path(parts.path).exists()


def _why_not(address: str, deadline: float) -> str:
    """Return why an engine cannot be used, or "" where it can."""
    parts = urlsplit(address)
    if parts.scheme != "unix" and (parts.scheme != "tcp" or parts.hostname not in _LOOPBACK):
        return "on another machine: a port that it publishes on its loopback address cannot be reached from here"
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        return "not asked, the time was up"
    try:
        status, _ = _request(address, "GET", "/_ping", seconds=seconds)
    except OSError as error:
        return str(error) or type(error).__name__
    return "" if status == http.client.OK else f"answers {status} to a ping"


class _Connection(http.client.HTTPConnection):
    """HTTP over a connected socket."""

    def __init__(self, connected: socket.socket) -> None:
        super().__init__("engine")
        self.sock = connected


def _connect(address: str, seconds: float) -> socket.socket:
    parts = urlsplit(address)
    if parts.scheme != "unix":
        return socket.create_connection((parts.hostname, parts.port or _TCP_PORT), timeout=seconds)
    connected = socket.socket(socket.AF_UNIX)
    connected.settimeout(seconds)
    try:
        connected.connect(parts.path)
    except OSError:
        connected.close()
        raise
    return connected


def _request(address: str, method: str, path: str, *, seconds: float) -> tuple[int, bytes]:
    with _connect(address, seconds) as connected:
        connection = _Connection(connected)
        try:
            connection.request(method, path, headers={"Connection": "close"})
            answer = connection.getresponse()
            return answer.status, answer.read(_ANSWER_BYTES)
        except http.client.HTTPException as error:
            raise OSError(f"it does not speak HTTP: {error!r}") from error
