"""The table [orchestrator.lanes]."""

from __future__ import annotations

from pratique.core.settings import Settings

__all__ = ["LaneSettings"]


class LaneSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When work spills, where to, and when it comes back."""
