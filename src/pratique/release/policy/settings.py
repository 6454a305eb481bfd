"""The settings of the gate: which policy it reads, and which it may read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

from pratique.core.settings import Settings

__all__ = ["PolicySettings"]


class PolicySettings(Settings, frozen=True, kw_only=True):
    """Where the policy is."""

    file: Path | None = None
    """The reviewed policy. [promotion.toml]"""
    digest: Annotated[str, msgspec.Meta(pattern=r"^sha256:[0-9a-f]{64}\Z")] | None = None
    """The SHA-256 of the policy that was reviewed; another is refused. None: whatever the file holds is the policy."""
