"""What a builder says of an image, reduced to what follows from its inputs. Pure.

Builders write the name of the container they worked in, identifiers of intermediate images and their own defaults
into the configuration. What is kept is named here; the rest goes. HEALTHCHECK stays, although the OCI specification
does not know it: Docker and BuildKit write and read it in the same place.
Source: OCI image specification 1.1, "Image Configuration"; Docker image specification 1.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from pratique.release.build.layout import canonical_json
from pratique.release.decoding import MalformedError, decode_json
from pratique.release.errors import EvidenceError
from pratique.release.values import Digest

__all__ = ["normalise_config", "rfc3339"]

_KEPT: Final = (
    "User",
    "ExposedPorts",
    "Env",
    "Entrypoint",
    "Cmd",
    "Volumes",
    "WorkingDir",
    "Labels",
    "StopSignal",
    "Healthcheck",
    "Shell",
)


class _History(msgspec.Struct, frozen=True, omit_defaults=True):
    created: str = ""
    created_by: str = ""
    empty_layer: bool = False


class _Exported(msgspec.Struct, frozen=True):
    architecture: str
    os: str
    variant: str = ""
    config: dict[str, Any] = {}
    history: tuple[_History, ...] = ()


def rfc3339(epoch: int) -> str:
    """Return a moment as RFC 3339 writes it, in UTC."""
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def normalise_config(exported: bytes, diff_ids: tuple[Digest, ...], labels: Mapping[str, str], epoch: int) -> bytes:
    """Write the configuration anew.

    Args:
        exported: as the builder wrote it, of Docker's or of OCI's form.
        diff_ids: of the layers, as they were counted here.
        labels: added to those of the Dockerfile, and stronger.
        epoch: seconds since 1970; when the image counts as created.

    Raises:
        EvidenceError: the builder wrote no configuration of an image.
    """
    try:
        read = decode_json(exported, _Exported)
    except MalformedError as error:
        raise EvidenceError(f"the builder wrote a configuration that is none: {error}") from error
    config = {name: read.config[name] for name in _KEPT if read.config.get(name)}
    config["Labels"] = {**(config.get("Labels") or {}), **labels}
    # Lists of names are written as objects, whose order builders do not keep; JSON with sorted keys does.
    return canonical_json(
        {
            "architecture": read.architecture,
            **({"variant": read.variant} if read.variant else {}),
            "os": read.os,
            "created": rfc3339(epoch),
            "config": {name: value for name, value in config.items() if value},
            "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
            "history": read.history,
        }
    )
