"""Which back ends of which services are on this machine: what `pratique testkit tools` tells. Looks only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from pratique.testkit.errors import ServiceMissingError, TestkitUsageError
from pratique.testkit.host.launch import ContainerLaunch, Launch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pratique.testkit.services.interface import Provider, Service

__all__ = ["Stock", "describe_launch", "hints_for", "missing_services", "ready_stock", "take_inventory"]

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


def ready_stock(stock: Iterable[Stock]) -> dict[str, Stock]:
    """Return for each service that is ready the back end that a run takes where nobody says otherwise: the first."""
    ready: dict[str, Stock] = {}
    for one in stock:
        if one.is_here:
            ready.setdefault(one.service, one)
    return ready


def hints_for(stock: Iterable[Stock]) -> list[str]:
    """Return how to get the back ends that are not here: each hint once, with all that it is for."""
    needed_by: dict[str, dict[str, None]] = {}
    for one in stock:
        if not one.is_here:
            needed_by.setdefault(one.hint or one.why, {})[one.provider] = None
    return [f"{', '.join(providers)}: {hint}" for hint, providers in needed_by.items()]


def missing_services(stock: Iterable[Stock], required: Iterable[str]) -> list[str]:
    """Return those of the required services that no back end is here for.

    Raises:
        TestkitUsageError: there is no service of that name.
    """
    whole = list(stock)
    known, ready = dict.fromkeys(one.service for one in whole), ready_stock(whole)
    wanted = list(dict.fromkeys(required))
    for name in wanted:
        if name not in known:
            raise TestkitUsageError(f"There is no service '{name}'.", hint=f"Known: {', '.join(known)}.")
    return [name for name in wanted if name not in ready]


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
