"""What the host is asked to start, and what it answers: plain values, sent as JSON lines over a Unix socket.

In commands, environments and files `{port}` and `{folder}` stand for the server's port and its own folder.
"""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

__all__ = [
    "BACKLOG",
    "MARKER",
    "REQUEST_BYTES",
    "Action",
    "ContainerLaunch",
    "Ensure",
    "Failure",
    "HttpReady",
    "Launch",
    "Ok",
    "ProcessLaunch",
    "Ready",
    "RedisReady",
    "Request",
    "Response",
    "Running",
    "Signal",
    "Status",
    "Statuses",
    "Stop",
    "Tail",
    "Tailed",
    "TcpReady",
    "key_of",
]

BACKLOG: Final = 1024
"""Connections that may wait for the host; beyond it, a client tries again."""
MARKER: Final = "PRATIQUE_TESTKIT_HOST"
"""In the environment of every server: the folder of its host, so that none is missed and none of another run is hit."""
REQUEST_BYTES: Final = 4 * 1024 * 1024
"""The host reads no longer line."""


class _Value(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """Base of what travels."""


class TcpReady(_Value, frozen=True, tag="tcp"):
    """Ready is a connection that is accepted."""


class RedisReady(_Value, frozen=True, tag="redis"):
    """Ready is a PONG to a PING."""


class HttpReady(_Value, frozen=True, tag="http"):
    """Ready is an answer to GET with one of these statuses."""

    path: str = "/"
    statuses: tuple[int, ...] = (200,)


Ready = TcpReady | RedisReady | HttpReady


class ProcessLaunch(_Value, frozen=True, tag="process"):
    """A native process. It inherits the environment of pytest, less what could lead to an account (`AWS_*`)."""

    command: tuple[str, ...]
    ready: Ready
    environment: dict[str, str] = {}
    files: dict[str, str] = {}
    """Texts written into the server's folder before it starts, by their names."""
    start_seconds: float = 30.0
    """How long it may take to get ready."""
    stop_seconds: float = 2.0
    """How long it may take to end when asked, before it is killed."""


class ContainerLaunch(_Value, frozen=True, tag="container"):
    """A container of an image, with one port published on the loopback address."""

    image: str
    port: int
    ready: Ready
    command: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    start_seconds: float = 120.0


Launch = ProcessLaunch | ContainerLaunch


def key_of(service: str, launch: Launch, version: str = "") -> str:
    """Return the name under which a shared server is known: the same launch of the same version is the same server.

    The version counts because a host that is reused may have started what was at the same path before an upgrade.
    """
    digest = hashlib.sha256(msgspec.json.encode((launch, version))).hexdigest()[:12]
    return f"{service}-{digest}"


# Requests


class Ensure(_Value, frozen=True, tag="ensure"):
    """Start it, unless a server of that key runs."""

    key: str
    launch: Launch
    label: str = ""
    """For whom, as `SERVICE/PROVIDER`: one server may have several services."""


class Signal(_Value, frozen=True, tag="signal"):
    """Do something to a running server, as an accident would."""

    key: str
    action: Action


Action = str
"""One of `pause`, `resume`, `kill` (as a crash; the port stays reserved), `restart` (on the same port)."""


class Stop(_Value, frozen=True, tag="stop"):
    """End a server and forget it."""

    key: str


class Status(_Value, frozen=True, tag="status"):
    """Say which servers there are."""


class Tail(_Value, frozen=True, tag="tail"):
    """Return the end of a server's log."""

    key: str
    lines: int = 20


Request = Ensure | Signal | Stop | Status | Tail


# Answers


class Running(_Value, frozen=True, tag="running"):
    """A server that is ready."""

    key: str
    host: str
    port: int
    pid: int
    """0 for a container."""
    folder: str
    log: str
    start_seconds: float
    """From its start to ready."""
    starts: int = 1
    """More than 1: it was killed or died, and was started again on the same port, empty."""


class Statuses(_Value, frozen=True, tag="statuses"):
    """All servers that run."""

    servers: tuple[Running, ...]
    """Those that are ready."""
    starting: tuple[str, ...]
    """The keys of those that are not ready yet."""
    labels: dict[str, tuple[str, ...]]
    """For whom each of them is, by key."""
    pid: int
    """Of the host."""
    is_ending: bool = False
    """It still answers and starts nothing any more."""


class Tailed(_Value, frozen=True, tag="tailed"):
    """The end of a log."""

    text: str


class Ok(_Value, frozen=True, tag="ok"):
    """Done."""


class Failure(_Value, frozen=True, tag="failure"):
    """It did not work."""

    message: str
    hint: str | None = None


Response = Running | Statuses | Tailed | Ok | Failure
