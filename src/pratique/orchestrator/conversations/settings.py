"""The table [orchestrator.store]."""

from __future__ import annotations

from pratique.core.settings import Settings

__all__ = ["StoreSettings"]


class StoreSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where conversations are kept, and for how long."""
