"""The table [orchestrator.access]."""

from __future__ import annotations

from pratique.core.settings import Settings

__all__ = ["AccessSettings"]


class AccessSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who may come in, and how much each may ask."""
