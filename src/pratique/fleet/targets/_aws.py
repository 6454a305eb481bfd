"""Clients of AWS whose calls end in time, and what their errors mean for a target."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Final

from pratique.core.errors import CallerError
from pratique.fleet.targets.interface import TargetError

__all__ = ["asking", "connect", "error_of"]

_CONNECT_SECONDS: Final = 5
_READ_SECONDS: Final = 20
_TRIES: Final = 5
_DENIED: Final = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidClientTokenId",
        "UnauthorizedOperation",
        "UnrecognizedClientException",
    }
)
_THROTTLED: Final = frozenset(
    {"RequestLimitExceeded", "Throttling", "ThrottledException", "ThrottlingException", "TooManyRequestsException"}
)


def connect(service: str, *, region: str | None, endpoint_url: str | None) -> Any:  # noqa: ANN401 - boto3 makes its clients at run time
    """Return a client. It tries throttled and unanswered calls again, five times in all, and slows itself down.

    Raises:
        CallerError: AWS's settings name no region, or are wrong.
    """
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    config = Config(
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        retries={"mode": "adaptive", "total_max_attempts": _TRIES},
    )
    make: Any = boto3.client  # its type knows a fixed list of names
    try:
        return make(service, region_name=region, endpoint_url=endpoint_url, config=config)
    except (BotoCoreError, ValueError) as error:
        raise CallerError(f"{service} cannot be asked: {error}", hint="Name a region.") from error


@contextlib.contextmanager
def asking(what: str) -> Iterator[None]:
    """Translate what a call raises.

    Raises:
        TargetError: it failed.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        code, message = error_of(error)
        hint = None
        if code in _DENIED:
            hint = "docs/release/targets.md has the policy that the role needs."
        elif code in _THROTTLED:
            hint = f"AWS throttled it {_TRIES} times. Do it again; nothing was lost."
        raise TargetError(f"AWS refused {what} with {code}: {message}", hint=hint) from error
    except BotoCoreError as error:
        raise TargetError(
            f"AWS could not be asked for {what}: {error}", hint="Do it again: what was done already is found."
        ) from error


def error_of(error: Any) -> tuple[str, str]:  # noqa: ANN401 - botocore's ClientError, which is imported late
    """Return an error's code and message."""
    found = error.response.get("Error", {})
    return found.get("Code", "an unknown error"), found.get("Message", "")
