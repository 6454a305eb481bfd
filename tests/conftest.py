"""What every tier shares."""

from __future__ import annotations

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """The product runs on asyncio (uvloop in production), so its tests do too."""
    return "asyncio"
