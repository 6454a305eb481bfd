"""The table [release.registry]: how registries are asked, and the front before one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from msgspec import Meta

from pratique.core.settings import Settings

__all__ = ["RegistrySettings"]


class RegistrySettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How registries are asked."""

    plain_http_hosts: tuple[str, ...] = ()
    """Hosts (`host` or `host:port`) that are asked without TLS. This machine's own addresses always are."""
    ca_file: Path | None = None
    """Certificates of authorities in PEM that are trusted instead of the system's."""
    auth_files: tuple[Path, ...] = ()
    """Where logins are read, the first that has one wins. Empty: where podman and Docker keep them."""
    connect_seconds: Annotated[float, Meta(gt=0, le=120)] = 10.0
    """Until a connection stands."""
    read_seconds: Annotated[float, Meta(gt=0, le=600)] = 30.0
    """Without a byte."""
    deadline_seconds: Annotated[float, Meta(gt=0, le=3600)] = 60.0
    """Of one call but for blobs of any size, with all its repetitions."""
    transfer_seconds: Annotated[float, Meta(gt=0, le=86_400)] = 3600.0
    """Of one upload or download of a blob."""
    attempts: Annotated[int, Meta(ge=1, le=10)] = 3
    """Of what may be repeated without harm."""
    chunk_bytes: Annotated[int, Meta(ge=65_536, le=5_000_000_000)] = 256 * 1024 * 1024
    """Larger blobs are sent in pieces of so many bytes."""
