"""The table [orchestrator.downstream]."""

from __future__ import annotations

from pratique.core.settings import Settings

__all__ = ["DownstreamSettings"]


class DownstreamSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Time-outs, retries, breakers."""
