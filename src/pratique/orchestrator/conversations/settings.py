"""The table [orchestrator.store]."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from pratique.core.settings import Settings

__all__ = ["StoreSettings"]

_SECONDS_OF_A_DAY = 86_400.0


class StoreSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where conversations are kept, and for how long."""

    backend: Literal["auto", "memory", "sqlite", "dynamodb"] = "auto"
    """auto: the SQLite file of `database` or the state folder where there is one, else memory."""
    table: Annotated[str, Meta(pattern="^[a-zA-Z0-9_.-]{3,255}$")] = "pratique-conversations"
    """Of DynamoDB; so are the settings below."""
    region: str = ""
    """Empty: as AWS's own settings say (AWS_REGION, the profile)."""
    endpoint_url: str = ""
    """Empty: DynamoDB's own of the region."""
    dax_endpoint: str = ""
    """An endpoint that speaks DynamoDB's HTTP API, for the reads that may be a moment old: lists. Empty: none."""
    deadline_seconds: Annotated[float, Meta(gt=0, le=60)] = 10.0
    """Of one read or write, whichever the store, with all its requests and repetitions."""
    attempt_seconds: Annotated[float, Meta(gt=0, le=60)] = 2.0
    """Of one request to DynamoDB."""

    retention_days: Annotated[float, Meta(ge=0, le=36_500)] = 0.0
    """Conversations that did not change for so long are removed. 0: none are."""
    purge_seconds: Annotated[float, Meta(gt=0, le=86_400)] = 300.0
    """How often a replica looks for them (SQLite and memory; DynamoDB lets its items expire)."""

    @property
    def retention_seconds(self) -> float | None:
        """How long a conversation is kept after its last change; None: for ever."""
        return self.retention_days * _SECONDS_OF_A_DAY or None
