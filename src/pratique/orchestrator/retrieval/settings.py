"""The table [orchestrator.retrieval]."""

from __future__ import annotations

from pratique.core.settings import Settings

__all__ = ["RetrievalSettings"]


class RetrievalSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where passages come from, and how many."""
