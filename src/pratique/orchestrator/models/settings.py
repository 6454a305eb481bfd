"""The table [orchestrator.models]."""

from __future__ import annotations

from pratique.core.settings import Settings

__all__ = ["ModelsSettings"]


class ModelsSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Pools, and how one is chosen."""
