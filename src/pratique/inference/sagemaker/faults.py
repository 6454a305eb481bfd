"""The errors of SageMaker's runtime API, by the names that clients know. Pure.

A fault is raised anywhere below the shim and becomes an answer there: its kind as `x-amzn-ErrorType`, its members as
JSON. Source: the API reference of InvokeEndpoint and InvokeEndpointWithResponseStream, and botocore's service model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pratique.core.errors import PratiqueError

__all__ = [
    "FaultError",
    "internal_failure",
    "model_error",
    "request_timeout",
    "unavailable",
    "unknown_operation",
    "validation_error",
]

_MAX_MESSAGE: Final = 2048
"""Characters of a message, by the service model."""
_CLIENT_ERROR: Final = range(400, 500)


class FaultError(PratiqueError):
    """An answer that is one of the API's errors."""

    code = "sagemaker_fault"

    def __init__(self, kind: str, status: int, message: str, *, members: Mapping[str, object] | None = None) -> None:
        super().__init__(_cut(message))
        self.kind = kind
        """Its modelled name, for example ValidationError."""
        self.status = status
        self.members = members or {}
        """What it has beside the message."""

    def body(self) -> dict[str, object]:
        """Return the answer's body."""
        return {"Message": self.message, **self.members}


def validation_error(message: str) -> FaultError:
    """The request is not one that the API takes, or the endpoint is unknown."""
    return FaultError("ValidationError", 400, message)


def unavailable(message: str) -> FaultError:
    """No model server could be asked. SDKs try again by themselves."""
    return FaultError("ServiceUnavailable", 503, message)


def internal_failure() -> FaultError:
    """The shim itself failed; its log says why."""
    return FaultError("InternalFailure", 500, "The shim failed; its log says why.")


def request_timeout() -> FaultError:
    """The request did not come whole in its time."""
    return FaultError("RequestTimeoutException", 408, "The request's body was not received in time.")


def unknown_operation(message: str) -> FaultError:
    """There is no such operation."""
    return FaultError("UnknownOperationException", 404, message)


def model_error(endpoint: str, *, status: int, message: str, see: str) -> FaultError:
    """The model server answered with an error, or with nothing that is an answer.

    Args:
        endpoint: its name, for the log group.
        status: what the model server answered; 0 where it did not (time over, connection closed), as SageMaker does.
        message: what it said.
        see: where a person finds out more.
    """
    side = "client" if status in _CLIENT_ERROR else "server"
    original = _cut(message)
    return FaultError(
        "ModelError",
        424,
        f'Received {side} error ({status}) from primary with message "{_cut(message, _MAX_MESSAGE // 2)}". '
        f"See {see} for more information.",
        members={
            "OriginalStatusCode": status,
            "OriginalMessage": original,
            "LogStreamArn": f"arn:aws:logs:local:000000000000:log-group:/aws/sagemaker/Endpoints/{endpoint}",
        },
    )


def _cut(text: str, characters: int = _MAX_MESSAGE) -> str:
    return text if len(text) <= characters else text[: characters - 1] + "…"
