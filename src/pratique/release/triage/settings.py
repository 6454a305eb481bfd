"""The table [release.triage]: where the index lies, and whom the feed's watcher tells."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from msgspec import Meta

from pratique.core.settings import Settings

__all__ = ["TriageSettings"]

_Positive = Annotated[float, Meta(gt=0, le=86_400)]


class TriageSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where triage looks, and whom the watcher of a feed tells."""

    index: Path = Path("triage.db")
    """The SQLite file that `pratique inventory` fills. Relative: to the working folder."""
    feed_state: Path = Path("feed.db")
    """What `pratique feed watch` has seen and told."""
    webhook: str | None = None
    """Where alerts are posted as JSON. None: nowhere."""
    webhook_seconds: _Positive = 5.0
    """How long one try may take."""
    webhook_tries: Annotated[int, Meta(ge=1, le=10)] = 3
    """How often one round tries; what is not taken then is tried again in the next round."""
    poll_seconds: _Positive = 900.0
    """Between two rounds of the watcher."""
    fetch_seconds: _Positive = 120.0
    """How long fetching a feed may take."""
    max_feed_bytes: Annotated[int, Meta(ge=1)] = 4 * 1024**3
    """A feed that is larger is refused."""
