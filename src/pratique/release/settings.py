"""Settings of governed releases: one table `[release.ROOM]` for each room that has any."""

from __future__ import annotations

from pratique.core.settings import Settings
from pratique.release.policy.settings import PolicySettings
from pratique.release.registry.settings import RegistrySettings

__all__ = ["ReleaseSettings"]


class ReleaseSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every room's settings."""

    policy: PolicySettings = PolicySettings()
    """Which policy the gate reads."""
    registry: RegistrySettings = RegistrySettings()
    """How registries are asked, and the front before one."""
