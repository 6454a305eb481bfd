"""What is started as soon as tests are seen to need it, and how it stands with it a moment later.

Tests that need no service, or another, run meanwhile; whoever needs one waits for it in its fixture.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Final

from pratique.testkit.errors import HostGoneError, TestkitError
from pratique.testkit.fixtures import server_of
from pratique.testkit.services.choice import is_url

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pytest

    from pratique.testkit.host.launch import Statuses
    from pratique.testkit.kit import Kit

__all__ = ["begin_early", "status_soon", "wanted_by"]

_SOON_SECONDS: Final = 0.5
_PAUSE_SECONDS: Final = 0.02


def wanted_by(items: Iterable[pytest.Item]) -> list[tuple[str, str | None]]:
    """Return the services that tests need, each with the factory's argument, in the order of the tests."""
    wanted: dict[tuple[str, str | None], None] = {}
    for item in items:
        for name in getattr(item, "fixturenames", ()):
            behind = server_of(item, name)
            if behind is not None:
                wanted[behind] = None
    return list(wanted)


def begin_early(kit: Kit, wanted: Iterable[tuple[str, str | None]]) -> None:
    """Ask the host for those that are quick to start."""
    for service, use in wanted:
        # What goes wrong here goes wrong again, and is told, where a test asks.
        with contextlib.suppress(TestkitError):
            if kit.service(service).starts_early and not is_url(kit.words_for(service, use)):
                kit.begin(service, use)


def status_soon(kit: Kit) -> Statuses | None:
    """Return what the host has when all that was asked for is ready, or after half a second."""
    deadline = time.monotonic() + _SOON_SECONDS
    try:
        while (status := kit.host.status()).starting and time.monotonic() < deadline:
            time.sleep(_PAUSE_SECONDS)
    except HostGoneError:
        return None
    return status
