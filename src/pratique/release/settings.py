"""The table [release]: one table in it for each room."""

from __future__ import annotations

from pratique.core.settings import Settings
from pratique.release.registry.settings import RegistrySettings
from pratique.release.signing.settings import SigningSettings

__all__ = ["ReleaseSettings"]


class ReleaseSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Governed releases."""

    registry: RegistrySettings = RegistrySettings()
    """How registries are asked."""
    signing: SigningSettings = SigningSettings()
    """Who signs here, and whose signatures are verified."""
