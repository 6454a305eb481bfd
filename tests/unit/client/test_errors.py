from __future__ import annotations

import inspect
import re

import pytest

from pratique.client import _wire as wire
from pratique.client import errors
from pratique.client._http import error_of_response
from pratique.client._link import LinkLostError
from pratique.core.errors import CallerError, EnvironmentFaultError, RefusedError
from pratique.orchestrator.protocol.errors import HTTP_STATUS

pytestmark = pytest.mark.unit

ALL = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, errors.ClientError) and kind is not errors.ClientError
]


@pytest.mark.parametrize("kind", ALL)
def test_every_error_is_on_one_branch_and_in_the_tree(kind: type[errors.ClientError]) -> None:
    assert sum(issubclass(kind, branch) for branch in (CallerError, RefusedError, EnvironmentFaultError)) == 1
    assert errors.__doc__ is not None
    assert re.search(rf"── {kind.__name__}\b", errors.__doc__)


def test_every_code_of_the_server_is_mapped() -> None:
    assert set(HTTP_STATUS) <= set(errors.WIRE_ERRORS)


@pytest.mark.parametrize("code", sorted(errors.WIRE_ERRORS))
def test_a_wire_error_keeps_its_code_text_and_hint(code: str) -> None:
    said = wire.EventError(code=code, message="No.", hint="Later.", retry_after_seconds=2.0)
    error = errors.from_wire(said)
    assert type(error) is errors.WIRE_ERRORS[code]
    assert (error.wire_code, error.message, error.hint, error.retry_after_seconds) == (code, "No.", "Later.", 2.0)


def test_a_code_from_the_future_is_a_server_fault() -> None:
    error = errors.from_wire(wire.EventError(code="invented_later", message="Oh."))
    assert (type(error), error.wire_code) == (errors.ServerFaultError, "invented_later")


def test_own_errors_carry_their_own_code() -> None:
    assert errors.ConnectionLostError("gone").wire_code == "connection_lost"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, errors.UnauthenticatedError),
        (403, errors.ForbiddenError),
        (404, errors.ProtocolMismatchError),
        (429, LinkLostError),
        (503, LinkLostError),
    ],
)
def test_a_bare_status_has_a_meaning_too(status: int, kind: type[Exception]) -> None:
    assert isinstance(error_of_response(status, b"no healthy upstream", {}), kind)


@pytest.mark.parametrize(("header", "seconds"), [("3", 3.0), ("Wed, 21 Oct 2026 07:28:00 GMT", 0.0), ("²", 0.0)])
def test_retry_after_is_understood_in_seconds(header: str, seconds: float) -> None:
    lost = error_of_response(503, b"", {"Retry-After": header})
    assert isinstance(lost, LinkLostError)
    assert lost.retry_after_seconds == seconds
    body = b'{"error":{"code":"overloaded","message":"Full."}}'
    refused = error_of_response(503, body, {"Retry-After": header})
    assert isinstance(refused, errors.OverloadedError)
    assert refused.retry_after_seconds == seconds


def test_a_code_of_the_edge_is_a_lost_link_and_no_refusal() -> None:
    body = b'{"error":{"code":"no_replica","message":"No replica takes traffic right now."}}'
    lost = error_of_response(503, body, {})
    assert isinstance(lost, LinkLostError)
    assert lost.is_blameless
    assert isinstance(error_of_response(418, body, {}), errors.ServerFaultError)
