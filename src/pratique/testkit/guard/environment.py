"""The process's environment, pinned for a session and put back."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

from pratique.core.secrets.looks import is_aws_key_id, is_aws_secret, mask

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["credentials_in_boto3", "pinned"]


@contextlib.contextmanager
def pinned(pins: Mapping[str, str | None]) -> Iterator[None]:
    """Set and remove variables, and put back what was there."""
    before = {name: os.environ.get(name) for name in pins}
    _apply(pins)
    try:
        yield
    finally:
        _apply(before)


def _apply(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def credentials_in_boto3() -> dict[str, str]:
    """Return what boto3's default session has read before the guard came; nothing where boto3 is not imported."""
    session = getattr(sys.modules.get("boto3"), "DEFAULT_SESSION", None)
    loaded = getattr(getattr(session, "_session", None), "_credentials", None)
    # What it holds, not its properties: those would fetch what was not fetched yet.
    held = vars(loaded) if loaded is not None else {}
    key_id, secret = (str(held.get(f"_{name}") or held.get(name) or "") for name in ("access_key", "secret_key"))
    if is_aws_key_id(key_id) or is_aws_secret(secret):
        return {"boto3.DEFAULT_SESSION": mask(key_id, prefix=key_id[:4])}
    return {}
