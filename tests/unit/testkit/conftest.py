"""A kit on a host that is not there, with services that remember what was asked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pratique.testkit.errors import HostGoneError, ServiceMissingError
from pratique.testkit.host.client import HostClient
from pratique.testkit.host.launch import Launch, ProcessLaunch, Running, Statuses, TcpReady
from pratique.testkit.kit import Kit
from pratique.testkit.options import LeakMode, Options
from pratique.testkit.services.interface import Backend, Connection, Endpoint, Found, Provider

if TYPE_CHECKING:
    from collections.abc import Callable

LAUNCH = ProcessLaunch(command=("x",), ready=TcpReady())


class FakeHost(HostClient):
    """Starts nothing, and answers as a host does."""

    def __init__(self) -> None:
        super().__init__(Path("/no/host"))
        self.asked: list[str] = []
        self.starts = 1
        self.is_gone = False
        self.starting: tuple[str, ...] = ()
        self.labels: dict[str, tuple[str, ...]] = {}
        self.logs: Path | None = None

    def ensure(self, key: str, launch: Launch, *, label: str = "") -> Running:
        assert launch is LAUNCH
        self.asked.append(f"ensure {key} {label}".rstrip())
        return self.running(key)

    def begin(self, key: str, launch: Launch, *, label: str = "") -> None:
        if self.is_gone:
            raise HostGoneError("gone")
        self.labels[key] = (label,)
        self.starting = (*self.starting, key)

    def signal(self, key: str, action: str, *, start_seconds: float = 0.0) -> None:
        self.asked.append(f"{action} {key}" + (f" within {start_seconds:g} s" if start_seconds else ""))

    def stop(self, key: str) -> None:
        self.asked.append(f"stop {key}")

    def tail(self, key: str, lines: int = 20) -> str:
        if self.is_gone:
            raise HostGoneError("gone")
        return f"{lines} lines of {key}"

    def status(self) -> Statuses:
        if self.is_gone:
            raise HostGoneError("gone")
        return Statuses(servers=(), starting=self.starting, labels=self.labels, pid=1)

    def running(self, key: str) -> Running:
        log = str(self.logs / key) if self.logs else ""
        return Running(
            key=key, host="127.0.0.1", port=1, pid=2, folder="", log=log, start_seconds=0.25, starts=self.starts
        )


class FakeNamespace:
    """Leaves behind what it is told to."""

    def __init__(self, service: FakeService, endpoint: Endpoint, name: str) -> None:
        self.service = service
        self.endpoint = endpoint
        self.name = name

    def open(self) -> None:
        self.service.events.append(f"open {self.name}")
        if self.service.failures:
            raise self.service.failures.pop(0)

    def leaks(self) -> list[str]:
        self.service.events.append("leaks")
        if self.service.leak_error:
            raise self.service.leak_error
        return self.service.left

    def close(self) -> None:
        self.service.events.append("close")


class FakeService:
    """One native provider with a gap, one that is missing."""

    name = "fake"
    title = "Fake"
    starts_early = True
    capabilities = {"depth": "it is deep", "width": "it is wide"}  # noqa: RUF012 - a Protocol's attribute

    def __init__(self) -> None:
        def missing() -> Found:
            raise ServiceMissingError("no engine")

        self.is_here = True
        self.version = "1.2"
        gaps = {"depth": "it is shallow"}
        self.providers = (
            Provider(name="native", backend=Backend.PROCESS, find=self.find, gaps=gaps, scheme="fake"),
            Provider(name="boxed", backend=Backend.CONTAINER, find=missing),
        )
        self.events: list[str] = []
        self.failures: list[Exception] = []
        self.left: list[str] = []
        self.leak_error: Exception | None = None
        self.connect_error: Exception | None = None

    def find(self) -> Found:
        if not self.is_here:
            raise ServiceMissingError("gone")
        return Found(launch=LAUNCH, version=self.version)

    def connect(self, connection: Connection) -> Endpoint:
        if self.connect_error:
            raise self.connect_error
        return Endpoint(service=self.name, connection=connection)

    def namespace(self, endpoint: Any, name: str) -> FakeNamespace:
        return FakeNamespace(self, endpoint, name)


@pytest.fixture
def fake_host() -> FakeHost:
    return FakeHost()


@pytest.fixture
def fake_service() -> FakeService:
    return FakeService()


@pytest.fixture
def make_kit(fake_host: FakeHost, fake_service: FakeService) -> Callable[..., Kit]:
    def make(*, back_end: str = "auto", leaks: LeakMode = LeakMode.REPORT, is_required: bool = False) -> Kit:
        options = Options(back_ends={"fake": back_end}, leaks=leaks, is_required=is_required)
        return Kit(services={"fake": fake_service}, options=options, host=fake_host, run="abcdef", worker="gw3")

    return make
