"""Which back ends of which services are on this machine: what `pratique testkit tools` tells. Looks only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from pratique.testkit.errors import ServiceMissingError, TestkitUsageError
from pratique.testkit.host.launch import ContainerLaunch, Launch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pratique.testkit.services.interface import Provider, Service

__all__ = ["Stock", "describe_launch", "missing_services", "take_inventory"]

_MODULE_FLAGS = frozenset({"-m", "-jar"})


class Stock(msgspec.Struct, frozen=True, kw_only=True):
    """One back end of one service, and whether it is here."""

    service: str
    provider: str
    backend: str
    is_here: bool
    version: str = ""
    where: str = ""
    """The program or the image."""
    why: str = ""
    """It is not here."""
    hint: str = ""
    """How to get it."""


def take_inventory(services: Mapping[str, Service[Any]]) -> list[Stock]:
    """Look for every back end of every service."""
    return [_look_for(name, provider) for name, service in services.items() for provider in service.providers]


def missing_services(stock: Iterable[Stock], required: Iterable[str]) -> list[str]:
    """Return those of the required services that no back end is here for.

    Raises:
        TestkitUsageError: there is no service of that name.
    """
    here: dict[str, bool] = {}
    for one in stock:
        here[one.service] = here.get(one.service, False) or one.is_here
    wanted = list(dict.fromkeys(required))
    for name in wanted:
        if name not in here:
            raise TestkitUsageError(f"There is no service '{name}'.", hint=f"Known: {', '.join(here)}.")
    return [name for name in wanted if not here[name]]


def describe_launch(launch: Launch) -> str:
    """Return what would be started: an image, or the words of a command before its flags."""
    if isinstance(launch, ContainerLaunch):
        return launch.image
    words: list[str] = []
    for word in launch.command:
        if "{" in word or (word.startswith("-") and word not in _MODULE_FLAGS):
            break
        words.append(word)
    return " ".join(words)


def _look_for(service: str, provider: Provider) -> Stock:
    try:
        found = provider.find()
    except ServiceMissingError as error:
        return Stock(
            service=service,
            provider=provider.name,
            backend=provider.backend.value,
            is_here=False,
            why=error.message,
            hint=error.hint or "",
        )
    return Stock(
        service=service,
        provider=provider.name,
        backend=provider.backend.value,
        is_here=True,
        version=found.version,
        where=describe_launch(found.launch),
    )
