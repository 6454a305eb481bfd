"""WireMock: the jar of the npm package `wiremock` under Java, a container, or a URL.

A namespace is an `Upstream`: a path of its own on the shared server. Answers that wait hold no thread (asynchronous
responses); bodies are not zipped, or slow ones would not be slow; the journal is bounded, and a scope that lost
requests by that finds out. Templates in answers, recording and proxying are WireMock's own: use its admin API.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from pratique.testkit.errors import ServiceGoneError, UnexpectedAnswerError
from pratique.testkit.host.launch import ContainerLaunch, HttpReady, ProcessLaunch
from pratique.testkit.services.http import nobody_answers
from pratique.testkit.services.interface import Backend, Connection, Endpoint, Found, Provider
from pratique.testkit.services.tools import find_npm_file, find_program

if TYPE_CHECKING:
    from pathlib import Path

    from pratique.testkit.choreography.admin import WireMockAdmin
    from pratique.testkit.choreography.upstream import Upstream

__all__ = ["MEMORY_MB", "WireMockEndpoint", "WireMockService"]

_IMAGE: Final = "docker.io/wiremock/wiremock:3.13.2"
_READY: Final = HttpReady(path="/__admin/health")
MEMORY_MB: Final = 768
"""Of a server that the kit starts."""
_JVM: Final = (
    # It lives for minutes: quick to start and small, not quick in the long run.
    *("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto"),
    *("-Xms32m", f"-Xmx{MEMORY_MB}m", "-Xss512k", "-XX:-UsePerfData"),
    # For want of memory it ends, and is seen to, instead of answering at random.
    "-XX:+ExitOnOutOfMemoryError",
)
_OPTIONS: Final = (
    *("--async-response-enabled", "true", "--async-response-threads", "64", "--container-threads", "64"),
    *("--disable-gzip", "--disable-banner", "--disable-response-templating"),
    *("--max-request-journal-entries", "4000", "--logged-response-body-size-limit", "4096"),
)
_VERSION: Final = re.compile(r"-(\d[\w.]*)\.jar$")


@dataclass(frozen=True, kw_only=True)
class WireMockEndpoint(Endpoint):
    """A server shared by the whole run. Script an `upstream` of it, where others run beside you."""

    def client(self) -> WireMockAdmin:
        """Return a client of the admin API: for what scripts do not say."""
        from pratique.testkit.choreography.admin import WireMockAdmin

        return WireMockAdmin(self.url, log=self.connection.log)


class WireMockService:
    """WireMock."""

    name = "wiremock"
    title = "WireMock"
    starts_early = True
    capabilities: dict[str, str] = {}  # noqa: RUF012 - a Protocol's attribute

    def __init__(self) -> None:
        self.providers = (
            Provider(name="wiremock-jar", backend=Backend.PROCESS, find=_find_jar),
            Provider(name="wiremock-container", backend=Backend.CONTAINER, find=_find_container),
        )

    def connect(self, connection: Connection) -> WireMockEndpoint:
        endpoint = WireMockEndpoint(service=self.name, connection=connection)
        if connection.version:
            return endpoint
        try:
            version = endpoint.client().version()
        except (ServiceGoneError, UnexpectedAnswerError) as error:
            raise nobody_answers("WireMock", endpoint.url, error) from error
        return replace(endpoint, connection=replace(connection, version=version))

    def namespace(self, endpoint: WireMockEndpoint, name: str) -> Upstream:
        from pratique.testkit.choreography.upstream import Upstream

        return Upstream(endpoint, endpoint.client(), name)


def _find_jar() -> Found:
    java = find_program("java", hint="Install a Java runtime, 17 or later: Debian's is openjdk-17-jre-headless.")
    jar = find_npm_file("wiremock", "build/wiremock-standalone-*.jar")
    own = ("--port", "{port}", "--bind-address", "127.0.0.1", "--root-dir", "{folder}")
    command = (str(java), *_JVM, "-jar", str(jar), *own, *_OPTIONS)
    return Found(launch=ProcessLaunch(command=command, ready=_READY), version=_version_of(jar))


def _version_of(jar: Path) -> str:
    found = _VERSION.search(jar.name)
    return found[1] if found else "unknown"


def _find_container() -> Found:
    from pratique.testkit.host.container import require_engine

    require_engine()
    launch = ContainerLaunch(
        image=_IMAGE, port=8080, ready=_READY, command=_OPTIONS, environment={"JAVA_OPTS": " ".join(_JVM)}
    )
    return Found(launch=launch, version=_IMAGE.rpartition(":")[2])
