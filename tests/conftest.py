"""What every tier shares."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import structlog

if TYPE_CHECKING:
    from collections.abc import Iterator


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
