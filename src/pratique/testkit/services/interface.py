"""What a service is to the test kit: who can provide it, how an endpoint is made of a running one, how it is shared.

A new service is one module with a `Service` and one line in `catalogue.py`. A provider is one way to have it: a native
process, a container, a second implementation. What a provider does not show of the real thing is its gaps, in the
service's own vocabulary of capabilities: a test that needs one refuses the provider that lacks it.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pratique.testkit.host.launch import Launch

__all__ = ["Backend", "Connection", "Endpoint", "Found", "Namespace", "Provider", "Service"]


class Backend(enum.StrEnum):
    """Where a server comes from."""

    URL = "url"
    PROCESS = "process"
    CONTAINER = "container"


@dataclass(frozen=True, kw_only=True)
class Found:
    """A provider that is on this machine."""

    launch: Launch
    version: str


@dataclass(frozen=True, kw_only=True)
class Provider:
    """One way to have a service."""

    name: str
    """As flags name it, unique within the service: `ministack`, `moto`."""
    backend: Backend
    find: Callable[[], Found]
    """Raises ServiceMissingError: what is not here, and how to get it. Looks only; starts and fetches nothing."""
    gaps: Mapping[str, str] = field(default_factory=dict)
    """Capability → how this provider differs from the real service in it."""
    scheme: str = "http"
    """Of the URL that leads to it."""
    server: str = ""
    """Names what it starts, where one server has several services: those that name the same share it. Else alone."""


@dataclass(frozen=True, kw_only=True)
class Connection:
    """A running server, as the services' modules get it. `key` names it at the host; empty where a URL was given."""

    url: str
    backend: Backend
    provider: str
    version: str = ""
    start_seconds: float = 0.0
    gaps: Mapping[str, str] = field(default_factory=dict)
    key: str = ""
    log: str = ""
    is_shared: bool = False
    """Whether tests of other processes may use it at the same time: workers of xdist, runs that reuse it."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Base of what session fixtures yield: where the service is, and what it is."""

    service: str
    connection: Connection

    @property
    def url(self) -> str:
        return self.connection.url

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 0

    @property
    def backend(self) -> Backend:
        return self.connection.backend

    @property
    def provider(self) -> str:
        return self.connection.provider

    @property
    def version(self) -> str:
        return self.connection.version

    @property
    def is_alone(self) -> bool:
        """Whether what appears on the server is this process's doing. Whoever gives a URL may have others there."""
        return self.backend is not Backend.URL and not self.connection.is_shared

    def supports(self, capability: str) -> bool:
        """Whether this back end shows the behaviour as the real service does."""
        return capability not in self.connection.gaps


class Namespace(Protocol):
    """One test's (or suite's) part of a shared service; nothing in it can collide with another's."""

    name: str

    def open(self) -> None:
        """Make it."""

    def leaks(self) -> list[str]:
        """Say what the test left behind that closing cannot put right: in other namespaces, in none, connections.

        Only what can be this test's: where the endpoint is not `is_alone`, what merely appeared may be another's.
        """

    def close(self) -> None:
        """Remove it with all that is in it."""


E_co = TypeVar("E_co", bound=Endpoint, covariant=True)


class Service(Protocol[E_co]):
    """A dependency that tests can ask for."""

    @property
    def name(self) -> str:
        """As flags and fixtures name it: `valkey`, with fixtures `pratique_valkey` and `valkey`."""

    @property
    def title(self) -> str:
        """In the words of its makers, for people."""

    @property
    def capabilities(self) -> Mapping[str, str]:
        """Everything that a provider may lack: name → what it means."""

    @property
    def providers(self) -> tuple[Provider, ...]:
        """The first that is found is taken, unless one is asked for."""

    @property
    def starts_early(self) -> bool:
        """Whether it is started as soon as tests are seen to need it. Not for what takes long or much memory."""

    def connect(self, connection: Connection) -> E_co:
        """Make an endpoint of a running server; asks a server that was given by URL for its version."""

    def namespace(self, endpoint: Any, name: str) -> Namespace:  # noqa: ANN401 - its own kind
        """Return a namespace, not opened yet. `name` is unique: lower case letters and digits, at most 20."""
