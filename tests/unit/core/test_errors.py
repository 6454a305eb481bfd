from __future__ import annotations

import pytest

from pratique.core.errors import CallerError, EnvironmentFaultError, PratiqueError, RefusedError

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("kind", "code", "exit_code"),
    [
        (PratiqueError, "internal", 3),
        (CallerError, "invalid_request", 2),
        (EnvironmentFaultError, "environment_fault", 3),
        (RefusedError, "refused", 1),
    ],
)
def test_each_branch_has_its_code_and_exit_code(kind: type[PratiqueError], code: str, exit_code: int) -> None:
    error = kind("What happened.", hint="Do this.")
    assert (error.code, error.exit_code) == (code, exit_code)
    assert (error.message, error.hint, str(error)) == ("What happened.", "Do this.", "What happened. Hint: Do this.")
    assert str(kind("Only this.")) == "Only this."
