"""Settings of the advisory database."""

from __future__ import annotations

from pathlib import Path

from pratique.core.settings import Settings

__all__ = ["AdvisoriesSettings"]


class AdvisoriesSettings(Settings, frozen=True, kw_only=True):
    """Where known vulnerabilities are looked up (`[release.advisories]`)."""

    database: Path = Path("advisories.db")
    """The file that `pratique advisories import` writes. Relative: to the working folder."""
