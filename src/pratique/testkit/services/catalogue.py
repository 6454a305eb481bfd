"""Every service, one line each."""

from __future__ import annotations

from typing import Any

from pratique.testkit.services.interface import Service
from pratique.testkit.services.valkey import ValkeyService

__all__ = ["make_services"]


def make_services() -> dict[str, Service[Any]]:
    """Return the services by name."""
    services: tuple[Service[Any], ...] = (ValkeyService(),)
    return {service.name: service for service in services}
