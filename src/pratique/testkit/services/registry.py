"""An OCI registry: Debian's `docker-registry`, the `registry` images, or a URL.

A namespace is a prefix of repositories. Closing it deletes every manifest that a tag of its repositories leads to, and
every manifest that was pushed through it; blobs stay until the server ends (only an offline garbage collection removes
them), and so do the empty repositories' names in the catalogue. Nothing on the server keeps a test from other
repositories, so the leak check looks for what appeared there, where nobody else uses the server.
"""

from __future__ import annotations

import contextlib
import subprocess
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from pratique.testkit.errors import ServiceMissingError, TestkitError
from pratique.testkit.host.launch import ContainerLaunch, HttpReady, ProcessLaunch
from pratique.testkit.services.http import nobody_answers
from pratique.testkit.services.interface import Backend, Connection, Endpoint, Found, Provider
from pratique.testkit.services.names import is_of_kit
from pratique.testkit.services.registryclient import Pushed, RegistryClient
from pratique.testkit.services.tools import find_program

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence
    from pathlib import Path

__all__ = ["RegistryEndpoint", "RegistryNamespace", "RegistryService", "foreign_repositories"]

_IMAGES: Final = {"registry-3": "docker.io/library/registry:3.0.0", "registry-2": "docker.io/library/registry:2.8.3"}
_PORT: Final = 5000
_READY: Final = HttpReady(path="/v2/")
_VERSION_SECONDS: Final = 5.0
_CONFIG: Final = """\
version: 0.1
log:
  level: info
  accesslog:
    disabled: false
storage:
  filesystem:
    rootdirectory: "{folder}/data"
  delete:
    enabled: true
http:
  addr: "127.0.0.1:{port}"
"""
_GAPS: Final = {
    "referrers": "no referrers API: /v2/NAME/referrers/DIGEST is 404, a push with a subject gets no OCI-Subject",
    "immutable_tags": "a tag can be pushed again and then leads elsewhere",
    "conditional_writes": "If-None-Match on a push of a manifest is ignored",
}


@dataclass(frozen=True, kw_only=True)
class RegistryEndpoint(Endpoint):
    """A registry shared by the whole run. Push through a namespace of it where others run beside you."""

    @property
    def address(self) -> str:
        """`host:port`, as image references begin."""
        return f"{self.host}:{self.port}"

    def client(self) -> RegistryClient:
        """A small client for the whole registry."""
        return RegistryClient(self.url)


class RegistryNamespace:
    """The repositories of one test: all below one prefix."""

    def __init__(self, endpoint: RegistryEndpoint, name: str) -> None:
        self.endpoint = endpoint
        self.name = name
        self.prefix = f"{name}/"
        self._pushed: list[tuple[str, str]] = []
        self._before: frozenset[str] = frozenset()

    @property
    def url(self) -> str:
        """The server's address; the prefix goes with the names."""
        return self.endpoint.url

    def client(self) -> RegistryClient:
        """Return the endpoint's client; it takes full names."""
        return self.endpoint.client()

    def repository(self, name: str) -> str:
        """Return the full name of a repository of this test; makes nothing."""
        return self.prefix + name

    def reference(self, name: str, tag: str = "latest") -> str:
        """Return an image reference, as podman, skopeo or cosign take it: by tag, or by digest (`sha256:…`)."""
        mark = "@" if tag.startswith("sha256:") else ":"
        return f"{self.endpoint.address}/{self.repository(name)}{mark}{tag}"

    def push_image(self, name: str, tag: str = "latest", *, layers: Sequence[bytes] = (b"",)) -> Pushed:
        """Push an OCI image of these layers into a repository of this test."""
        repository = self.repository(name)
        pushed = self.client().push_image(repository, tag, layers=layers)
        self._pushed.append((repository, pushed.digest))
        return pushed

    def open(self) -> None:
        if self.endpoint.is_alone:
            self._before = frozenset(self._foreign())

    def leaks(self) -> list[str]:
        """Return what appeared outside every namespace. Beside other workers, or by URL: nothing, it may be theirs."""
        appeared = set(self._foreign()) - self._before if self.endpoint.is_alone else ()
        return [f"repository '{name}', made outside its namespace ({self.prefix})" for name in sorted(appeared)]

    def close(self) -> None:
        client = self.client()
        with contextlib.ExitStack() as stack:  # one that cannot be removed keeps no other
            manifests = dict.fromkeys(self._pushed)
            for repository, digest in manifests:
                stack.callback(client.delete_manifest, repository, digest)
            for repository in client.repositories():
                if repository.startswith(self.prefix):
                    stack.callback(self._remove_tags, repository, manifests)

    def _remove_tags(self, repository: str, known: Container[tuple[str, str]]) -> None:
        client = self.client()
        with contextlib.ExitStack() as stack:
            for tag in client.tags(repository):
                digest = client.digest(repository, tag)
                if digest is not None and (repository, digest) not in known:  # None: it has gone meanwhile
                    stack.callback(client.delete_manifest, repository, digest)

    def _foreign(self) -> list[str]:
        return foreign_repositories(self.client().repositories())


