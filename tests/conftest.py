"""What every tier shares."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
import structlog

if TYPE_CHECKING:
    from collections.abc import Iterator


def pytest_configure() -> None:
    """Hear signals, however the run was started.

    A shell has what it starts in the background ignore Ctrl-C, and `nohup` has it ignore SIGHUP. Children inherit that,
    and tests would send their own programs signals that are not heard.
    """
    for number, heard in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, heard)


@pytest.fixture
def anyio_backend() -> str:
    """The product runs on asyncio (uvloop in production), so its tests do too."""
    return "asyncio"


@pytest.fixture(autouse=True)
def _events_end_with_their_test() -> Iterator[None]:
    """A command that was run in this process has sent its events to a stream that is closed after its test."""
    yield
    if structlog.is_configured():
        structlog.reset_defaults()
