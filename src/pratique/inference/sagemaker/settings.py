"""Settings of the SageMaker shim, the table `[sagemaker]` of a configuration file. The defaults are SageMaker's."""

from __future__ import annotations

from typing import Annotated

import msgspec

from pratique.core.settings import Settings

__all__ = ["SageMakerSettings"]

_Positive = Annotated[float, msgspec.Meta(gt=0)]
_Bytes = Annotated[int, msgspec.Meta(ge=1024)]


class SageMakerSettings(Settings, frozen=True, kw_only=True):
    """The shim that makes model servers look like SageMaker endpoints."""

    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 8090
    allow_remote: bool = False
    """Listen on an address that others reach. Signatures are not checked: whoever reaches it may call."""
    endpoints: tuple[str, ...] = ()
    """NAME=URL, or NAME/VARIANT:WEIGHT=URL for each variant."""
    timeout_seconds: _Positive = 60.0
    """For a whole answer."""
    stream_timeout_seconds: _Positive = 480.0
    """For a streamed answer, from the first byte asked to the last one taken."""
    connect_timeout_seconds: _Positive = 2.0
    max_body_bytes: _Bytes = 6 << 20
    """Of a request."""
    max_response_bytes: _Bytes = 6 << 20
    """Of an answer that is not streamed."""
    max_in_flight: Annotated[int, msgspec.Meta(ge=1)] = 256
    """Calls at the same time; one more is answered with ServiceUnavailable."""
    drain_seconds: Annotated[float, msgspec.Meta(ge=0)] = 20.0