def foreign_repositories(names: Iterable[str]) -> list[str]:
    """Return the repositories that are below no namespace's prefix."""
    return [name for name in names if not is_of_kit(name, "/")]


class RegistryService:
    """An OCI registry."""

    name = "registry"
    title = "OCI registry"
    starts_early = True
    capabilities = {  # noqa: RUF012 - a Protocol's attribute
        "referrers": "the referrers API of the OCI distribution specification 1.1",
        "immutable_tags": "a tag that was pushed once never leads elsewhere",
        "conditional_writes": "a push with If-None-Match: * is refused where the tag is taken",
    }

    def __init__(self) -> None:
        self.providers = (
            Provider(name="docker-registry", backend=Backend.PROCESS, find=_find_debian, gaps=_GAPS),
            *(
                Provider(name=name, backend=Backend.CONTAINER, find=_Image(image).find, gaps=_GAPS)
                for name, image in _IMAGES.items()
            ),
        )

    def connect(self, connection: Connection) -> RegistryEndpoint:
        endpoint = RegistryEndpoint(service=self.name, connection=connection)
        if connection.version:
            return endpoint
        try:
            version = endpoint.client().ping()
        except TestkitError as error:
            raise nobody_answers("an OCI registry", endpoint.url, error) from error
        return replace(endpoint, connection=replace(connection, version=version))

    def namespace(self, endpoint: RegistryEndpoint, name: str) -> RegistryNamespace:
        return RegistryNamespace(endpoint, name)


def _find_debian() -> Found:
    program = find_program("docker-registry", hint="On Debian: `apt-get install docker-registry`.")
    launch = ProcessLaunch(
        command=(str(program), "serve", "{folder}/config.yml"),
        ready=_READY,
        files={"config.yml": _CONFIG},
        environment={"OTEL_TRACES_EXPORTER": "none"},
    )
    return Found(launch=launch, version=_version_of(program))


@lru_cache(maxsize=4)
def _version_of(program: Path) -> str:
    try:
        said = subprocess.run(  # noqa: S603 - the program that will be the server
            [program, "--version"], capture_output=True, text=True, timeout=_VERSION_SECONDS, check=True
        ).stdout.split()
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError) as error:
        raise ServiceMissingError(f"{program} does not say its version: {error}") from error
    if not said:
        raise ServiceMissingError(f"{program} does not say its version")
    return said[-1].removeprefix("v")


@dataclass(frozen=True)
class _Image:
    image: str

    def find(self) -> Found:
        from pratique.testkit.host.container import require_engine

        require_engine()
        launch = ContainerLaunch(
            image=self.image,
            port=_PORT,
            ready=_READY,
            environment={"REGISTRY_STORAGE_DELETE_ENABLED": "true", "OTEL_TRACES_EXPORTER": "none"},
        )
        return Found(launch=launch, version=self.image.rpartition(":")[2])
