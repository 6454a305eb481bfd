"""Containers by testcontainers: made, watched, paused, killed. Blocking; every request has a deadline.

Ryuk is not used: it would have to be pulled, and the host does its work (see `container`). A change of testcontainers'
settings concerns only this process, which is the host's own.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pratique.testkit.errors import ServiceStartError
from pratique.testkit.host.engine import OWNER_LABEL
from pratique.testkit.ports import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from testcontainers.core.container import DockerContainer

    from pratique.testkit.host.launch import ContainerLaunch

__all__ = ["ContainerSpec", "Driver"]

_CALL_SECONDS: Final = 60
_DETAIL_CHARACTERS: Final = 500


@dataclass(frozen=True, kw_only=True)
class ContainerSpec:
    """One container to be."""

    name: str
    launch: ContainerLaunch
    host_port: int
    owner: str


class Driver:
    """One container at a time, on the engine at an address."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._container: DockerContainer | None = None

    def require_image(self, image: str) -> None:
        """Have an image on this machine; fetch it where it is not.

        Raises:
            ServiceStartError: it is not here and cannot be fetched.
        """
        from docker.errors import ImageNotFound  # type: ignore[import-untyped] # ships no types

        with _told(f"the image {image} could not be fetched", hint=f"`docker pull {image}` (or podman) shows why."):
            client = self._make(image).get_docker_client().client
            try:
                client.images.get(image)
            except ImageNotFound:
                # docker-py's own pull drops what goes wrong on the way.
                for event in client.api.pull(image, stream=True, decode=True):
                    if event.get("error"):
                        raise ServiceStartError(  # noqa: B904 - that it was not here is the ordinary case
                            f"the image {image} could not be fetched: {event['error']}",
                            hint=f"`docker pull {image}` (or podman) shows why.",
                        )
                client.images.get(image)

    def start(self, spec: ContainerSpec) -> None:
        """Make and start a container.

        Raises:
            ServiceStartError: the engine refuses.
        """
        launch = spec.launch
        with _told(f"the container of {launch.image} could not be started"):
            container = self._make(launch.image).with_name(spec.name).with_envs(**launch.environment)
            if launch.command:
                container.with_command(list(launch.command))
            # testcontainers' own way to bind a port takes no address, and all of them would be open to the network.
            container.ports[f"{launch.port}/tcp"] = (LOOPBACK, spec.host_port)  # type: ignore[assignment]
            self._container = container.with_kwargs(labels={OWNER_LABEL: spec.owner})
            self._container.start()

    def follow(self) -> Iterator[bytes]:
        """Yield what the container logs, until it ends."""
        with _told("the container's log broke off"):
            yield from self._wrapped().logs(stream=True, follow=True)

    def pause(self) -> None:
        with _told("the container could not be paused"):
            self._wrapped().pause()

    def resume(self) -> None:
        with _told("the container could not be resumed"):
            self._wrapped().unpause()

    def kill(self) -> None:
        with _told("the container could not be killed"):
            self._wrapped().kill()

    def exit_code(self) -> int:
        """Return how a container that has ended did."""
        with _told("the container's exit code is not known"):
            container = self._wrapped()
            container.reload()
            return int(container.attrs["State"]["ExitCode"])

    def _make(self, image: str) -> DockerContainer:
        # testcontainers asks the environment, in several places, where the engine is.
        os.environ["DOCKER_HOST"] = self.address
        from testcontainers.core.config import testcontainers_config
        from testcontainers.core.container import DockerContainer

        testcontainers_config.ryuk_disabled = True
        testcontainers_config.tc_properties.pop("tc.host", None)  # it would win over the address
        return DockerContainer(image, docker_client_kw={"timeout": _CALL_SECONDS})

    def _wrapped(self) -> Any:  # noqa: ANN401 - docker-py is not typed
        if self._container is None:
            raise ServiceStartError("The container was not started.")
        return self._container.get_wrapped_container()


@contextlib.contextmanager
def _told(what: str, *, hint: str | None = None) -> Iterator[None]:
    """Translate what docker-py, requests and testcontainers raise."""
    from docker.errors import DockerException
    from requests.exceptions import RequestException
    from testcontainers.core.exceptions import ContainerStartException
    from urllib3.exceptions import HTTPError

    errors: Iterable[type[Exception]] = (DockerException, RequestException, HTTPError, ContainerStartException, OSError)
    try:
        yield
    except tuple(errors) as error:
        raise ServiceStartError(f"{what}: {str(error)[:_DETAIL_CHARACTERS]}", hint=hint) from error
