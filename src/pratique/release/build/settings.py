"""Settings of builds."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from pratique.core.settings import Settings

__all__ = ["BuildSettings"]

_Positive = Annotated[float, msgspec.Meta(gt=0)]


class BuildSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How images are built (`[release.build]`)."""

    builder: Literal["buildah", "buildkit"] = "buildah"
    """The program that builds."""
    builder_id: str = "urn:pratique:builder:local"
    """A URI that names this machine or service in provenance; a policy trusts builders by it."""
    storage_driver: Literal["overlay", "vfs"] = "overlay"
    """Of buildah. The other one gives other digests; vfs works where overlay mounts are not allowed, and is slower."""
    network_stages: tuple[str, ...] = ("deps",)
    """The stages of the dependency step: the only ones with network."""
    downloads: str = "/wheels"
    """The folder in those stages whose files are recorded, and must be named by a lock."""
    test_stage: str = "test"
    """Built first; where it fails there is no image."""
    target: str = "runtime"
    """The stage that is shipped."""
    stage_timeout_seconds: _Positive = 1800.0
    """How long one stage may take."""
    transfer_timeout_seconds: _Positive = 600.0
    """How long a base may take to come, and an image to be pushed."""
