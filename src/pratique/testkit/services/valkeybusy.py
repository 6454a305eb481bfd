"""A Valkey that runs a script that does not end answers nobody else: it says BUSY. Whoever finds it so ends the script.

Scripts of some seconds are left to end by themselves. One that has written cannot be ended alone: then the server is,
where it is the kit's; the kit starts it again, empty.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, TypeVar

from pratique.testkit.errors import ServiceGoneError
from pratique.testkit.looks import looks
from pratique.testkit.services.choice import without_password
from pratique.testkit.services.interface import Backend

if TYPE_CHECKING:
    from collections.abc import Callable

    from pratique.testkit.services.valkey import ValkeyEndpoint

__all__ = ["BUSY_OPTIONS", "past_scripts"]

T = TypeVar("T")

BUSY_OPTIONS: Final = ("--busy-reply-threshold", "500")
"""Milliseconds after which a server says BUSY; until then, and that is 5 s by itself, it says nothing at all."""
_PATIENCE_SECONDS: Final = 2.0
_END_SECONDS: Final = 2.0
_PAUSE_SECONDS: Final = 0.05
_EXIT_SECONDS: Final = 0.5
"""From a server's last answer until its process is gone, and whoever asks the host for it gets a new one."""


def past_scripts(endpoint: ValkeyEndpoint, ask: Callable[[], T]) -> T:
    """Return what the server answers when no script keeps it from that. `ask` may be called again.

    Raises:
        ServiceGoneError: it stays busy.
    """
    from redis.exceptions import ResponseError

    for patience in (_PATIENCE_SECONDS, _END_SECONDS):
        for _ in looks(patience, first=_PAUSE_SECONDS, longest=_PAUSE_SECONDS):
            try:
                return ask()
            except ResponseError as error:
                if not str(error).startswith("BUSY "):
                    raise
        _end_script(endpoint)
    raise _stays_busy(endpoint, "and SCRIPT KILL does not end it")


def _end_script(endpoint: ValkeyEndpoint) -> None:
    from redis.exceptions import ResponseError

    try:
        endpoint.admin.script_kill()
    except ResponseError as error:
        if str(error).startswith("NOTBUSY"):  # it has ended meanwhile
            return
        if endpoint.backend is not Backend.URL:
            endpoint.admin.shutdown(nosave=True)
            time.sleep(_EXIT_SECONDS)
        raise _stays_busy(endpoint, f"which cannot be ended: {error}") from error


def _stays_busy(endpoint: ValkeyEndpoint, why: str) -> ServiceGoneError:
    return ServiceGoneError(
        f"Valkey at {without_password(endpoint.url)} is busy with a script, {why}.",
        hint="A test, of this process or another, runs an endless EVAL or FCALL. Expected one that ends by itself.",
    )
