"""Settings of governed releases: one table `[release.ROOM]` for each room that has any."""

from __future__ import annotations

from pratique.core.settings import Settings
from pratique.release.build.settings import BuildSettings
from pratique.release.evidence.hygiene.settings import HygieneSettings

__all__ = ["ReleaseSettings"]


class ReleaseSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every room's settings."""

    build: BuildSettings = BuildSettings()
    """How images are built."""
    hygiene: HygieneSettings = HygieneSettings()
    """What images may carry."""
