"""What the contract suites share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from pratique.testkit.services.aws.namespace import error_code

if TYPE_CHECKING:
    from collections.abc import Callable

NOT_THERE = "UnknownOperationException"
"""What a provider says of an operation that it does not have."""


@pytest.fixture
def hold_to_gaps() -> Callable[..., None]:
    """Run a probe: it passes, or fails where the provider declares a gap; a gap that was closed fails the test.

    A gap shows in an assertion of the probe, in an operation that is not there, or in an error whose code is among
    `codes`; any other is a mistake of the probe's own.
    """

    def hold(namespace: Any, capability: str, probe: Callable[[Any], None], *codes: str) -> None:
        gap = namespace.endpoint.connection.gaps.get(capability)
        if gap is None:
            probe(namespace)
            return
        with pytest.raises((AssertionError, ClientError, pytest.fail.Exception)) as shown:
            probe(namespace)
        if isinstance(shown.value, ClientError) and error_code(shown.value) not in (NOT_THERE, *codes):
            raise shown.value

    return hold
