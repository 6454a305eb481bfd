"""Settings of the collectors of evidence."""

from __future__ import annotations

from typing import Annotated

import msgspec

from pratique.core.settings import Settings

__all__ = ["EvidenceSettings"]


class EvidenceSettings(Settings, frozen=True, kw_only=True):
    """How evidence is collected (`[release.evidence]`)."""

    syft_timeout_seconds: Annotated[float, msgspec.Meta(gt=0)] = 300.0
    """How long syft may take for one image."""
