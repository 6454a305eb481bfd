"""The table [release.registry]: how registries are asked, and the front before one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from msgspec import Meta

from pratique.core.settings import Settings
from pratique.release.registry.rules import MUTABLE_TAGS

__all__ = ["FrontSettings", "RegistrySettings"]


class FrontSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The front before a plain registry."""

    upstream: str = ""
    """The registry behind it: `http://host:port` or `https://host`, without a path."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Annotated[int, Meta(ge=0, le=65_535)] = 5080
    """Port to listen on; 0 takes a free one."""
    allow_remote: bool = False
    """Listen where others reach it. The front has no logins of its own: it passes on what the registry asks for."""
    state_dir: Path | None = None
    """Where its processes keep which tags are being written. All fronts of a registry share one, on one machine."""
    mutable_tags: tuple[str, ...] = MUTABLE_TAGS
    """Regular expressions of tags that may be moved; one must match the whole tag."""
    allow_deletes: bool = False
    """Whether manifests and blobs may be deleted."""
    max_requests: Annotated[int, Meta(ge=1, le=100_000)] = 256
    """At a time; others are told to come again."""
    max_blob_bytes: Annotated[int, Meta(ge=1)] = 64 * 1024**3
    """Of one request's body."""
    idle_seconds: Annotated[float, Meta(gt=0, le=3600)] = 60.0
    """Without a byte from or to a client, or from the registry while a blob is on its way."""
    upstream_seconds: Annotated[float, Meta(gt=0, le=600)] = 30.0
    """For the registry's answer about a manifest. What it did not confirm keeps a tag closed three times as long."""
    lock_seconds: Annotated[float, Meta(gt=0, le=600)] = 20.0
    """How long a write waits for others of the same tag."""


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
    front: FrontSettings = FrontSettings()
    """The front before a plain registry: `pratique registry serve`."""
