"""What a client asks for: path and headers of a call, checked as the API's service model has them. Pure.

Headers that the API does not know are dropped, as SageMaker does. What it knows and what cannot be had from a model
server (sessions, explanations, inference components) is refused by name: an answer without it would be wrong silently.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import msgspec
from starlette.types import Scope

from pratique.inference.api.http import header
from pratique.inference.sagemaker.faults import FaultError, unknown_operation, validation_error

__all__ = ["Call", "body_for", "parse_call"]

_PATH: Final = re.compile(r"/endpoints/([^/]+)/(invocations|invocations-response-stream|async-invocations)")
_ENDPOINT: Final = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9])*")
_PREFIX: Final = "X-Amzn-SageMaker-"
_UNSUPPORTED: Final = {
    "Session-Id": "stateful sessions (SessionId)",
    "Target-Container-Hostname": "several containers (TargetContainerHostname)",
    "Inference-Component": "inference components (InferenceComponentName)",
    "Enable-Explanations": "explanations (EnableExplanations)",
}
_MAX_ENDPOINT: Final = 63
_MAX_HEADER: Final = 1024
_MAX_INFERENCE_ID: Final = 64


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of InvokeEndpoint, or of InvokeEndpointWithResponseStream where it is streamed."""

    endpoint: str
    is_streamed: bool
    target_model: str | None
    target_variant: str | None
    headers: dict[str, str]
    """What goes to the model server."""


def parse_call(scope: Scope) -> Call:
    """Read method, path and headers.

    Raises:
        FaultError: no such operation, an unsigned request, or a header that is too long, malformed or not supported.
    """
    match = _PATH.fullmatch(scope["path"])
    if match is None or scope["method"] != "POST":
        raise unknown_operation(f"There is no operation {scope['method']} {scope['path'][:200]}.")
    if not (header(scope, "authorization") or "").startswith("AWS4-"):
        raise _unsigned()
    endpoint, operation = match[1], match[2]
    if len(endpoint) > _MAX_ENDPOINT or not _ENDPOINT.fullmatch(endpoint):
        raise validation_error(
            "Value at 'endpointName' failed to satisfy constraint: letters, digits and single hyphens between them, "
            f"{_MAX_ENDPOINT} at most."
        )
    if operation == "async-invocations":
        raise validation_error(
            "InvokeEndpointAsync is not supported by this shim: there is no S3 to read from and to write to. "
            "Use InvokeEndpoint or InvokeEndpointWithResponseStream."
        )
    for name, what in _UNSUPPORTED.items():
        if header(scope, _PREFIX + name) is not None:
            raise validation_error(f"This endpoint does not support {what}: leave it out.")
    is_streamed = operation == "invocations-response-stream"
    return Call(
        endpoint=endpoint,
        is_streamed=is_streamed,
        # The streaming operation has no TargetModel; where it is sent all the same it is as clear what is meant.
        target_model=_read(scope, "Target-Model", at_least=1),
        target_variant=_read(scope, "Target-Variant", at_most=_MAX_ENDPOINT),
        headers=_headers(scope, accept=_PREFIX + "Accept" if is_streamed else "Accept"),
    )


def body_for(call: Call, body: bytes) -> bytes:
    """Return the body for the model server: the very bytes, or with the target model as its field `model`.

    Raises:
        FaultError: a target model is named, and the body is no JSON object or names another one.
    """
    if call.target_model is None:
        return body
    try:
        fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise validation_error("TargetModel needs a body that is a JSON object, to name the model in.") from error
    model = msgspec.Raw(msgspec.json.encode(call.target_model))
    if "model" in fields and msgspec.json.decode(fields["model"]) != call.target_model:
        raise validation_error("The body's field 'model' names another model than TargetModel does.")
    return msgspec.json.encode({**fields, "model": model})


def _headers(scope: Scope, *, accept: str) -> dict[str, str]:
    found = {
        "Content-Type": _checked(header(scope, "Content-Type"), "Content-Type"),
        "Accept": _checked(header(scope, accept), accept),
        _PREFIX + "Custom-Attributes": _read(scope, "Custom-Attributes"),
        _PREFIX + "Inference-Id": _read(scope, "Inference-Id", at_least=1, at_most=_MAX_INFERENCE_ID),
        _PREFIX + "Target-Model": _read(scope, "Target-Model"),
    }
    return {name: value for name, value in found.items() if value is not None}


def _read(scope: Scope, name: str, *, at_least: int = 0, at_most: int = _MAX_HEADER) -> str | None:
    return _checked(header(scope, _PREFIX + name), name, at_least=at_least, at_most=at_most)


def _checked(value: str | None, name: str, *, at_least: int = 0, at_most: int = _MAX_HEADER) -> str | None:
    if value is not None and not (value.isascii() and at_least <= len(value) <= at_most):
        raise validation_error(
            f"Value at '{name}' failed to satisfy constraint: {at_least} to {at_most} ASCII characters; "
            f"it has {len(value)}."
        )
    return value


def _unsigned() -> FaultError:
    # Not a check of who calls: it is what SageMaker answers, and what keeps a page in a browser from calling here.
    return FaultError("MissingAuthenticationTokenException", 403, "Missing Authentication Token")
