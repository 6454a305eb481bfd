"""The table [release.evaluation]: how long a server may take to answer a golden set, and how much it may say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

from pratique.core.settings import Settings

__all__ = ["EvaluationSettings"]

_Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]


class EvaluationSettings(Settings, frozen=True, kw_only=True):
    """How a golden set is put to a server (`[release.evaluation]`)."""

    connect_seconds: _Seconds = 5.0
    """How long the server may take to take a connection."""
    case_seconds: _Seconds = 120.0
    """How long the answer to one case may take, until it is whole."""
    total_seconds: _Seconds = 1800.0
    """How long all cases together may take."""
    concurrency: Annotated[int, msgspec.Meta(ge=1, le=64)] = 4
    """Cases that are asked at the same time."""
    max_response_bytes: Annotated[int, msgspec.Meta(ge=1024)] = 16 * 1024**2
    """An answer that is larger is refused."""
    regex_seconds: _Seconds = 2.0
    """How long the regular expressions of one case may search in its answer."""
    api_key_file: Path | None = None
    """Holds the key that the server asks for. None: it asks for none."""
