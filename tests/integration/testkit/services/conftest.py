"""What the contract suites share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def hold_to_gaps() -> Callable[[Any, str, Callable[[Any], None]], None]:
    """Run a probe: it passes, or fails where the provider declares a gap; a gap that was closed fails the test."""

    def hold(namespace: Any, capability: str, probe: Callable[[Any], None]) -> None:
        gap = namespace.endpoint.connection.gaps.get(capability)
        if gap is None:
            probe(namespace)
            return
        with pytest.raises((AssertionError, ClientError, BotoCoreError, pytest.fail.Exception)):
            probe(namespace)

    return hold
