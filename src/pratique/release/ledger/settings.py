"""The table [release.ledger]: where what happened is kept, and who signs its heads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from pratique.core.settings import Settings

__all__ = ["LedgerSettings"]


class LedgerSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where what happened is kept. Its heads are signed, and verified, as [release.signing] says."""

    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,99}$")] = "releases"
    """The first entry is bound to it: one ledger cannot pass for another."""
    backend: Literal["sqlite", "dynamodb"] = "sqlite"
    """A file on this machine, or a table that several share."""
    file: Path | None = None
    """Of SQLite."""
    table: Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_.-]{3,255}$")] = "pratique-ledger"
    """Of DynamoDB; so are the two below."""
    region: str | None = None
    """AWS's region. Unset: as AWS's tools find it."""
    endpoint_url: str | None = None
    """Where DynamoDB answers, if it is not AWS's own."""
    witness: Path | None = None
    """The last head is kept in this file too, on another disk: it shows where all of the ledger was put back."""
    signer_issuer: str = ""
    """Who vouches for the identity that signs heads, where it is no key."""
    signer_subject: str = ""
    """The name of that identity."""
    busy_seconds: Annotated[float, Meta(gt=0, le=600)] = 60.0
    """How long an append waits for others, their signatures included."""
